"""Ops of Transformer inference over packed tokens, as Triton kernels with plain PyTorch references."""
