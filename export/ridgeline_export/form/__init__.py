"""The form of a compressed model: what its weights leave out, share or approximate, and how it is opened again."""
