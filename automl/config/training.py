"""How a network is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from automl.config.method import MethodOptions
from automl.errors import ConfigError
from automl.util.names import nearest

_RANGES: dict[str, tuple[float, float, str]] = {
    "epochs": (1, float("inf"), "a whole number of at least 1"),
    "seconds": (0, float("inf"), "above 0, or none"),
    "samples": (1, float("inf"), "a whole number of at least 1, or none"),
    "batch_size": (1, float("inf"), "a whole number of at least 1"),
    "accumulate": (1, float("inf"), "a whole number of at least 1"),
    "workers": (1, float("inf"), "a whole number of at least 1"),
    "learning_rate": (0, float("inf"), "above 0"),
    "momentum": (0, 1, "at least 0 and below 1"),
    "weight_decay": (0, float("inf"), "at least 0"),
    "factor": (0, math.nextafter(1, 2), "a factor above 0 and at most 1"),
    "warmup": (0, 1, "a fraction of all steps, at least 0 and below 1"),
    "label_smoothing": (0, 1, "at least 0 and below 1"),
    "rewind": (0, math.nextafter(1, 2), "a part of the schedule, above 0 and at most 1, or none"),
    "ema": (0, 1, "a decay above 0 and below 1, such as 0.999, or none"),
    "clip": (0, float("inf"), "a norm above 0, or none"),
    "seed": (0, float("inf"), "a whole number from 0"),
}
"""Option -> lowest, upper bound (never reached), and the same in words."""
OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("cosine", "linear", "one_cycle", "constant", "step")
_RATES = {"sgd": 0.02, "adamw": 3e-4}
"""Optimizer -> the learning rate for weights that are to be kept."""
NEW_RATES = {"sgd": 0.1, "adamw": 3e-3}
"""Optimizer -> the learning rate for weights that are new."""
_ABOVE = ("seconds", "learning_rate", "factor", "rewind", "ema", "clip")
"""Options that are above their lowest value, never at it."""


@dataclass(frozen=True)
class DistillationOptions:
    """The choices of a distillation; one that cannot be is a `ConfigError`."""

    outputs: Literal["softened", "regression"] = "softened"
    """What is learned of the teacher's outputs: softened probabilities (Hinton et al. 2015), or the outputs themselves
    by regression (Ba & Caruana 2014), which needs no classes."""
    weight: float = 0.9
    """Of the teacher's outputs, in [0, 1]; the labels have the rest."""
    temperature: float = 4.0
    """What logits are divided by before the softmax."""
    teachers: tuple[str, ...] = ()
    """`module:function` of your own, each of which makes a network with the outputs of the original, such as a larger
    one: it is learnt from in place of that, and of several their mean (Hinton et al. 2015, section 3). None: the
    original teaches."""
    hints: Literal["none", "fitnets", "attention", "features"] = "none"
    """What is compared inside, too: maps through a regressor (Romero et al. 2015), attention (Zagoruyko & Komodakis
    2017), or the channels kept, each with the same channel of the original."""
    hint_weight: float | None = None
    """Of the hints, beside the loss of the outputs; none: 1 for fitnets, 1000 for attention, 0.1 for features."""
    layers: tuple[str, ...] = ()
    """Modules, or nodes of the recorded graph, whose outputs are compared; none: the last map of each resolution."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ConfigError(f"weight is what the teacher's outputs have of the loss, in [0, 1], got {self.weight}")
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be above 0, got {self.temperature}")
        if self.hint_weight is not None and not self.hint_weight > 0:
            raise ConfigError(f"hint_weight must be above 0, got {self.hint_weight}. Set `hints: none` for no hints")
        if strange := [name for name in self.teachers if ":" not in name]:
            raise ConfigError(f"teachers must be `module:function`, got {strange[0]!r}")
        if self.teachers and self.hints != "none":
            raise ConfigError("hints compare the insides of the original: leave `hints` out, or `teachers`")
        if self.layers and self.hints == "none":
            raise ConfigError("layers are what hints compare, and there are none: set `hints`, or leave layers out")


@dataclass(frozen=True)
class TrainingOptions:
    """The choices of a training; one that cannot be is a `ConfigError`.

    The defaults fine-tune a pruned ResNet for CIFAR: SGD as He et al. 2016 (section 4.2) trained it, from a fifth of
    their learning rate, along half a cosine (Loshchilov & Hutter 2017, arXiv 1608.03983, equation 5, without restarts).
    """

    epochs: int = 30
    """How often the training data is gone through."""
    samples: int | None = None
    """After how many training samples an epoch ends, those first in the data's order; none: all of them."""
    seconds: float | None = None
    """In a space of cells: as many epochs, or samples of one, as this time is predicted to allow, at most `epochs`. So
    networks that are slow to train are trained on less. None: all epochs."""
    batch_size: int = 128
    """Of built-in data and of lists of batches; a user's own loader comes with its batches."""
    accumulate: int = 1
    """Batches a step: their gradients are added up, as if they were one batch (norms see each by itself)."""
    optimizer: str = "sgd"
    """sgd: with Nesterov's momentum, for convolutional networks. adamw: Adam with decoupled weight decay (Loshchilov &
    Hutter 2019, arXiv 1711.05101, algorithm 2), for transformers. Or `module:function` of your
    own, (parameter groups, learning rate) -> a `torch.optim.Optimizer`."""
    learning_rate: float | None = None
    """The highest, after the warm-up: 0.1 suits new weights under SGD, less those that are to be kept. None: 0.02 for
    sgd, 3e-4 for adamw; 0.1 and 3e-3 in a space of cells."""
    schedule: str = "cosine"
    """How the learning rate goes on after the warm-up, step by step: cosine, along half of one to 0; linear, evenly to
    0, which with `warmup: 0` is LLR (Zimmer et al. 2023) for what was pruned; one_cycle, which rises along a cosine too
    and falls to 1/250,000 (Smith & Topin 2019, with `warmup: 0.3`); constant; step, times `factor` at each of
    `milestones`. Or `module:function` of your own, (part of the training that is done, in [0, 1]) -> the part of the
    highest rate."""
    milestones: tuple[float, ...] = (0.5, 0.75)
    """Of `schedule: step`: parts of all steps, rising (He et al. 2016, section 4.2)."""
    factor: float = 0.1
    """Of `schedule: step`."""
    momentum: float = 0.9
    """Nesterov's, 0 for plain SGD; of adamw the decay of the mean gradient; an optimizer of your own has its own."""
    weight_decay: float = 5e-4
    """Of weights; norms and biases (parameters of one dimension) have none. Under adamw it is decoupled: a step takes
    away this part of a weight times the learning rate, so that 0.01 to 0.1 are usual."""
    warmup: float = 0.03
    """The fraction of all steps over which the learning rate rises from 0."""
    rewind: float | None = None
    """Learning-rate rewinding (Renda et al. 2020, arXiv 2003.02389): the part of the schedule, its last, along which
    the epochs go, in (0, 1]. What is tuned goes back into the training it came from: of T epochs the last t are gone
    through again with `epochs` t and `rewind` t / T. None: all of the schedule."""
    label_smoothing: float = 0.0
    """Part of the target that is spread evenly over all classes; for cross-entropy only."""
    distillation: DistillationOptions | None = None
    """What is learnt from the original network beside the labels; none: nothing."""
    method: MethodOptions | None = None
    """How zeros come about, where the operator sparsity says how many: a text is the name of a method. None: those of
    the trial stay where they are."""
    transform: str | None = None
    """`module:function` of your own, (inputs, targets) -> the same for training, applied to each batch: inputs is a
    tuple of tensors. What is random in it is to be drawn from PyTorch, so that a killed training goes on alike."""
    ema: float | None = None
    """Decay of an average of the weights over the steps, which is evaluated and kept; none: the last weights."""
    norms: Literal["batch", "fixed"] = "batch"
    """What batch norms normalise by: the statistics of each batch, whose averages they keep; or fixed, those that they
    have, while their weights and biases are trained. Fixed suits networks that are nearly as good as their original:
    statistics of single batches alone can lead them further from it than a few epochs bring them back."""
    keep: Literal["last", "best"] = "last"
    """Whose epoch's weights are kept: the last one's, or those that do best on the validation data, of equal ones the
    later. The best are flattered by having been chosen there."""
    clip: float | None = None
    """The largest norm of the gradient of all parameters; none: any."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """bfloat16: autocast, with weights and their sums in float32. float16: the same, with a loss that is scaled so that
    small gradients do not vanish, for CUDA devices older than bfloat16. auto: float32 or bfloat16, whichever is faster
    here, as a few steps show."""
    channels_last: Literal["auto", True, False] = "auto"
    """Whether images and filters lie in memory pixel by pixel; auto: what is fastest here, as a few steps show. Never
    on a CPU where a strided 1 x 1 convolution reads fewer than 16 channels, whose gradient would be wrong."""
    compile: bool = False
    """Whether the network is compiled first (`torch.compile`), which needs a C++ compiler on a CPU. It takes seconds to
    a minute a network and so suits trainings that take longer than some minutes, not those of trials."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a CUDA device if there is one."""
    workers: int = 1
    """Processes that train the network together by Ray Train, each on a part of every batch: on a CUDA device each, or
    on CPUs. Not for the trainings of trials, which run beside each other."""
    seed: int = 0
    """Of the order of the samples, their augmentation and dropout."""

    def __post_init__(self) -> None:
        for name, (low, high, expected) in _RANGES.items():
            value: Any = getattr(self, name)
            if value is None:
                continue
            if not low <= value < high or (name in _ABOVE and value == low):
                raise ConfigError(f"{name} is {expected}, got {value}")
        _require_known(self.optimizer, "optimizer", OPTIMIZERS)
        _require_known(self.schedule, "schedule", SCHEDULES)
        if self.learning_rate is None and self.optimizer not in _RATES:
            raise ConfigError(f"learning_rate is missing: say which suits your optimizer {self.optimizer}")
        if self.transform is not None and ":" not in self.transform:
            raise ConfigError(f"transform must be `module:function`, got {self.transform!r}")
        if list(self.milestones) != sorted(set(self.milestones)) or not all(0 < m < 1 for m in self.milestones):
            raise ConfigError(f"milestones are parts of all steps in (0, 1), rising, got {list(self.milestones)}")
        if self.method is not None and self.method.cycles > 1 and self.rewind is not None:
            raise ConfigError("rewind and rounds of `method: iterative` both say how the schedule is gone through")

    @property
    def highest_rate(self) -> float:
        """The learning rate after the warm-up: the one asked for, or what suits the optimizer."""
        return _RATES[self.optimizer] if self.learning_rate is None else self.learning_rate

    @property
    def own_code(self) -> tuple[str, ...]:
        """The functions of the user's own, `module:function`, that a training calls."""
        teachers = self.distillation.teachers if self.distillation is not None else ()
        return tuple(x for x in (self.optimizer, self.schedule, self.transform, *teachers) if x and ":" in x)


