"""Calls of the public functions at shapes that matter, for the compile sweep, the tuner and the benchmarks.

One module an op family; each holds `CASES`, a tuple of `Case`.
"""
