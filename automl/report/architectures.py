"""An architecture for people: its stages, a row each."""

from __future__ import annotations

from automl.util.columns import align
from search_spaces import Architecture, Stage


def drawn_up(architecture: Architecture) -> str:
    """Stem, stages and head as a table."""
    frame = architecture.frame
    height, width = frame.size
    stem = f"{frame.stem_kernel}x{frame.stem_kernel}" + (
        f", stride {frame.stem_stride}" if frame.stem_stride > 1 else ""
    )
    rows = [
        ["part", "blocks", "channels", ""],
        ["image", "", str(frame.channels), f"{height}x{width}"],
        ["stem", "1 convolution", str(architecture.stem_width), stem],
    ]
    for i, stage in enumerate(architecture.stages):
        rows.append([f"stage {i + 1}", f"{stage.depth} {stage.kind}", str(stage.width), _particulars(stage)])
    rows.append(["classes", "1 linear", str(frame.classes), "after the mean over the map"])
    return align(rows, left=(0, 1, 3))


def _particulars(stage: Stage) -> str:
    """What a stage's blocks are besides."""
    said = [f"{stage.kernel}x{stage.kernel}"]
    if stage.reduce != "none":
        said.append("stride 2" if stage.reduce == "stride" else f"{stage.reduce} pool")
    if stage.kind == "mobile":
        said.append(f"expanded {stage.expand} times")
    if stage.excite:
        said.append("squeeze and excitation")
    if stage.activation != "relu":
        said.append(stage.activation)
    return ", ".join(said)
