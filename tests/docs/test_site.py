"""The documentation as a site: built strictly, so that a link that leads nowhere fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.cli.conftest import ROOT


def test_the_site_is_built_and_fetches_nothing(tmp_path):
    pytest.importorskip("mkdocs", reason="the site is not built: pip install -e '.[docs]'")
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=280)
    assert built.returncode == 0, built.stderr
    keys = (tmp_path / "site" / "reference" / "keys" / "index.html").read_text()
    assert "min_keep" in keys and "lengthscale" not in keys.split("Options of agents")[0]
    assert "compress" in (tmp_path / "site" / "reference" / "python" / "index.html").read_text()
    page = (tmp_path / "site" / "index.html").read_text()
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"https?://", page)
