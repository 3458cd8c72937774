"""A bundle for other runtimes."""
