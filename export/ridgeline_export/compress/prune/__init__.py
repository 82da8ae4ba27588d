"""Pruning: what a model can do without is removed, from single weights to whole layers."""
