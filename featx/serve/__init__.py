"""One bundle as a web page and an HTTP interface."""
