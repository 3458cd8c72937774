"""Measures of predictions, their intervals, and comparisons."""
