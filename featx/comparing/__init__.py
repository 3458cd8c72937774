"""Data sets, backbones, layers, heads and fine-tuning in one table."""
