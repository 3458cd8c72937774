"""Heads: classifiers that are fitted on cached features."""
