"""A whole scene through an exported network: streamed in bounded memory, judged, and sent down as few bytes.

    python -m experiments.satellite.scene draw SCENE --side 8000                 # SCENE.npy and SCENE.buildings.npy
    python -m experiments.satellite.scene free NETWORK.onnx FREE.onnx            # for tiles of any size
    python -m experiments.satellite.scene run SCENE FREE.onnx    MASK.npy        # in a process of its own: time, memory
    python -m experiments.satellite.scene judge SCENE MASK.npy                   # mIoU, F1, bytes of the answer
    python -m experiments.satellite.scene picture SCENE FREE.onnx MASK.npy       # bytes of the picture at equal F1

Each prints one line of JSON. What the picture is worth on the ground is found on every eighth block: the lowest quality
of JPEG at which the network still finds buildings as well in what was decoded.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from PIL import Image

import automl
from automl.export.tiled import Predict
from experiments.satellite import answers
from experiments.satellite.ground import BLOCK, block
from experiments.satellite.judged import Judged, judged

SEED = 11
LOSS = 0.01
"""By how much F1 on the ground may be below that on board."""
TILE, MARGIN, MULTIPLE = 512, 48, 8
"""The U-Net sees 46 pixels to each side, and halves three times."""
STRIP = 4 * BLOCK
QUALITIES = (1, 2, 3, 5, 8, 12, 18, 25, 35, 50, 65, 80, 90, 95)
EVERY = 8


def draw(scene: str, side: int) -> dict[str, Any]:
    """Write a scene of blocks, [3, side, side] uint8, and the numbers of the buildings of each block."""
    picture = np.lib.format.open_memmap(f"{scene}.npy", "w+", np.uint8, (3, side, side))
    truth = np.lib.format.open_memmap(f"{scene}.buildings.npy", "w+", np.uint8, (side, side))
    for at in _blocks(side):
        ground = block([SEED, at[0].start, at[1].start])
        rows, columns = (part.stop - part.start for part in at)
        picture[:, *at] = ground.picture[:rows, :columns].transpose(2, 0, 1)
        truth[at] = ground.buildings[:rows, :columns]
    return {"side": side, "buildings": float((truth[:] > 0).mean())}


def free(network: str, out: str) -> dict[str, Any]:
    """Write an exported file again that takes tiles of any size: of a network of convolutions the size is a label."""
    model = onnx.load(network)
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in ((2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(model, out)
    return {"nodes": sorted({node.op_type for node in model.graph.node})}


def run(scene: str, network: str, mask: str, tile: int = TILE) -> dict[str, Any]:
    """Find the buildings of a scene; the time it takes and the most memory that this process had."""
    picture = np.load(f"{scene}.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(mask, "w+", bool, picture.shape[1:])
    own = [_own_mb()]

    def told(scores: np.ndarray) -> np.ndarray:
        own.append(_own_mb())
        return is_building(scores)

    start, processor = time.perf_counter(), time.process_time()
    find(network, picture, tile=tile, out=out, after=told)
    return {
        "network": network,
        "tile": tile,
        "wall_s": time.perf_counter() - start,
        "processor_s": time.process_time() - processor,
        "own_mb": max(own),
        "before_mb": own[0],
        "resident_mb": _peak_mb(),
        "scene_mb": picture.nbytes / 1e6,
    }


def judge(scene: str, mask: str) -> dict[str, Any]:
    """How good a mask is, and what it takes as runs and as polygons; what is left of it in polygons."""
    truth, found = (np.load(path, mmap_mode="r") for path in (f"{scene}.buildings.npy", mask))
    side, sums, outlined = len(truth), Judged(), Judged()
    counted = {"runs_bytes": 0, "polygons_bytes": 0}
    for start in range(0, side, STRIP):
        rows = slice(start, min(start + STRIP, side))
        strip, numbers = np.asarray(found[rows]), np.asarray(truth[rows])
        sent = answers.polygons(strip)
        counted["runs_bytes"] += len(answers.runs(strip))
        counted["polygons_bytes"] += len(sent)
        drawn = answers.mask_of_polygons(sent, strip.shape)
        sums += _of_blocks(strip, numbers)
        outlined += _of_blocks(drawn, numbers)
    buildings = sums.found + sums.missed
    told = {"miou": sums.miou, "f1": sums.f1, "polygons_miou": outlined.miou, "polygons_f1": outlined.f1}
    return {**told, **counted, "buildings": buildings}


def picture(scene: str, network: str, mask: str, every: int = EVERY) -> dict[str, Any]:
    """What the picture takes as PNG, and as JPEG of the lowest quality at which the ground finds as many buildings.

    On the ground the same network looks for them, in what was decoded, and may be `LOSS` worse than it was on board.
    """
    pixels, truth, found = (np.load(path, mmap_mode="r") for path in (f"{scene}.npy", f"{scene}.buildings.npy", mask))
    sample = [at for place, at in enumerate(_blocks(pixels.shape[1])) if place % every == every // 2]

    def worth(seen: Callable[[tuple[slice, slice]], np.ndarray]) -> float:
        return sum((judged(seen(at), np.asarray(truth[at])) for at in sample), Judged()).f1

    on_board = worth(lambda at: np.asarray(found[at]))
    tried: dict[int, float] = {}
    low, high = 0, len(QUALITIES) - 1
    while low < high:
        middle = (low + high) // 2
        quality = QUALITIES[middle]
        tried[quality] = worth(lambda at, q=quality: find(network, _decoded(_jpeg(pixels[:, *at], q))))
        low, high = (low, middle) if tried[quality] >= on_board - LOSS else (middle + 1, high)
    quality = QUALITIES[low]
    told = picture_bytes(scene, quality)
    return {"f1_on_board": on_board, "f1_by_quality": tried, "quality": quality, **told}


def picture_bytes(scene: str, quality: int) -> dict[str, int]:
    """What a scene takes as files of strips: `jpeg` of a quality, and `png`."""
    pixels = np.load(f"{scene}.npy", mmap_mode="r")
    strips = [pixels[:, start : start + BLOCK] for start in range(0, pixels.shape[1], BLOCK)]
    return {
        "jpeg": sum(len(_jpeg(strip, quality)) for strip in strips),
        "png": sum(len(_written(strip, "PNG")) for strip in strips),
    }


def find(network: str, picture: np.ndarray, tile: int = TILE, out: Any = None, after: Predict | None = None) -> Any:
    """Where an exported network sees buildings in a picture [3, h, w] uint8: [h, w] bool."""
    return automl.tiled(
        network,
        picture,
        tile=tile,
        margin=MARGIN,
        multiple=MULTIPLE,
        before=scaled,
        after=after or is_building,
        out=out,
    )


def scaled(tiles: np.ndarray) -> np.ndarray:
    """Pixels as the network reads them, from -1 to 1."""
    return tiles.astype(np.float32) / 127.5 - 1


def is_building(scores: np.ndarray) -> np.ndarray:
    """Scores [n, 2, h, w] -> whether that of a building is higher: [n, h, w] bool."""
    return scores[:, 1] > scores[:, 0]


def _blocks(side: int) -> Iterator[tuple[slice, slice]]:
    for row in range(0, side, BLOCK):
        for column in range(0, side, BLOCK):
            yield slice(row, min(row + BLOCK, side)), slice(column, min(column + BLOCK, side))


def _of_blocks(mask: np.ndarray, numbers: np.ndarray) -> Judged:
    sums = Judged()
    for row in range(0, mask.shape[0], BLOCK):
        for column in range(0, mask.shape[1], BLOCK):
            at = slice(row, row + BLOCK), slice(column, column + BLOCK)
            sums += judged(mask[at], numbers[at])
    return sums


def _jpeg(pixels: np.ndarray, quality: int) -> bytes:
    return _written(pixels, "JPEG", quality=quality, optimize=True)


def _written(pixels: np.ndarray, form: str, **options: Any) -> bytes:
    """A picture file of pixels [3, h, w]."""
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(content, form, **options)
    return content.getvalue()


def _decoded(content: bytes) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(Image.open(io.BytesIO(content))).transpose(2, 0, 1))


def _own_mb() -> float:
    """The memory of this process in MB but for mapped files, of which the system holds what it likes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024 / 1e6


def _peak_mb() -> float:
    """The most memory that this process had, mapped files included, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    """Do one step, and print what it came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(required=True)

    def step(function: Callable[..., dict[str, Any]], *names: str, **options: type) -> None:
        part = steps.add_parser(function.__name__)
        for name in names:
            part.add_argument(name)
        for name, kind in options.items():
            part.add_argument(f"--{name}", type=kind, default=argparse.SUPPRESS)
        part.set_defaults(function=function)

    step(draw, "scene", side=int)
    step(free, "network", "out")
    step(run, "scene", "network", "mask", tile=int)
    step(judge, "scene", "mask")
    step(picture, "scene", "network", "mask", every=int)
    given = vars(parser.parse_args(arguments))
    print(json.dumps(given.pop("function")(**given)))


if __name__ == "__main__":
    main()
