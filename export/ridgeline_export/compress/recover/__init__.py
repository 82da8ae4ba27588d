"""The training loop under every method that trains."""
