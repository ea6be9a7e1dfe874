"""What the names of metrics meant before version 3: they began with the phase, which is a column since."""

from __future__ import annotations

_PREFIXES = {
    "agent/": "agent",
    "test_": "test",
    "final_": "final",
    "refitted_": "refitted",
    "training_": "training",
    "certified_": "certificate",
}
_LATENCIES = ("latency_ms", "latency_ratio", "peak_activation_bytes")


def phase_and_metric(name: str) -> tuple[str, str]:
    """Split the `name` of a metric in a database of version 1 or 2 into phase and metric: `test_loss` is (test, loss).

    A trial of those versions could measure a metric of the user's own whose name begins like that. It was hidden from
    agents, tested and shown as what it was not, so nothing worth keeping apart was recorded of it.
    """
    if name in _LATENCIES:
        return "latency", name
    for prefix, phase in _PREFIXES.items():
        if name.startswith(prefix):
            return phase, name.removeprefix(prefix)
    return "search", name
