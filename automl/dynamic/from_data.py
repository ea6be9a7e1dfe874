"""`slim` and `exits`: a network and data in, a trained network of many sizes out, with what each size is worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from automl.config.parse import Source, convert
from automl.config.training import TrainingOptions
from automl.dynamic.multi_exit import ExitsLoss, MultiExit, multi_exit
from automl.dynamic.sized_folder import write_folder
from automl.dynamic.slimmable import Norms, Slimmable, slimmable
from automl.dynamic.thresholds import Answers, Outcome, Rule, answers, chosen_by, curve, dominated, fixed, outcome
from automl.dynamic.width_loss import WidthLoss
from automl.errors import ConfigError
from automl.export.bundle import Artifact
from automl.measures.counts import count_macs, count_params
from automl.tasks.problem import Problem
from automl.tasks.scores import measure_metrics
from automl.training.loss import smoothed
from automl.training.methods.base import Method
from automl.training.trainer import train
from automl.types import Measurement, Say, silent


@dataclass(frozen=True)
class Widths:
    """How a network is made slimmable; as the arguments of `slim`."""

    widths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    norms: Norms = "private"
    drawn: int | None = None
    distil_from: float | None = 0.5
    even: bool = False
    order: Literal["first", "magnitude"] = "first"
    round_to: int = 1
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exits:
    """Which exits a network gets; as the arguments of `exits`."""

    at: int | tuple[float | str, ...] = 2
    hidden: int = 0
    weights: tuple[float, ...] | None = None


@dataclass(frozen=True)
class SlimResult:
    """A slimmable network, and what each of its widths is worth."""

    network: Slimmable
    measurements: Mapping[float, Mapping[str, Measurement]]
    """Width -> metric -> measurement on the validation data, `macs` and `params` with them."""
    headline: str
    """The metric by which such networks are judged."""
    example_inputs: tuple[Tensor, ...] = field(repr=False)

    def table(self) -> str:
        """A row a width."""
        rows = [f"{'width':>6} {'MACs':>13} {'params':>11} {self.headline:>10}"]
        for width, found in self.measurements.items():
            macs, params, worth = (found[name].value for name in ("macs", "params", self.headline))
            rows.append(f"{width:6g} {macs:13,.0f} {params:11,.0f} {worth:10.4g}")
        return "\n".join(rows)

    def export(self, out: str | Path, *, onnx: bool = True) -> list[Artifact]:
        """Write the network to the folder `out`: the weights once, and one ONNX file that takes its width."""
        worth = {f"{width:g}": {m.metric: m.value for m in of.values()} for width, of in self.measurements.items()}
        return write_folder(self.network, self.example_inputs, out, onnx=onnx, told={"measurements": worth})


@dataclass(frozen=True)
class ExitsResult:
    """A network with exits, and what comes of thresholds."""

    network: MultiExit
    costs: tuple[int, ...]
    """Multiply-accumulates of a sample that leaves at each exit, with the heads that it passed."""
    curve: tuple[Outcome, ...]
    """Of thresholds for mean costs from the first exit's to the last's, on the samples that they were chosen on."""
    fixed: tuple[Outcome, ...]
    """If all samples leave at one exit, for each, at the cost of a network that ends there and has no other heads."""
    validation: Answers = field(repr=False)
    """What the exits say of the validation data, by which thresholds are chosen."""
    example_inputs: tuple[Tensor, ...] = field(repr=False)

    def thresholds(self, macs: float, rule: Rule = "searched") -> tuple[float, ...]:
        """Those with which the validation samples take at most `macs` in the mean. Errors: `BudgetError`."""
        return chosen_by(rule, self.validation, self.costs, [macs])[0]

    def outcome(self, macs: float, rule: Rule = "searched") -> Outcome:
        """What these thresholds come to on the validation samples."""
        return outcome(self.validation, self.costs, self.thresholds(macs, rule))

    def table(self) -> str:
        """A row a point of the curve, then one an exit."""
        rows = [f"{'mean MACs':>13} {'at worst':>13} {'right':>7}  leave at each exit"]
        for one in self.curve:
            shares = " ".join(f"{share:.0%}" for share in one.shares)
            rows.append(f"{one.mean_cost:13,.0f} {one.worst_cost:13,.0f} {one.right:7.2%}  {shares}")
        for k, one in enumerate(self.fixed):
            beaten = "no better than the curve" if dominated(one, self.curve) else "better than the curve"
            rows.append(f"{one.mean_cost:13,.0f} {one.worst_cost:13,.0f} {one.right:7.2%}  all at exit {k}: {beaten}")
        return "\n".join(rows)

    def export(self, out: str | Path, *, onnx: bool = True) -> list[Artifact]:
        """Write the network to the folder `out`: the weights, and one ONNX file that takes its thresholds."""
        points = [
            {"thresholds": one.thresholds, "mean_macs": one.mean_cost, "worst_macs": one.worst_cost, "right": one.right}
            for one in self.curve
        ]
        told = {"macs": list(self.costs), "curve": points}
        return write_folder(self.network, self.example_inputs, out, onnx=onnx, told=told)


def slim(
    model: nn.Module,
    train_data: Iterable[Any],
    validation_data: Iterable[Any],
    widths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    *,
    norms: Norms = "private",
    drawn: int | None = None,
    distil_from: float | None = 0.5,
    even: bool = False,
    order: Literal["first", "magnitude"] = "first",
    round_to: int = 1,
    exclude: Sequence[str] = (),
    training: Mapping[str, Any] | TrainingOptions | None = None,
    loss: Any = None,
    checkpoint: str | Path | None = None,
    say: Say = silent,
) -> SlimResult:
    """Make `model` a slimmable network and train it: one set of weights that computes at several widths.

    Args:
        model: any network that can be recorded, new or trained; it is not changed.
        train_data: batches `(x, y)`, read once an epoch.
        validation_data: batches by which the widths are judged.
        widths: parts of each coupled group of channels; 1 is always among them.
        norms: private, each width has its own (slimmable networks); shared, one for all and statistics estimated after
            the training (universally slimmable networks).
        drawn: in each step the narrowest, the widest and so many between; None: all widths.
        distil_from: from which part of the training on the narrow widths learn what the widest says, where outputs are
            class scores; None: all learn from targets to the end.
        even: whether the gradient of each weight is the mean over the widths that have it, instead of over all of a
            step; of our own, from no paper.
        order, round_to, exclude: which channels narrow widths have, in multiples of how many, and what stays whole.
        training: options of the training, as `training` of a study file; `{"learning_rate": 0.1}` suits a new network.
        loss: (outputs, targets) -> mean loss, if it is not the usual one.
        checkpoint: a file from which a training that was killed goes on.
        say: told of each epoch in a line.

    Raises:
        AutomlError, TraceError, SpaceError: with what was expected, what came, the remedy.
    """
    problem = Problem.from_iterables(model, train_data, validation_data, loss=loss)
    sizes = Widths(tuple(widths), norms, drawn, distil_from, even, order, round_to, tuple(exclude))
    return slim_problem(problem, sizes, _options(training, "slim"), checkpoint=checkpoint, say=say)


def slim_problem(
    problem: Problem,
    sizes: Widths,
    options: TrainingOptions,
    *,
    checkpoint: str | Path | None = None,
    say: Say = silent,
) -> SlimResult:
    """`slim` of a problem's network and data."""
    _require_plain(options, "slim")
    made = slimmable(
        problem.model,
        problem.example_inputs,
        sizes.widths,
        norms=sizes.norms,
        order=sizes.order,
        round_to=sizes.round_to,
        exclude=sizes.exclude,
    )
    softened = problem.kind.softened
    own = WidthLoss(
        smoothed(problem.loss, options.label_smoothing),
        softened,
        drawn=sizes.drawn,
        distil_from=sizes.distil_from if softened is not None else None,
        even=sizes.even,
    )
    _train(made, problem, own, options, checkpoint, say, own.method)
    if sizes.norms == "shared":
        made.recalibrate(problem.recalibration(options.seed) if problem.recalibration else problem.calibration)
    found = {width: _worth(made.plain(width), problem) for width in made.widths}
    return SlimResult(made, found, problem.kind.headline, problem.example_inputs)


