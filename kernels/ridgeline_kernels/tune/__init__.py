"""The offline tuner: which launch parameters are the fastest on the GPU at hand."""
