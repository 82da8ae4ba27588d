"""Memory that a model takes on a workload: weights, activations, KV cache, gradients, optimizer states."""

from ridgeline_estimate.memory.memory import Memory, estimate_memory

__all__ = ["Memory", "estimate_memory"]
