"""Quick forms of a network for evaluation: norms folded, activations fused, arithmetic shortened."""
