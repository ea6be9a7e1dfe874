"""A small chain of convolutions as a space, with a made-up accuracy whose best allocation is known."""

from __future__ import annotations

import numpy as np
from torch import nn

from search_spaces import ChannelsStep, CostedSpace, Knob, Plan, Point

FEATURES = ("index", "out_channels", "in_channels", "height", "width", "stride", "kernel", "macs")


class ToySpace(CostedSpace):
    """Convolutions of `widths` in a row, image 3 channels, map halved at every `stride` of 2, ten classes.

    Every width but the classifier's is a knob. MACs and parameters are bilinear in neighbouring widths.
    """

    metrics = ("macs", "params")
    feature_names = FEATURES

    def __init__(
        self,
        widths: tuple[int, ...] = (16, 16, 32, 32, 64, 64),
        strides: tuple[int, ...] = (1, 1, 2, 1, 2, 1),
        image: int = 32,
        min_keep: float = 0.1,
        step: int = 1,
    ) -> None:
        self.widths, self.strides = np.array(widths), np.array(strides)
        self.sides = image // np.cumprod(self.strides)  # [n_knobs] of each layer's output
        self.knobs = tuple(
            Knob(f"conv{i}", tuple(range(-(-max(int(min_keep * width), 1) // step) * step, width + 1, step)))
            for i, width in enumerate(widths)
        )

    def cost_of_levels(self, levels: np.ndarray, metric: str) -> float:
        """MACs or parameters of widths [n_knobs]."""
        inputs = np.concatenate([[3], levels[:-1]])
        weights = 9 * inputs * levels
        if metric == "params":
            return float(np.sum(weights + levels) + levels[-1] * 10 + 10)
        return float(np.sum(weights * self.sides**2) + levels[-1] * 10)

    def features(self) -> np.ndarray:
        """What each layer is like: [n_knobs, n_features], each feature at most 1."""
        n = len(self.knobs)
        inputs = np.concatenate([[3], self.widths[:-1]])
        columns = [
            np.arange(n),
            self.widths,
            inputs,
            self.sides,
            self.sides,
            self.strides,
            np.full(n, 3),
            9 * inputs * self.widths * self.sides**2,
        ]
        return np.stack([column / max(column.max(), 1) for column in columns], axis=1)

    def plan(self, point: Point) -> Plan:
        """The first channels of each layer are kept."""
        return Plan((ChannelsStep({name: tuple(range(level)) for name, level in point.items()}),))

    def build(self, plan: Plan) -> nn.Module:
        """A new chain of the widths that `plan` keeps."""
        kept = plan.get(ChannelsStep).kept
        widths = [3, *(len(kept[knob.name]) for knob in self.knobs)]
        return nn.Sequential(
            *(
                nn.Conv2d(n_in, n_out, 3, int(stride), 1)
                for n_in, n_out, stride in zip(widths[:-1], widths[1:], self.strides, strict=True)
            )
        )


class ToyAccuracy:
    """Accuracy 0.95 as long as every knob keeps at least its part in `needed`, falling with what is missing.

    No accuracy falls when a level rises, as in a trained network. The best allocation at a budget of what
    `needed` costs is `needed`, with 0.95.
    """

    best = 0.95

    def __init__(self, space: ToySpace, needed: tuple[float, ...], weights: tuple[float, ...]) -> None:
        self.space = space
        self.needed = space.decode(np.array(needed))
        self.weights = np.array(weights)

    @property
    def limits(self) -> dict[str, float]:
        """The budget at which `needed` is the best allocation."""
        return {"macs": self.space.cost(self.needed, "macs")}

    @property
    def sensitivity(self) -> dict[str, np.ndarray]:
        """Error curves as rough as real ones: they know the weights, and nothing of what is needed: [n_levels]."""
        return {
            knob.name: weight * (1 - np.array(knob.levels) / knob.size) ** 2
            for knob, weight in zip(self.space.knobs, self.weights, strict=True)
        }

    @property
    def learnt(self) -> dict[str, float]:
        """What gates might have learnt: a little less of each knob than is needed."""
        kept = zip(self.space.knobs, self.space.encode(self.needed).tolist(), strict=True)
        return {knob.name: 0.9 * keep for knob, keep in kept}

    def __call__(self, point: Point) -> float:
        """The accuracy of a Point."""
        missing = np.maximum(1 - self.space.encode(point) / self.space.encode(self.needed), 0.0)
        return float(self.best * np.exp(-np.sum(self.weights * missing**2)))


def toy_problem() -> ToyAccuracy:
    """Six knobs; early layers are sensitive, late ones redundant, one in the middle cannot be cut at all."""
    return ToyAccuracy(ToySpace(), needed=(0.9, 0.45, 0.9, 0.4, 0.75, 0.3), weights=(3, 1, 4, 1, 2, 1))
