"""`ridgeline compress`: smaller models that are measurably faster, and what that cost."""
