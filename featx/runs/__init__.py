"""The results folder of a run: its split, its bundles, the best of them."""
