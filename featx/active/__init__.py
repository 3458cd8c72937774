"""After the first model: which images to label next, how many more, where the data is and whether it drifts."""
