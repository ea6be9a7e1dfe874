"""Lottery tickets, their controls, and pruning in rounds: `python -m experiments.training.tickets`.

LeNet-300-100 with the 64 inputs of scikit-learn's digits. Each round trains as long, and prunes a fifth of the weights
that are left, a tenth of the last layer's. Each of the masks that come of it is trained from: the first weights (the
ticket; Frankle & Carbin 2019), fresh ones, and the signs of the first ones with one magnitude a layer, or signs drawn
anew (Zhou et al. 2019). One cut of the weights of the first training to the same counts, trained as long, stands beside
pruning in rounds that go on from trained weights. About 40 s of one core.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean, stdev

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl.training.loss import SupervisedLoss
from automl.training.methods.keep_zeros import KeepZeros
from automl.training.methods.target import Masks, Target
from automl.training.trainer import train
from experiments.training.group_penalties import OPTIONS, accuracy, batches_of, parts

SEEDS = (0, 1, 2)
WEIGHTS = ("0.weight", "2.weight", "4.weight")
KEPT = (0.8, 0.8, 0.9)
"""Of each layer's weights in a round."""
ROUNDS = {4: "41 %", 8: "17 %", 12: "7 %"}
"""After which rounds arms are compared, and about what is left."""
State = dict[str, Tensor]


def main() -> None:
    torch.set_num_threads(1)
    found: dict[tuple[str, int], list[float]] = {}
    seen, _, test = parts()
    for seed in SEEDS:
        for arm, after, network in arms(lambda network, seed=seed: learnt(network, seen, seed), seed):
            found.setdefault((arm, after), []).append(100 * accuracy(network, test))
    print("| arm | " + " | ".join(ROUNDS.values()) + " |\n| --- |" + " --- |" * len(ROUNDS))
    for arm in dict.fromkeys(arm for arm, after in found if after):
        cells = [f"{mean(found[arm, after]):.1f} ± {stdev(found[arm, after]):.1f}" for after in ROUNDS]
        print(f"| {arm} | {' | '.join(cells)} |")
    print(f"\nall weights: {mean(found['dense', 0]):.1f} ± {stdev(found['dense', 0]):.1f}")


def arms(learn: Callable[[nn.Module], nn.Module], seed: int):
    """(arm, rounds of pruning, trained network), the network that is not pruned first."""
    first = fresh(seed).state_dict()
    ticket = dense = learn(loaded(first))
    tuned = dense
    yield "dense", 0, dense
    for after in range(1, max(ROUNDS) + 1):
        counts = {n: round(k**after * first[n].numel()) for n, k in zip(WEIGHTS, KEPT, strict=True)}
        mask = Target(counts).largest(ticket)
        ticket = learn(loaded(first, mask))
        tuned = learn(loaded(tuned.state_dict(), Target(counts).largest(tuned)))
        if after not in ROUNDS:
            continue
        yield "ticket: first weights", after, ticket
        yield "fresh weights", after, learn(loaded(fresh(seed + 100).state_dict(), mask))
        yield "signs of the first weights", after, learn(loaded(signs(first), mask))
        yield "signs drawn anew", after, learn(loaded(signs(fresh(seed + 100).state_dict()), mask))
        yield "in rounds, from trained weights", after, tuned
        yield "one cut of trained weights", after, learn(loaded(dense.state_dict(), Target(counts).largest(dense)))


def fresh(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


def loaded(state: State, mask: Masks | None = None) -> nn.Module:
    """The network with these weights, where `mask` has them."""
    network = fresh(0)
    network.load_state_dict(state)
    if mask is not None:
        mask.hold_weights(network)
    return network


def signs(state: State) -> State:
    """Every weight with its sign and the standard deviation of its layer."""
    return {name: tensor.sign() * tensor.std() if name in WEIGHTS else tensor for name, tensor in state.items()}


def learnt(network: nn.Module, seen: tuple[Tensor, Tensor], seed: int) -> nn.Module:
    """The network, trained where it is not zero."""
    train(network, batches_of(seen, seed), SupervisedLoss(F.cross_entropy), OPTIONS, methods=[KeepZeros(WEIGHTS)])
    return network


if __name__ == "__main__":
    main()