def exits(
    model: nn.Module,
    train_data: Iterable[Any],
    validation_data: Iterable[Any],
    at: int | Sequence[float | str] = 2,
    *,
    hidden: int = 0,
    weights: Sequence[float] | None = None,
    training: Mapping[str, Any] | TrainingOptions | None = None,
    loss: Any = None,
    checkpoint: str | Path | None = None,
    say: Say = silent,
) -> ExitsResult:
    """Put exits into a classifier `model` and train it: easy samples leave early, the others go on.

    Args:
        model: any network of class scores that can be recorded, new or trained; it is not changed.
        train_data: batches `(x, y)`, read once an epoch.
        validation_data: batches by which thresholds are chosen.
        at: how many exits beside the network's own output, or where: parts of the multiply-accumulates, or nodes.
        hidden: channels of a layer in each exit's head; 0: one linear layer.
        weights: of the exits' losses, which are added up; None: 1 each.
        training, loss, checkpoint, say: as of `slim`.

    Raises:
        AutomlError, TraceError: with what was expected, what came, the remedy.
    """
    problem = Problem.from_iterables(model, train_data, validation_data, loss=loss)
    where = at if isinstance(at, int) else tuple(at)
    ends = Exits(where, hidden, None if weights is None else tuple(weights))
    return exits_of_problem(problem, ends, _options(training, "exits"), checkpoint=checkpoint, say=say)


