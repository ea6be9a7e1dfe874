"""Signals as networks: an image, a sound or an array stored as the weights of a small network that draws it."""
