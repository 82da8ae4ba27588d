"""How fast every op is on the GPU at hand: against the ceilings measured in the same run, and against others' code."""
