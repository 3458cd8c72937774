"""Labels of a CSV that are most likely several in one cell, and what separates them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from featx.io.counting import agreeing, counted

_MARKS = ("|", ";", ",", "/", "+", "&", "$", "#", " ")


def describe_several(classes: Sequence[str], source: str, separator: str | None) -> tuple[str, ...]:
    """A sentence where classes look like several labels in one cell, which would be a class for every combination.

    separator : the one that the cells were split at, which may be the wrong one; None: they were not split

    Examples
    --------
    >>> describe_several(["cat|pet", "dog|pet", "cat", "dog"], "list.csv", None)[0]
    "2 classes of list.csv, such as 'cat|pet', look like several labels. If they are: --label-separator '|'"
    >>> describe_several(["fruit/apple", "fruit/pear", "nut"], "list.csv", None)
    ()
    """
    names = {name.strip() for name in classes} - {""}
    found = next(((mark, joined) for mark in _MARKS if mark != separator and (joined := _joined(names, mark))), None)
    if found is None:
        return ()
    mark, joined = found
    look = agreeing(len(joined), "looks", "look")
    what = (
        f"{counted(len(joined), 'class', 'classes')} of {source}, such as {min(joined)!r}, {look} like several labels"
    )
    return (f"{what}. If they are: --label-separator {mark!r}",)


def _joined(names: Collection[str], mark: str) -> list[str]:
    """Names whose parts recur among the others; none where this may be chance."""
    parts = {name: [part.strip() for part in name.split(mark)] for name in names}
    uses = Counter(part for some in parts.values() for part in set(some))
    several = [name for name in names if len(parts[name]) > 1]
    recurring = [name for name in several if "" not in parts[name] and all(uses[part] > 1 for part in parts[name])]
    if not recurring or 2 * len(recurring) < len(several):
        return []
    known = {part for name in recurring for part in parts[name]}
    if mark == " ":  # names of two words recur as well: only where there are fewer words than names, of any number
        lengths = {len(parts[name]) for name in recurring}
        return recurring if len(lengths) > 1 and len(recurring) >= 2 * len(known) else []
    return recurring if len(recurring) > 1 or known <= set(names) else []
