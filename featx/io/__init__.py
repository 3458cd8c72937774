"""Files, digests, the index, URLs, file types: what every room may use."""
