"""Weights that are used more than once: by several layers, or by the first layer and the last."""
