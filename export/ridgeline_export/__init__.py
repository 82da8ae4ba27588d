"""From a Hugging Face model to a Ridgeline bundle."""
