"""Passes over rows fused into one: norms, embeddings, rotary, softmax, activations, quantization."""
