"""What is to be solved: a network with its data, metrics and objectives."""
