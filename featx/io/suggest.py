"""The nearest known name to a mistyped one."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "", *, most: int = 1) -> str:
    """What follows a sentence about an unknown name, with a space before it: ` Did you mean 'x' or 'y'?`.

    Parameters
    ----------
    otherwise : what follows where no known name is near
    most : how many names are offered, at most
    """
    from difflib import get_close_matches

    by_lower: dict[str, str] = {}
    for name in known:
        by_lower.setdefault(name.lower(), name)
    near = [repr(by_lower[name]) for name in get_close_matches(word.lower(), by_lower, n=most)]
    if near:
        return f" Did you mean {' or '.join(near)}?"
    return f" {otherwise}" if otherwise else ""
