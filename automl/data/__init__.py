"""Image data sets in their published file formats, split so that the test images stay untouched."""

from automl.data.images import ImageSet
from automl.data.sources import names
from automl.data.splits import Splits, load

__all__ = ["ImageSet", "Splits", "load", "names"]