def exits_of_problem(
    problem: Problem,
    ends: Exits,
    options: TrainingOptions,
    *,
    checkpoint: str | Path | None = None,
    say: Say = silent,
) -> ExitsResult:
    """`exits` of a problem's network and data."""
    _require_plain(options, "exits")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        made = multi_exit(problem.model, problem.example_inputs, ends.at, hidden=ends.hidden)
    own = ExitsLoss(smoothed(problem.loss, options.label_smoothing), ends.weights)
    _train(made, problem, own, options, checkpoint, say)
    costs = made.costs(*problem.example_inputs)
    alone = [count_macs(made.until(k), problem.example_inputs) for k in range(made.exits)]
    said = answers(made, problem.validation)
    course = curve(said, said, costs, rule="searched")
    return ExitsResult(made, costs, tuple(course), tuple(fixed(said, alone)), said, problem.example_inputs)


def _options(training: Mapping[str, Any] | TrainingOptions | None, call: str) -> TrainingOptions:
    """The options of a training. Errors: `ConfigError`."""
    options: TrainingOptions = convert(TrainingOptions, training or {}, Source(call), ("training",))
    return options


def _require_plain(options: TrainingOptions, call: str) -> None:
    """Raise `ConfigError` for options that do not go with a network of many sizes."""
    for name in ("distillation", "method", "seconds"):
        if getattr(options, name) is not None:
            raise ConfigError(f"training.{name} is for studies, and not for {call}: leave it out")
    if options.compile or options.keep != "last":
        raise ConfigError(f"{call} keeps the last weights and compiles nothing: leave training.keep and compile out")


def _train(
    network: nn.Module,
    problem: Problem,
    loss: WidthLoss | ExitsLoss,
    options: TrainingOptions,
    checkpoint: str | Path | None,
    say: Say,
    *methods: Method,
) -> None:
    path = None if checkpoint is None else Path(checkpoint)
    epochs = problem.epochs(options.batch_size)
    train(network, epochs, loss, options, methods=methods, checkpoint=path, say=say)


def _worth(network: nn.Module, problem: Problem) -> dict[str, Measurement]:
    """What a network is worth on the validation data, and what it costs."""
    costs = [
        Measurement("macs", count_macs(network, problem.example_inputs), "MAC"),
        Measurement("params", count_params(network)),
    ]
    return {one.metric: one for one in (*measure_metrics(network, problem.validation, problem.metrics), *costs)}
