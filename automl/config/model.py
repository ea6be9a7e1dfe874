"""What is compressed, and on which data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from automl.errors import ConfigError

IN_MEMORY = "in memory"
"""The name of a model or data set that was handed over in Python and cannot be loaded again by name."""

FROM_NOTHING = "from nothing"
"""The name of the model where none is given: the networks of a space of cells are made."""

EXPORTED = "exported"
"""The name of a model that was made from nothing by another study, and exported to the folder `weights`."""


@dataclass(frozen=True)
class ModelConfig:
    """The network: a built-in name, one of a hub, or `module:function`, and its weights."""

    name: str
    """One that is built in; `exported`, what was designed and exported to the folder `weights`; `timm:NAME`,
    `torchvision:NAME` or `transformers:CLASS`, where that package is installed; or `module:function` of your own,
    looked for beside the study file."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the function that makes the network: yours, `timm.create_model`,
    `torchvision.models.get_model`; of transformers values of the configuration. `pretrained: true` downloads weights;
    for transformers it is an ID, or a folder relative to the study file."""
    weights: str | None = None
    """A safetensors file, or of `exported` the folder, relative to the study file."""

    def __post_init__(self) -> None:
        if self.name == EXPORTED and self.weights is None:
            raise ConfigError("an exported model needs weights, the folder that it was exported to")


@dataclass(frozen=True)
class DataConfig:
    """The data: a built-in name, or `module:function` that returns batches."""

    name: str
    """One that is built in; `folder`, a folder with a folder of images for each class; `arrays`, an .npz file with
    `x_train`, `y_train` and perhaps `x_test`, `y_test` (uint8 images, rows of a table [n, columns], or signals [n,
    channels, length]); `table`, a CSV file; or `module:function` of your own, which returns batches."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the function, for `module:function` only. If it has an argument `preprocessing`, it is given
    how the model's hub makes inputs (`automl.zoo.Preprocessing`), or None."""
    root: str | None = None
    """The folder that holds the published files, or the images of your own, or the .npz or CSV file; relative to the
    study file. Of `folder` it has CLASS folders, or train/CLASS and test/CLASS."""
    target: str | None = None
    """Of `table`: the column to predict. Texts and few whole numbers are classes, unless the task is `regression`. The
    others are inputs, texts among them a column for each. A sixth of the rows is held out for the test."""
    validation_size: int | None = None
    """Images held out of training on which trials are judged; None: 1,000; of your own, and in a space of cells,
    a sixth of them, at most 5,000."""
    image_size: int | None = None
    """Side in pixels of the square that images of `folder` are brought to; None: they are of one size."""
    calibration_size: int = 512
    """Images that scores, reconstruction and recalibration may use."""
    batch_size: int = 250
    """Of an evaluation; a training has its own."""
    split_seed: int = 0
    """Which images are held out, and which serve for calibration."""
    augment: bool = True
    """Whether training images are moved and mirrored, as far as suits the data set."""
    cutout: int | None = None
    """Side of the square that is blanked in each training image, in pixels; none by default."""
    preprocessing: Literal["data", "model"] = "data"
    """Whose mean, standard deviation and size the images of a built-in set get: those usual for the data, or those that
    the model's hub has for it."""

    def __post_init__(self) -> None:
        for name in ("validation_size", "calibration_size", "batch_size", "cutout", "image_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if self.image_size is not None and self.name != "folder":
            raise ConfigError(f"image_size is of images in a folder, and {self.name!r} has a size: leave it out")
        if (self.name == "table") != (self.target is not None):
            raise ConfigError(
                "a target is the column of a table that is predicted: name it for data `table`, and leave it out of "
                "others"
            )
        if self.options and ":" not in self.name:
            raise ConfigError(f"options belong to data named as module:function, got the built-in {self.name!r}")
        if self.preprocessing == "model" and ":" in self.name:
            raise ConfigError(
                f"preprocessing: model belongs to built-in data, got {self.name!r}: give that function an argument "
                f"`preprocessing` instead"
            )
