"""Decode, resize, batch and alter images."""

from __future__ import annotations

from featx.images.decoder import decode
from featx.images.fault import BadImage

__all__ = ["BadImage", "decode"]
