"""What comes after the first model: which images to label next."""
