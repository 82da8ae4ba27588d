"""One file per task: how its outputs are pooled, scored and shaped into an answer."""
