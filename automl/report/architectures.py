"""An architecture for people: its stages, a row each."""

from __future__ import annotations

from automl.util.columns import align
from search_spaces import Architecture, Stage


def drawn_up(architecture: Architecture) -> str:
    """Stem, stages and head as a table."""
    frame = architecture.frame
    dims, layer = len(frame.size), "convolution" if frame.size else "linear"
    said = [
        *([_kernel(frame.stem_kernel, dims)] if dims else []),
        *([f"stride {frame.stem_stride}"] if frame.stem_stride > 1 else []),
        *(["max pool"] if frame.stem_pool else []),
    ]
    size = "x".join(map(str, frame.size))
    standard = ["standardised"] if frame.standardized else []
    rows = [
        ["part", "blocks", "channels", ""],
        [("row", "signal", "image")[dims], "", str(frame.channels), ", ".join([*([size] if dims else []), *standard])],
        ["stem", f"1 {layer}", str(architecture.stem_width), ", ".join(said)],
    ]
    for i, stage in enumerate(architecture.stages):
        rows.append([f"stage {i + 1}", f"{stage.depth} {stage.kind}", str(stage.width), _particulars(stage, dims)])
    told = [*(["after the mean over the map"] if dims else []), *(["in their own unit"] if frame.numbers else [])]
    rows.append(["numbers" if frame.numbers else "classes", "1 linear", str(frame.classes), ", ".join(told)])
    return align(rows, left=(0, 1, 3))


def _kernel(side: int, dims: int) -> str:
    return "x".join([str(side)] * dims)


def _particulars(stage: Stage, dims: int) -> str:
    """What a stage's blocks are besides."""
    said = [_kernel(stage.kernel, dims)] if dims else []
    if stage.reduce != "none":
        said.append("stride 2" if stage.reduce == "stride" else f"{stage.reduce} pool")
    if stage.kind == "mobile":
        said.append(f"expanded {stage.expand} times")
    if stage.excite:
        said.append("squeeze and excitation")
    if stage.activation != "relu":
        said.append(stage.activation)
    if stage.dropout:
        said.append(f"dropout {stage.dropout:g}")
    if stage.norm == "none":
        said.append("without norms")
    return ", ".join(said)
