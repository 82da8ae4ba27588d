"""`ridgeline estimate`: a question about a model's cost, its answer, and how that is shown."""
