"""`ridgeline tune`: times the ways to run a bundle on this machine, and keeps the best for `serve`."""
