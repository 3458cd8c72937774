"""A first look at a data set."""
