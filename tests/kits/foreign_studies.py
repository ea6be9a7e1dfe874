"""Files of studies as somebody else might hand them over: lines of a study, and a file of any lines."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

from automl.config.study import StudyConfig

CONFIG = {"model": {"name": "small_cnn"}, "data": {"name": "digits"}, "budget": ["macs <= 50%"]}
NOW = "2026-11-29T00:00:00+00:00"


def study_line(name: str, **config) -> dict:
    told = {**StudyConfig.from_dict({"name": "any", **CONFIG}).to_record(), "name": name, **config}
    return {"study": {"name": name, "config": told, "code_version": "1", "environment": {}, "created": NOW}}


def write_studies(file: Path, *lines: dict) -> Path:
    """A file as `automl db export` would write it, whatever its lines are."""
    head = {"format": "automl-compress studies", "version": 1, "schema": 3}
    content = b"".join(json.dumps(line).encode() + b"\n" for line in (head, *lines))
    end = {"end": 1 + len(lines), "sha256": hashlib.sha256(content).hexdigest()}
    file.write_bytes(gzip.compress(content + json.dumps(end).encode() + b"\n"))
    return file
