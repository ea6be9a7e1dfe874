"""The winner as files that deploy, each reloaded and compared with the network before it counts as written."""

from automl.export.bundle import Artifact, export, load
from automl.export.formats import FORMATS, Format
from automl.export.packed import unpack

__all__ = ["FORMATS", "Artifact", "Format", "export", "load", "unpack"]
