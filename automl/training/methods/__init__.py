"""Training methods, a file each: what a training does beside following a gradient."""
