"""The feature store: HDF5 on disk, addressed by content."""
