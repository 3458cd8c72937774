"""Choosing: strengths, heads, layers and poolings, thresholds."""
