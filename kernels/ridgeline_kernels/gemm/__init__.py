"""Linear layers in 16 and 8 bits with their epilogues."""
