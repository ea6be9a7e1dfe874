"""How tensors are stored in a packed file, and how many bytes that takes before it is written."""
