"""Numbers with their nouns."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: 1 image, 1,200 images. many : where it is not `one` with an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
