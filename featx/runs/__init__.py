"""The folder of results: its split, its bundles, the best of them."""
