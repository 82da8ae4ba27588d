"""Texts, with labels or without, for training, validation and quality; no text is for two of them."""
