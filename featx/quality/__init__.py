"""What features reveal about the data: label errors, near-duplicates, outliers, similar images."""
