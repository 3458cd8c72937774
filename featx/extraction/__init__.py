"""The heavy stage: images x backbone -> feature store, each image once."""
