"""Numbers with their nouns and units, and agreement of words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: 1 image, 1,200 images. many : where it is not `one` with an s."""
    return f"{number:,} {agreeing(number, one, many or f'{one}s')}"


def counted_of(part: int, whole: int, one: str, many: str = "") -> str:
    """A part of so many: 3 of 45 images, 1 of 1 image. many : where it is not `one` with an s."""
    return f"{part:,} of {counted(whole, one, many)}"


def agreeing(number: float, one: str, many: str) -> str:
    """The word that agrees with a number: is or are, image or images."""
    return one if number == 1 else many


def none_of(number: int, one: str) -> str:
    """None of so many, before a verb in the singular: None of the 45 images, and of one alone: No image."""
    return f"No {one}" if number == 1 else f"None of the {number:,} {one}s"


def enumerated(names: Sequence[str], most: int = 0) -> str:
    """Names in a sentence: one; one and another; one, another and a third.

    most : of more names only so many, and how many more there are; 0: all
    """
    *before, last = [*names[:most], f"{len(names) - most:,} more"] if 0 < most < len(names) else names
    return f"{', '.join(before)} and {last}" if before else last


def total_of(values: Iterable[float | None]) -> float | None:
    """The sum; None where any of them is not known."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if len(known) == len(found) else None


def duration(seconds: float) -> str:
    """Seconds in the unit that one would say them in: 40 s, 25 min, 3.5 h."""
    if seconds < 600:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"
