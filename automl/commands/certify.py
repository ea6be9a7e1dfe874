"""`automl certify FOLDER`: an export measured again beside its original, and held against its limit on latency."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def arguments(parser: argparse.ArgumentParser) -> None:
    """The export, and where the certificate goes."""
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="an exported folder of a study with such a limit")
    parser.add_argument("--out", metavar="FILE", type=Path, help="(default: certificate.json in FOLDER)")


def run(args: argparse.Namespace) -> int:
    """Write the certificate; 1 if the network is not within its limit on this machine."""
    from automl.evaluation.certify import CERTIFICATE, certify
    from automl.study.certificates import write_certificate

    certificate = certify(args.folder)
    write_certificate(certificate, args.out or args.folder / CERTIFICATE)
    return told(certificate)


def told(certificate: Mapping[str, Any]) -> int:
    """Print a certificate in a few lines; 0 if the network is within its limit, else 1."""
    from automl.measures.backends.measuring import in_words

    limit, within = certificate["limit"], certificate["within"]
    allowed = f"{limit['value']:.1%}" if limit["metric"] == "latency_ratio" else f"{limit['value']:.3g} ms"
    print(f"{'certified' if within else 'not certified'}, {allowed} allowed: {in_words(certificate)}")
    if certificate["noise"]:
        print(f"note: {certificate['noise']}")
    return 0 if within else 1
