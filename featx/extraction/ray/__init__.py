"""The heavy stage on a cluster: a coordinator that plans, workers that write parts of their own."""
