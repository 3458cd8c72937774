"""Numbers and names in sentences for people."""

from __future__ import annotations

import re
from collections.abc import Sequence, Sized
from typing import TYPE_CHECKING

from featx.metrics.digits import exact_text

if TYPE_CHECKING:
    from featx.report.standing import Standing

_PARTS = {"test": "test ", "val": "validation ", "train": "training ", "all": "", "": ""}
_PLAIN = re.compile(r"[^\W\d_][\w\- ]*[^\W_]|[^\W\d_]")  # a name that a sentence can hold without quotes


def counted_images(found: Standing) -> str:
    """`45 test images`, `1 image`, `45 images of holidays`."""
    kind = _PARTS.get(found.part)
    noun = f"{kind or ''}{'image' if found.images == 1 else 'images'}"
    return f"{found.images:,} {noun}" + (f" of {named(found.part)}" if kind is None else "")


def named(name: str) -> str:
    """A name in a sentence: in quotes where it could be taken for something else, such as a number."""
    return name if _PLAIN.fullmatch(name) else f"'{name}'"


def percent(share: float, digits: int = 0) -> str:
    """A share in percent; 100 and 0 are what is exactly so, and everything else has the digits that it needs."""
    return f"{100 * share:.0f}" if min(share, 1 - share) < 1e-9 else exact_text(share, digits, 2)


def first_of(listed: Sized, most: int) -> str:
    """Which of a list are shown: all 12, or the first 36 of 177."""
    number = len(listed)
    if number == 1:
        return "the only one"
    return f"all {number:,}" if number <= most else f"the first {most:,} of {number:,}"


def a_few(names: Sequence[str], most: int) -> str:
    """`a, b, c and 12 more`."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
