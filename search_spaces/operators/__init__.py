"""What can be done to a network to make it smaller, a file each: knobs, price, step, structure."""
