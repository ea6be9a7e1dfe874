"""Blocks that architectures are made of: what each is made of, what it costs, and the module."""
