"""Published networks as architectures: what a space of cells is checked against, and where a search may begin."""

from __future__ import annotations

from collections.abc import Callable

from search_spaces.cells.architecture import Architecture, Frame, Stage

IMAGENET = {"size": (224, 224), "classes": 1000}


def squeezenet(version: str = "1.0") -> Architecture:
    """SqueezeNet 1.0 (Iandola et al. 2016, arXiv 1602.07360, table 1) or 1.1, as torchvision has them."""
    kernel, width = (7, 96) if version == "1.0" else (3, 64)
    frame = Frame(**IMAGENET, stem_kernel=kernel, stem_stride=2, head="convolution", norm=False, padded=False)  # type: ignore[arg-type]
    rows = (
        ((128, 2, "max"), (256, 1, "none"), (256, 1, "max"), (384, 2, "none"), (512, 1, "none"), (512, 1, "max"))
        if version == "1.0"
        else ((128, 2, "max"), (256, 2, "max"), (384, 2, "max"), (512, 2, "none"))
    )
    return Architecture(frame, width, tuple(Stage("fire", width, depth, pool) for width, depth, pool in rows))


def mobilenet_v1() -> Architecture:
    """MobileNet (Howard et al. 2017, arXiv 1704.04861, table 1)."""
    frame = Frame(**IMAGENET, stem_stride=2)  # type: ignore[arg-type]
    rows = ((64, 1, "none"), (128, 2, "stride"), (256, 2, "stride"), (512, 6, "stride"), (1024, 2, "stride"))
    return Architecture(frame, 32, tuple(Stage("separable", width, depth, by) for width, depth, by in rows))


def mobilenet_v2() -> Architecture:
    """MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381, table 2)."""
    frame = Frame(**IMAGENET, stem_stride=2, activation="relu6", head_width=1280)  # type: ignore[arg-type]
    rows = (
        (16, 1, "none", 1),
        (24, 2, "stride", 6),
        (32, 3, "stride", 6),
        (64, 4, "stride", 6),
        (96, 3, "none", 6),
        (160, 3, "stride", 6),
        (320, 1, "none", 6),
    )
    stages = (Stage("mobile", width, depth, by, expand=expand, activation="relu6") for width, depth, by, expand in rows)
    return Architecture(frame, 32, tuple(stages))


def shufflenet_v1() -> Architecture:
    """ShuffleNet 1x with three groups (Zhang et al. 2018, arXiv 1707.01083, table 1)."""
    frame = Frame(**IMAGENET, stem_stride=2, stem_pool=True)  # type: ignore[arg-type]
    rows = ((240, 4), (480, 8), (960, 4))
    stages = [Stage("shuffle", width, depth, "stride", groups=3) for width, depth in rows]
    return Architecture(frame, 24, tuple(stages))


def network_in_network() -> Architecture:
    """NIN for CIFAR-10 (Lin et al. 2014, arXiv 1312.4400), as its authors released it."""
    frame = Frame(stem_kernel=5, head="convolution", norm=False, padded=False)
    stages = (
        Stage("plain", 160, kernel=1),
        Stage("plain", 96, kernel=1),
        Stage("nin", 192, reduce="max", kernel=5),
        Stage("plain", 192, reduce="average"),
        Stage("plain", 192, kernel=1),
    )
    return Architecture(frame, 192, stages)


def resnet18() -> Architecture:
    """ResNet-18 (He et al. 2016, arXiv 1512.03385, table 1)."""
    frame = Frame(**IMAGENET, stem_kernel=7, stem_stride=2, stem_pool=True)  # type: ignore[arg-type]
    rows = ((64, "none"), (128, "stride"), (256, "stride"), (512, "stride"))
    return Architecture(frame, 64, tuple(Stage("residual", width, 2, by) for width, by in rows))


def resnet_cifar(blocks: int = 3) -> Architecture:
    """ResNet-20 for CIFAR-10 with 3 blocks a stage, -56 with 9: shortcuts without parameters (section 4.2)."""
    rows = ((16, "none"), (32, "stride"), (64, "stride"))
    return Architecture(Frame(projected=False), 16, tuple(Stage("residual", w, blocks, by) for w, by in rows))


REFERENCES: dict[str, Callable[[], Architecture]] = {
    "squeezenet1_0": squeezenet,
    "squeezenet1_1": lambda: squeezenet("1.1"),
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "shufflenet_v1": shufflenet_v1,
    "nin": network_in_network,
    "resnet18": resnet18,
    "resnet20": resnet_cifar,
}
