"""A study on a cluster of three Ray nodes, processes of this machine; one is taken away midway and another added.

The head has no CPU, so that no trial runs there; each node has one. The node is taken away with kill -9 while a trial
runs on it. With as many workers as nodes the third worker has to wait for the node that is added; with fewer there is
room on the nodes that are left.

    python experiments/scale/nodes.py --trials 40
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for tests.kits

from tests.kits.ray_nodes import cluster, lose_and_gain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--wait-s", type=float, default=0.5)
    parser.add_argument("--workers", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="automl-nodes-") as folder, cluster() as nodes:
        print(json.dumps(lose_and_gain(nodes, Path(folder), args.trials, args.wait_s, args.workers), indent=1))


if __name__ == "__main__":
    main()
