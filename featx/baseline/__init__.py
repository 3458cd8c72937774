"""A small network trained from scratch, to show what the backbone is worth."""
