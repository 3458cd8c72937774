"""The report: one HTML file that shows how good a model is, where it fails, and what made it."""
