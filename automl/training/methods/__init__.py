"""Training methods, a file each: what is done to gradients between the backward pass and the step."""
