"""What features say about the data: label errors, near-duplicates, outliers, similar images."""
