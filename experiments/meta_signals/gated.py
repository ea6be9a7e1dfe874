"""What of a learnt start a digit changes: everything, as many numbers as gates open, or the largest updates.

`python -m experiments.meta_signals.gated --data-root DIR --steps 500`. MNIST of 14 x 14. From a whole start (MAML): all
numbers are changed, or those with the largest updates after the inner loop, which are then fitted alone. From a gated
start, those that its gates open most. Every arm fits the same numbers of test digits by as many further steps of Adam,
and is stored in a file by the same steps of the grid: bytes are those of whole files, PSNR that of decoded ones.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from automl.signals.fitting import fit
from automl.signals.from_start import Held, adapted
from automl.signals.gated_updates import GatedUpdates
from automl.signals.inr_file import layout_of, tensors_of
from automl.signals.inr_reader import drawn, network_of
from automl.signals.learnt_start import WholeStart, before_learning
from automl.signals.meta import MetaOptions, learn
from automl.signals.quantizing import Grid, file_of
from automl.signals.signal import Signal, coordinates, psnr
from automl.signals.siren import Siren
from automl.signals.start_file import Shape, Start, content
from experiments.meta_signals.digits import arguments, digits, keep

SIDE, SHAPE = 14, Shape(2, 1, 32, 3, 30.0)
OPTIONS = MetaOptions(3, 1e-2, 1, 1e-3, batch=4, learn_rates=True)
STEPS, RATE, STEP = 30, 1e-3, 96
"""Of the further fit by Adam, and the byte of the grid's step (2^-9, see `step_of`)."""
DENSITIES = (0.1, 0.25)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--densities", type=float, nargs="+", default=DENSITIES)
    args = parser.parse_args()
    seen, held = digits(args.data_root, SIDE, held=24)
    signals = [Signal(digit.reshape(SIDE, SIDE, 1).numpy(), "image") for digit in held]
    for seed in args.seeds:
        whole = learnt(None, args.steps, seed, seen)
        keep({"what": "gated", "arm": "all", "seed": seed, "density": 1.0, **judged(whole, signals, None)})
        for density in args.densities:
            row = judged(whole, signals, density)
            keep({"what": "gated", "arm": "largest updates", "seed": seed, "density": density, **row})
            row = judged(learnt(density, args.steps, seed, seen), signals, None)
            keep({"what": "gated", "arm": "gates", "seed": seed, "density": density, **row})


def learnt(density: float | None, steps: int, seed: int, seen: Tensor) -> Start:
    """A start that is adapted in every number, or where gates open."""
    torch.manual_seed(seed)
    network, points = SHAPE.network(), coordinates((SIDE, SIDE))
    options = MetaOptions(**{**vars(OPTIONS), "outer_steps": steps, "seed": seed})
    if density is None:
        found = learn(WholeStart(network), before_learning(network), points, seen, options)
        return Start("whole", SHAPE, found.shared, found.rates)
    form = GatedUpdates(network, density)
    found = learn(form, form.first(), points, seen, options)
    return Start("gated", SHAPE, found.shared, found.rates, density=density)


def judged(start: Start, signals: list[Signal], largest: float | None) -> dict[str, object]:
    """Means over digits: PSNR after the inner loop and from the file, its bytes, the numbers changed, the time."""
    shared, rows, began = content(start), [], time.process_time()
    for signal in signals:
        network, masks = adapted(signal, start)
        if largest is not None:
            masks = keep_largest(network, start, largest)
        inner = psnr(outputs(network, signal), signal.values)
        fit(network, signal, STEPS, RATE, methods=[Held(masks)] if masks else [])
        first = tensors_of(start.network())
        layout = layout_of(network, signal, start=shared)
        file = file_of(network, layout, Grid(bytes([STEP] * len(first)), tuple(first)))
        back = network_of(file, shared)
        changed = sum(int((a != b.numpy()).sum()) for a, b in zip(back.tensors, first, strict=True))
        rows.append((inner, psnr(drawn(back), signal.values), len(file), changed))
    means = np.mean(rows, 0).tolist()
    seconds = (time.process_time() - began) / len(signals)
    return {**dict(zip(("psnr_inner", "psnr", "bytes", "changed"), means, strict=True)), "cpu_s": seconds}


def keep_largest(network: Siren, start: Start, density: float) -> dict[str, Tensor]:
    """Undo all but the largest updates of the inner loop; where those are, by name."""
    named = dict(network.named_parameters())
    sizes = torch.cat([(p.detach() - start.shared[name]).abs().reshape(-1) for name, p in named.items()])
    least = sizes.topk(round(density * len(sizes))).values[-1]
    masks = {name: (p.detach() - start.shared[name]).abs() >= least for name, p in named.items()}
    network.load_state_dict({n: torch.where(masks[n], p.detach(), start.shared[n]) for n, p in named.items()})
    return masks


@torch.no_grad()
def outputs(network: Siren, signal: Signal) -> Tensor:
    return network(coordinates(signal.shape)).clamp(0, 1).reshape(signal.values.shape)


if __name__ == "__main__":
    main()
