"""Jit functions that several kernels share."""
