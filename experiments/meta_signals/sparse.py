"""Meta-SparseINR on MNIST: sparse starts against dense-narrow, random pruning and MAML pruned in one shot.

`python -m experiments.meta_signals.sparse --data-root DIR --seeds 0 1 --steps 1200`. Every arm takes as many outer
steps; those that are pruned share them among the rounds. PSNR on test digits after 2 steps of gradient descent, as the
inner loop takes, and after 100 of Adam, for which the rate was set once for all arms.
"""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from automl.signals.learnt_start import WholeStart, before_learning
from automl.signals.meta import Learnt, MetaOptions, Tensors, adapted_to, learn
from automl.signals.meta_pruning import PART, learn_sparse_start, masked, pruned
from automl.signals.signal import coordinates
from automl.signals.siren import Siren, parameters_of
from experiments.meta_signals.digits import arguments, digits, keep, psnr_each

WIDTH, DEPTH = 32, 4
MORE, RATE = 100, 1e-3
"""Steps of Adam, and their rate."""
OPTIONS = MetaOptions(2, 1e-2, 1, 1e-3, batch=4)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--arms", nargs="+", default=["sparse", "random", "one shot", "narrow"])
    parser.add_argument("--side", type=int, choices=(14, 28), default=28)
    args = parser.parse_args()
    seen, held = digits(args.data_root, args.side, held=32)
    for seed in args.seeds:
        for arm in args.arms:
            began = time.process_time()
            row = measured(arm, seed, args.steps, args.rounds, seen, held)
            row = {"what": "sparse", "side": args.side, "steps": args.steps, "arm": arm, "seed": seed, **row}
            keep({**row, "cpu_s": time.process_time() - began})


def measured(arm: str, seed: int, steps: int, rounds: int, seen: Tensor, held: Tensor) -> dict[str, object]:
    torch.manual_seed(seed)
    network, points = Siren(2, 1, WIDTH, DEPTH), points_of(seen)
    ranking = "random" if arm == "random" else "magnitude"
    options = MetaOptions(**{**vars(OPTIONS), "outer_steps": steps, "seed": seed})
    if arm in ("sparse", "random"):
        each = MetaOptions(**{**vars(options), "outer_steps": steps // (rounds + 1)})
        learnt, masks = learn_sparse_start(network, points, seen, each, rounds, ranking=ranking)
        return judged(network, learnt, masks, {}, held)
    if arm == "narrow":
        network = narrow(rounds)
    learnt = learn(WholeStart(network), before_learning(network), points, seen, options)
    cut: Tensors = {}
    if arm == "one shot":
        for _ in range(rounds):
            cut = pruned(learnt.shared, cut, PART, "magnitude", torch.Generator())
    return judged(network, learnt, {}, cut, held)


def points_of(values: Tensor) -> Tensor:
    """The places of the pixels of square pictures, [n, pixels, 1]."""
    side = math.isqrt(values.shape[1])
    return coordinates((side, side))


def narrow(rounds: int) -> Siren:
    """The widest network with no more numbers than are left after the rounds."""
    torch.manual_seed(0)
    weights = sum(p.numel() for p in Siren(2, 1, WIDTH, DEPTH).parameters() if p.ndim > 1)
    left = parameters_of(2, 1, WIDTH, DEPTH) - weights
    for _ in range(rounds):
        weights -= int(weights * PART)
    width = max(w for w in range(1, WIDTH) if parameters_of(2, 1, w, DEPTH) <= left + weights)
    return Siren(2, 1, width, DEPTH)


def judged(network: Siren, learnt: Learnt, masks: Tensors, cut: Tensors, held: Tensor) -> dict[str, object]:
    """PSNR after the inner steps and after more. `cut`: what one shot prunes of each signal's network in the middle of
    its fit, as the authors' code does; for the two steps, before them."""
    few = learnt if not cut else Learnt(masked(learnt.shared, cut), learnt.rates)
    after = adapted_to(WholeStart(network, cut or masks), few, points_of(held), held)
    numbers = sum(p.numel() for p in network.parameters())
    zeros = sum(int((mask == 0).sum()) for mask in (cut or masks).values())
    return {
        "numbers": numbers - zeros,
        "width": network.width,
        "psnr_2": psnr_each(errors(network, after, held, cut or masks)),
        f"psnr_{MORE}": psnr_each(fitted(network, learnt, held, masks, cut)),
    }


def fitted(network: Siren, learnt: Learnt, held: Tensor, masks: Tensors, cut: Tensors) -> Tensor:
    """Mean squared errors of all digits, each fitted by itself by Adam (it takes every number by itself): [n]."""
    own = {n: t.detach().expand(len(held), *t.shape).clone().requires_grad_() for n, t in learnt.shared.items()}
    adam = torch.optim.Adam(own.values(), lr=RATE)
    for step in range(MORE):
        if cut and step == MORE // 2:
            masks = cut
        adam.zero_grad()
        errors(network, own, held, masks).sum().backward()
        adam.step()
    return errors(network, own, held, masks).detach()


def errors(network: Siren, own: Tensors, held: Tensor, masks: Tensors) -> Tensor:
    """The mean squared error of each signal: [n]."""
    points = points_of(held)

    def one(parameters: Tensors, values: Tensor) -> Tensor:
        drawn = functional_call(network, masked(parameters, masks), (points,))
        return (drawn - values).square().mean()

    found: Tensor = vmap(one)(own, held)
    return found


if __name__ == "__main__":
    main()
