"""Weights shared by the networks of a space of cells: how they are trained, kept, and networks judged with them."""
