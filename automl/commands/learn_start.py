"""`automl learn-start FOLDER --out start.npz`: what signals share, which `automl encode --start` begins with."""

from __future__ import annotations

import argparse
import sys

from automl.commands.options import positive


def arguments(parser: argparse.ArgumentParser) -> None:
    """The signals, the form of the start, the network, and how long it is learnt."""
    parser.add_argument("folder", metavar="FOLDER", help="pictures, sounds (.wav) or arrays (.npy), of one kind")
    parser.add_argument("--out", metavar="FILE", required=True, help="the file to write, .npz")
    parser.add_argument(
        "--form",
        choices=("whole", "sparse", "gated", "latent"),
        default="whole",
        help="how a signal differs from it: in every number, in those of a sparse start, in few, or by a latent",
    )
    parser.add_argument("--patch", type=positive, metavar="N", help="side of the pieces that signals are cut into")
    parser.add_argument("--width", type=positive, default=32, metavar="N", help="sines of a layer (default: 32)")
    parser.add_argument("--depth", type=positive, default=3, metavar="N", help="layers of sines (default: 3)")
    parser.add_argument("--steps", type=positive, default=2000, metavar="N", help="outer steps (default: 2000)")
    parser.add_argument(
        "--inner-steps", type=positive, metavar="N", help="steps that fit one signal (default: 3; of sparse starts 2)"
    )
    parser.add_argument("--latent", type=positive, default=32, metavar="N", help="numbers of a latent (default: 32)")
    parser.add_argument("--bits", type=positive, default=5, metavar="N", help="of a number of a latent (default: 5)")
    parser.add_argument("--rounds", type=positive, default=7, metavar="N", help="of pruning a fifth (default: 7)")
    parser.add_argument(
        "--density", type=float, default=0.25, metavar="D", help="what a signal changes (default: 0.25)"
    )
    parser.add_argument("--axes", type=positive, metavar="N", help="of arrays: the grid; one more is of channels")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of weights and order")


def run(args: argparse.Namespace) -> int:
    """Learn the start and write it."""
    from automl.signals.learning import learn_start

    learn_start(
        args.folder,
        args.out,
        form=args.form,
        patch=args.patch,
        width=args.width,
        depth=args.depth,
        steps=args.steps,
        latent=args.latent,
        bits=args.bits,
        inner_steps=args.inner_steps,
        rounds=args.rounds,
        density=args.density,
        axes=args.axes,
        seed=args.seed,
        say=lambda text: print(text, file=sys.stderr),
    )
    return 0