def _require_known(name: str, what: str, known: tuple[str, ...]) -> None:
    if name not in known and ":" not in name:
        raise ConfigError(f"{what} cannot be {name!r}{nearest(name, known)}, or `module:function` of your own")


@dataclass(frozen=True)
class StageOptions:
    """How a network is pruned and tuned in stages; a value that makes no sense is a `ConfigError`."""

    count: int = 3
    """In how many stages the widths are reached; each leaves the same part of the costs of the one before."""
    cut: Literal["point", "greedy"] = "point"
    """What each stage cuts. point: all groups on the way to the widths of the trial. greedy: the channels of least
    energy in the whole network (OICSR, Li et al. 2019), until it costs no more than the trial in what the budget limits
    (without a budget, MACs and parameters). So the widths are found on the way, and all else that the trial chose is
    passed over; nothing is refitted. Energies are compared as they are after `sparsify: group_lasso`, and else as parts
    of the largest in their group (DepGraph)."""
    growing_decay: float | None = None
    """Growing regularisation (GReg-1, Wang et al. 2021): the part of the epochs of each stage, in (0, 1), that comes
    before its cut and presses the channels that are to go ever harder towards zero. None: nothing is pressed."""
    rewind_to: str | None = None
    """Weight rewinding (Frankle et al. 2020): a safetensors file, relative to the study file, with the weights that the
    original had early in its own training. Each stage chooses channels by the weights tuned last, and trains those of
    this file. None: it trains the weights that were cut."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"count is a number of stages, at least 1, got {self.count}")
        if self.growing_decay is not None and not 0 < self.growing_decay < 1:
            raise ConfigError(
                f"growing_decay is a part of each stage's epochs, above 0 and below 1, got {self.growing_decay}. Leave "
                f"it out to press nothing"
            )
        if self.growing_decay is not None and self.rewind_to is not None:
            raise ConfigError(
                "growing_decay prepares weights for the cut, and rewind_to puts others in their place: leave out one"
            )

    def epochs(self, planned: int) -> tuple[int, int]:
        """How many of the epochs `planned` for a stage come before its cut, and how many after."""
        if self.growing_decay is None:
            return 0, planned
        before = min(max(1, round(self.growing_decay * planned)), planned - 1)
        return before, planned - before


@dataclass(frozen=True)
class SparsifyOptions:
    """How a network is trained before the search to need fewer channels; what makes no sense is a `ConfigError`."""

    method: Literal["group_lasso", "group_decay", "growl"] = "group_lasso"
    """What presses whole channels, all weights that make or read them, towards zero: a penalty on their norms (OICSR,
    Li et al. 2019), or decay that is stronger the weaker a channel is in its group (DepGraph, Fang et al. 2023). growl:
    the weights that read a channel become exactly zero, or of one norm with others, by the ordered weighted l1 norm of
    norms (GrOWL, Zhang et al. 2018)."""
    strength: float | None = None
    """What the penalty is multiplied by; none: 1e-4 for group_lasso, 5e-4 for group_decay, 1e-3 for growl."""
    training: TrainingOptions = TrainingOptions()
    """How the network is trained meanwhile."""

    def __post_init__(self) -> None:
        if self.strength is not None and not 0 < self.strength < math.inf:
            raise ConfigError(f"strength must be above 0, got {self.strength}. Leave out `sparsify` for none")


def of_new_weights(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a study says of a training, `given`, with a learning rate for weights that are new if it names none."""
    rate = NEW_RATES.get(given.get("optimizer", TrainingOptions.optimizer))
    return {**given, "learning_rate": rate} if given.get("learning_rate") is None else dict(given)
