"""A start learnt from a folder of signals, of any form: `automl.learn_start`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from automl.errors import ConfigError, DataError
from automl.signals.gated_updates import GatedUpdates
from automl.signals.latents import learn_latents, patches_of
from automl.signals.learnt_start import WholeStart, before_learning
from automl.signals.meta import Learnt, MetaOptions, learn
from automl.signals.meta_pruning import PART, learn_sparse_start
from automl.signals.signal import Signal, coordinates
from automl.signals.signal_files import read_signal
from automl.signals.start_file import FORMS, SUFFIX, FormName, Shape, Start, save_start
from automl.types import Say, silent

OPTIONS: dict[FormName, MetaOptions] = {
    "whole": MetaOptions(outer_rate=1e-3, batch=4, learn_rates=True),
    "sparse": MetaOptions(inner_steps=2, outer_rate=1e-3, batch=4),
    "gated": MetaOptions(outer_rate=1e-3, batch=4, learn_rates=True),
    "latent": MetaOptions(inner_rate=0.1, outer_rate=1e-3, batch=4, learn_rates=True),
}
"""How each form is learnt where nothing else is said: by three inner steps, sparse ones by two, as in the papers. Rates
of the inner steps are learnt (Meta-SGD) but for sparse ones. COIN++ has one rate for its latents: with it 450 outer
steps on CIFAR-10 came 0.2 dB less far."""
FEWEST = 2
"""Signals or patches to learn from."""
LINES = 10
"""So often `say` is told of the loss."""


def learn_start(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    form: FormName = "whole",
    patch: int | None = None,
    width: int = 32,
    depth: int = 3,
    w0: float = 30.0,
    steps: int = 2000,
    latent: int = 32,
    bits: int = 5,
    inner_steps: int | None = None,
    rounds: int = 7,
    density: float = 0.25,
    axes: int | None = None,
    seed: int = 0,
    say: Say = silent,
) -> Start:
    """Learn from the signals in a folder what `automl.encode` begins with, so that a new signal takes less.

    `form`: `whole`, a start that is adapted in every number (MAML with learnt rates); `sparse`, one with a fifth of its
    weights fewer after each of `rounds` (Meta-SparseINR); `gated`, one of whose numbers a signal changes the part
    `density`; `latent`, a network with a latent of `latent` numbers of `bits` for each signal (COIN++). `patch`: the
    side of the pieces that signals are cut into; None: they are learnt from whole, and are of one shape. `width`,
    `depth` and `w0`: of the network; `steps`: outer ones in all; `inner_steps`: those that fit one signal, None for
    three (`sparse`: two). `axes`: of arrays, as in `automl.encode`. `out`: the file to write.
    Errors: `DataError`, `ConfigError`, `NotFiniteError`.
    """
    if form not in FORMS:
        raise ConfigError(f"expected a form of {', '.join(FORMS)}, got {form!r}")
    inner_steps = OPTIONS[form].inner_steps if inner_steps is None else inner_steps
    counts = {"width": width, "depth": depth, "steps": steps, "latent": latent, "inner steps": inner_steps}
    if not 0 < density <= 1 or not 1 <= bits <= 8 or min(counts.values()) < 1 or rounds < 0:
        raise ConfigError(
            f"expected a density in (0, 1], 1 to 8 bits, and counts of at least 1, got density {density}, bits {bits}, "
            + ", ".join(f"{name} {count}" for name, count in {**counts, "rounds": rounds}.items())
        )
    values, sides = training_set(Path(folder), patch, axes)
    say(f"{len(values)} signals of {' x '.join(map(str, sides))} points")
    shape = Shape(len(sides), values.shape[2], width, depth, w0)
    options = replace(OPTIONS[form], outer_steps=steps, inner_steps=inner_steps, seed=seed)
    seen = _telling(say, steps)
    if form == "latent":
        start = learn_latents(values, sides, shape, latent, bits, options, seen=seen)
    else:
        start = _differed_from(form, values, sides, shape, options, rounds, density, seen, say)
    if out is not None:
        if Path(out).suffix != SUFFIX:
            raise ConfigError(f"expected a file name with {SUFFIX}, got {Path(out).name}")
        name = save_start(start, Path(out))
        say(f"{out}: {Path(out).stat().st_size:,} bytes, SHA-256 {name[:16]}...")
    return start


def training_set(folder: Path, patch: int | None, axes: int | None = None) -> tuple[Tensor, tuple[int, ...]]:
    """The signals in a folder, or the whole pieces of them, [n, points, channels], and the lengths of their axes.

    `patch`: the side of the pieces, or None. Files that begin with a dot are passed over. Errors: `DataError`.
    """
    if not folder.is_dir():
        raise DataError(f"expected a folder of pictures, sounds or arrays, and there is none at {folder}")
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    signals = [read_signal(path, axes) for path in paths]
    shapes = {(signal.shape if patch is None else signal.shape[:0], signal.channels) for signal in signals}
    if len(shapes) > 1 or len({len(signal.shape) for signal in signals}) > 1:
        told = ", ".join(sorted({" x ".join(map(str, signal.values.shape)) for signal in signals})[:4])
        raise DataError(
            f"expected signals of one shape in {folder}, got {told}. Cut them into pieces of one side (--patch 32), "
            f"and give pictures of one kind: all in colour, or none"
        )
    if not signals:
        raise DataError(f"expected pictures, sounds or arrays in {folder}, got none")
    sides = signals[0].shape if patch is None else (patch,) * len(signals[0].shape)
    found = [patches_of(cut, sides) for signal in signals if (cut := _whole_pieces(signal, sides)) is not None]
    if sum(map(len, found)) < FEWEST:
        raise DataError(f"expected at least {FEWEST} signals or pieces of side {patch} in {folder}, got fewer")
    return torch.cat(found), sides


def _whole_pieces(signal: Signal, sides: tuple[int, ...]) -> Signal | None:
    """The signal up to where its last whole piece ends; None if it has none."""
    ends = [length // side * side for length, side in zip(signal.shape, sides, strict=True)]
    if not all(ends):
        return None
    return replace(signal, values=signal.values[tuple(slice(end) for end in ends)])


def _differed_from(
    form: FormName,
    values: Tensor,
    sides: tuple[int, ...],
    shape: Shape,
    options: MetaOptions,
    rounds: int,
    density: float,
    seen: Callable[[int, float, Learnt], None],
    say: Say,
) -> Start:
    """A start of form `whole`, `sparse` or `gated`."""
    torch.manual_seed(options.seed)
    network, points = shape.network(), coordinates(sides)
    if form == "whole":
        learnt = learn(WholeStart(network), before_learning(network), points, values, options, seen=seen)
        return Start(form, shape, learnt.shared, learnt.rates, patch=sides)
    if form == "gated":
        gates = GatedUpdates(network, density)
        learnt = learn(gates, gates.first(), points, values, options, seen=seen)
        return Start(form, shape, learnt.shared, learnt.rates, patch=sides, density=density)

    def told(done: int, learnt: Learnt, masks: dict[str, Tensor]) -> None:
        say(f"{100 * (1 - PART) ** done:.0f} % of the weights: {learnt.losses[-1]:.5f} of error")

    each = replace(options, outer_steps=max(options.outer_steps // (rounds + 1), 1))
    learnt, masks = learn_sparse_start(network, points, values, each, rounds, told=told)
    return Start(form, shape, learnt.shared, learnt.rates, masks, patch=sides)


def _telling(say: Say, steps: int) -> Callable[[int, float, Learnt], None]:
    every = max(steps // LINES, 1)

    def seen(step: int, loss: float, learnt: Learnt) -> None:
        if (step + 1) % every == 0:
            say(f"step {step + 1}: {sum(learnt.losses[-every:]) / every:.5f} of error")

    return seen
