"""A small network from scratch, to see what the backbone is worth."""
