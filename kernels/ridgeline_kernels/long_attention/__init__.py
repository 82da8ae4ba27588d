"""Attention that costs less than the square of the length: low-rank, hashed, block-sparse, local and global."""
