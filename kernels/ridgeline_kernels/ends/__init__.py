"""The ends of a model: pooling, classification and span heads."""
