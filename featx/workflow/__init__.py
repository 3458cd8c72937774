"""The stages in order: prepare, fit, publish, run."""
