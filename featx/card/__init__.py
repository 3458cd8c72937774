"""The model card of a bundle, from its manifest alone."""
