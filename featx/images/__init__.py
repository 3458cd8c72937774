"""Decode, resize, batch and alter images."""

from __future__ import annotations

from featx.images.decoder import BadImage, decode

__all__ = ["BadImage", "decode"]
