"""The table of backends: time of a pass, and its ratio to the same network in float32 on the same library and in eager.

python -m experiments.latency.backends FOLDER... [--batch 1 64] --out rows.jsonl

What has a row is not measured again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from automl.export.timing import measure_folder
from automl.measures.backends.measuring import Conditions, available


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--compile", action="store_true", help="torch.compile too, which takes a minute a process")
    args = parser.parse_args()
    lines = args.out.read_text(encoding="utf-8").splitlines() if args.out.exists() else []
    done = {tuple(json.loads(line)[key] for key in ("network", "batch", "backend")) for line in lines}
    with args.out.open("a", encoding="utf-8") as file:
        for folder in args.folders:
            for batch in args.batch:
                for backend in [*available(folder), *(["compile"] if args.compile else [])]:
                    if (folder.name, batch, backend) in done:
                        continue
                    row = measure_folder(folder, Conditions(backend, batch)) | {"network": folder.name}
                    print(json.dumps(row), file=file, flush=True)
    print(table([json.loads(line) for line in args.out.read_text(encoding="utf-8").splitlines()]))


def table(rows: list[dict[str, object]]) -> str:
    """Markdown: a row a network, batch and backend."""
    lines = ["| network | batch | backend | ms | of float32, same library | 95 % | MB | noise |", "|" + " --- |" * 8]
    for row in rows:
        ratio, peak = row["ratio"], row["peak_memory_bytes"]["network"]
        lines.append(
            f"| {row['network']} | {row['batch']} | {row['backend']} | {row['latency_ms']['network']['value']:.3g} | "
            f"{ratio['value']:.3f} | {ratio['low']:.3f} to {ratio['high']:.3f} | {(peak or 0) / 1e6:.1f} | "
            f"{'noisy' if row['noise'] else ''} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
