"""What a network costs, measured on the network itself: counts, bytes, peak memory, latency."""

from automl.measures.counts import count_macs, count_params, size_bytes, state_tensors
from automl.measures.latency import LatencyComparison, compare_latency, latency
from automl.measures.memory import peak_activation_bytes
from automl.measures.threads import cpu_name, pinned_threads

__all__ = [
    "LatencyComparison",
    "compare_latency",
    "count_macs",
    "count_params",
    "cpu_name",
    "latency",
    "peak_activation_bytes",
    "pinned_threads",
    "size_bytes",
    "state_tensors",
]
