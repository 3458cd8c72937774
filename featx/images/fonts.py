"""Fonts for names in pictures: matplotlib's own, and others for letters that it lacks."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

_OWN = "DejaVu Sans"
_FIRST = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "PingFang SC", "Microsoft YaHei", "Malgun Gothic"),
    *("WenQuanYi Zen Hei", "Droid Sans Fallback", "Arial Unicode MS"),
)
# first letter of a range -> the Debian package that has a font for it; from the last range to the first
_PACKAGES = (("\U0001f000", "fonts-symbola"), ("\u2e80", "fonts-noto-cjk"), ("\0", "fonts-noto-core"))
_logger = logging.getLogger(__name__)


@contextmanager
def fonts_for(names: Iterable[str]) -> Iterator[None]:
    """Draw text in fonts that have the letters of these names; letters of no installed font become boxes, unwarned."""
    import matplotlib

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it warns of weights that a font lacks
    letters = frozenset(letter for name in names for letter in name if not letter.isascii() and letter.isprintable())
    with matplotlib.rc_context({"font.family": [_OWN, *_more_fonts(letters)]}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        yield


@cache
def _more_fonts(letters: frozenset[str]) -> tuple[str, ...]:
    """The installed fonts that have letters which matplotlib's own lacks, as few as that takes."""
    from matplotlib import font_manager

    missing = {letter for letter in letters if not _letters(font_manager.findfont(_OWN), frozenset(letter))}
    found: list[str] = []
    if missing:
        rank = {name: place for place, name in enumerate(_FIRST)}
        for entry in sorted(font_manager.fontManager.ttflist, key=lambda entry: rank.get(entry.name, len(rank))):
            has = _letters(entry.fname, frozenset(missing)) if entry.name not in found else frozenset()
            if has:
                found.append(entry.name)
                missing -= has
            if not missing:
                break
    if missing:
        _note_missing(min(missing))
    return tuple(found)


@cache
def _letters(file: str, wanted: frozenset[str]) -> frozenset[str]:
    """Which of these letters a font file has."""
    from matplotlib.font_manager import get_font

    try:
        font = get_font(file)
    except (OSError, RuntimeError):  # a font that FreeType cannot read
        return frozenset()
    return frozenset(letter for letter in wanted if font.get_char_index(ord(letter)))


@cache
def _note_missing(letter: str) -> None:
    package = next(name for start, name in _PACKAGES if letter >= start)
    _logger.warning(
        "No installed font has the letter %s (U+%04X), so that it is a box in pictures. Install one: the package %s of "
        "Debian and Ubuntu has it.",
        letter,
        ord(letter),
        package,
    )
