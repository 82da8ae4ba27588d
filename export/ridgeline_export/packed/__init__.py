"""Torch model → packed ONNX graph: the ridgeline dialect, docs/packed.md."""
