"""Files, digests, the index, URLs, file types: for every room."""
