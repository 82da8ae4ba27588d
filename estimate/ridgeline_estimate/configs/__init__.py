"""What config.json files say, and what they leave to transformers' classes."""
