"""Budgets as users write them."""

import pytest

from automl.budget import parse_budget
from automl.errors import ConfigError

BASE = {"macs": 40_000_000.0, "params": 270_000.0, "size_bytes": 1_100_000.0}


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("macs <= 50%", {"macs": 20e6}),
        ("MACs<=50 %", {"macs": 20e6}),
        ("flops <= 50%", {"macs": 20e6}),
        ("flops <= 30M", {"macs": 15e6}),
        ("macs ≤ 12.5M", {"macs": 12.5e6}),
        ("macs <= 1.5e7", {"macs": 15e6}),
        ("params <= 120k", {"params": 120e3}),
        ("params <= 120_000", {"params": 120e3}),
        ("size <= 200 KB", {"size_bytes": 200e3}),
        ("size <= 200 KiB", {"size_bytes": 200 * 1024}),
        ("size <= 0.5MB", {"size_bytes": 500e3}),
        ("params <= 120k, size <= 25%", {"params": 120e3, "size_bytes": 275e3}),
        (["macs <= 50%", "params <= 100%"], {"macs": 20e6, "params": 270e3}),
    ],
)
def test_a_budget_means_absolute_limits(text, limits):
    assert parse_budget(text).limits(BASE) == limits


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "for example `macs <= 50%`"),
        ([], "for example `macs <= 50%`"),
        ("50%", "got '50%'"),
        ("macs < 50%", "got 'macs < 50%'"),
        ("macs <= lots", "got 'macs <= lots'"),
        ("macs <= -5", "got 'macs <= -5'"),
        ("mac <= 50%", "did you mean 'macs'"),
        ("latency <= 5", "Known: flops, macs, params, size"),
        ("macs <= 0%", "above 0 and at most 100"),
        ("macs <= 150%", "above 0 and at most 100"),
        ("macs <= 0.5", "write it with %"),
        ("params <= 5 KB", "unit of params"),
        ("size <= 200", "unit of size"),
        ("macs <= 50%, macs <= 10M", "more than once"),
        ("macs <= 50%, flops <= 10M", "more than once"),
    ],
)
def test_what_is_no_budget_is_refused_with_the_remedy(text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        parse_budget(text)
