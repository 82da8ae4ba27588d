"""What a compression cost and gained: measured, side by side, and any number of them in one plot."""
