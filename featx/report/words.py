"""Numbers and names in sentences for people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featx.metrics.digits import rounded

if TYPE_CHECKING:
    from featx.report.standing import Standing

_PARTS = {"test": "test ", "val": "validation ", "train": "training ", "all": "", "": ""}
_PLAIN = re.compile(r"[^\W\d_][\w\- ]*[^\W_]|[^\W\d_]")  # a name that a sentence can hold without quotes
_MOST_DIGITS = 6


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
    if min(share, 1 - share) < 1e-9:
        return f"{100 * share:.0f}"
    while digits < _MOST_DIGITS and rounded(share, digits, 2) in {0, 100}:
        digits += 1
    return f"{rounded(share, digits, 2):.{digits}f}"


def a_few(names: Sequence[str], most: int) -> str:
    """`a, b, c and 12 more`."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
