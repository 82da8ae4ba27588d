"""ONNX's standard ops (opset 20) on torch tensors, of whatever device: one module for each family of ops."""
