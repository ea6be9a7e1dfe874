"""Budgets as users write them."""

import pytest

from automl.config.budget import parse_budget, parse_guarantee
from automl.errors import ConfigError

BASE = {"macs": 40_000_000.0, "params": 270_000.0, "size_bytes": 1_100_000.0, "predicted_latency_ms": 8.0}


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
        ("latency <= 60%", {"predicted_latency_ms": 4.8}),
        ("latency <= 3.5 ms", {"predicted_latency_ms": 3.5}),
        ("latency <= 750us", {"predicted_latency_ms": 0.75}),
        ("latency <= 1.2 s, params <= 120k", {"predicted_latency_ms": 1200.0, "params": 120e3}),
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
        ("joules <= 5", "Known: bops, flops, latency, macs, params, peak_memory, size"),
        ("latency <= 5", "unit of latency to be %, us, ms or s"),
        ("latency <= 0 ms", "above 0"),
        ("latency <= 50%, latency <= 3 ms", "more than once"),
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


def test_a_budget_knows_its_limit_on_latency():
    term = parse_budget("macs <= 50%, latency <= 60%").latency
    assert (term.value, term.relative) == (0.6, True)
    assert parse_budget("macs <= 50%").latency is None


@pytest.mark.parametrize(
    ("text", "floor"),
    [
        ("accuracy >= 90%", 0.9),
        ("accuracy ≥ 90.5 %", 0.905),
        ("Accuracy drop <= 1%", 0.92),
        ("accuracy drop ≤ 0%", 0.93),
    ],
)
def test_a_guarantee_is_a_least_accuracy_for_an_original_of_93_per_cent(text, floor):
    guarantee = parse_guarantee(text)
    assert guarantee.bound(0.93) == pytest.approx(floor) and guarantee.metric == "accuracy"


@pytest.mark.parametrize(
    "text", ["90%", "accuracy >= 0.9", "accuracy <= 90%", "accuracy drop >= 1%", "accuracy >= 101%"]
)
def test_what_is_no_guarantee_is_refused(text):
    with pytest.raises(ConfigError, match="accuracy"):
        parse_guarantee(text)
