"""Names of classes that are alike: one class, most likely, that was spelt in two ways."""

from __future__ import annotations

import re
from collections.abc import Sequence

from featx.io.counting import counted, enumerated

_NAMED = 3  # sets of names that a sentence lists
_NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d{1,15})?")


def describe_alike(classes: Sequence[str]) -> list[str]:
    """A sentence where names of classes differ only in case, in what is between words, or in how a number is written.

    Examples
    --------
    >>> describe_alike(["Rose", "rose", "tulip"])
    ["The classes 'Rose' and 'rose' have nearly the same name. If they are one class, give it one name."]
    """
    alike = dict[object, list[str]]()
    for name in classes:
        alike.setdefault(_folded(name), []).append(name)
    sets = [enumerated(list(map(repr, names))) for names in alike.values() if len(names) > 1]
    if not sets:
        return []
    if len(sets) == 1:
        return [f"The classes {sets[0]} have nearly the same name. If they are one class, give it one name."]
    rest = f"; and {counted(len(sets) - _NAMED, 'set')} more" if len(sets) > _NAMED else ""
    listed = f"{'; '.join(sets[:_NAMED])}{rest}"
    return [f"Several classes have nearly the same name ({listed}). Where they are one class, give it one name."]


def _folded(name: str) -> str | float:
    """What names that are alike have in common."""
    text = name.strip()
    return float(text) if _NUMBER.fullmatch(text) else re.sub(r"[\s_-]+", " ", text).strip().casefold()
