"""Attention: exact attention is replaced by one whose cost grows with the length of a text, not with its square."""
