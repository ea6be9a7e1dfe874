"""What a network costs, measured on the network itself: counts, bytes, peak memory, latency."""

from automl.measures.counts import count_macs, count_params, size_bytes, state_tensors
from automl.measures.latency import LatencyComparison, compare_latency
from automl.measures.memory import peak_activation_bytes

__all__ = [
    "LatencyComparison",
    "compare_latency",
    "count_macs",
    "count_params",
    "peak_activation_bytes",
    "size_bytes",
    "state_tensors",
]
