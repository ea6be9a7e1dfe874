"""Standard networks for small images, and loading of any network a user names."""

from automl.zoo.loading import load_model, load_weights
from automl.zoo.registry import create, names

__all__ = ["create", "load_model", "load_weights", "names"]
