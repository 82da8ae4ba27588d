"""What the tuner and the benchmarks share: timing, judging results, and surviving kernels that crash or hang."""
