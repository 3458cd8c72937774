"""The known name nearest to a mistyped one."""

from __future__ import annotations

from collections.abc import Iterable

_MOST_WRONG = 0.4  # of the letters of the longer name; with more of them wrong, two names have little in common
_LEAST_PART = 4  # letters from which on a word that a name contains is a hint at it


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
    typed = word.lower()
    alike = [name for name in by_lower if _is_near(typed, name)]
    near = [repr(by_lower[name]) for name in get_close_matches(typed, alike, n=most)]
    if near:
        return f" Did you mean {' or '.join(near)}?"
    return f" {otherwise}" if otherwise else ""


def _is_near(word: str, name: str) -> bool:
    """Whether one contains the other, or few letters are wrong: the same word behind another one is not enough."""
    short, long = sorted((word, name), key=len)
    if len(short) >= _LEAST_PART and short in long:
        return True
    return _count_wrong(word, name) <= _MOST_WRONG * len(long)


def _count_wrong(one: str, other: str) -> int:
    """Letters to insert, to leave out, to replace, or neighbours to swap (optimal string alignment)."""
    earlier: list[int] = []
    before = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        now = [i]
        for j, wanted in enumerate(other, 1):
            least = min(before[j] + 1, now[-1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                least = min(least, earlier[j - 2] + 1)
            now.append(least)
        earlier, before = before, now
    return before[-1]
