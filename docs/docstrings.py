"""An extension of Griffe, which reads docstrings for the site: what a parameter means is not its type.

Docstrings here say `name : meaning`, since the types are in the signature. In numpydoc's grammar the meaning stands
below the name.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_SECTION = re.compile(r"(?:(?<=^Parameters\n----------\n)|(?<=^Attributes\n----------\n)).*?(?=\n\n|\Z)", re.M | re.S)
_ENTRY = re.compile(r"^(\*{0,2}\w[\w, *]*) : (.*)$", re.M)


class Meanings(griffe.Extension):
    """Moves the meaning of every parameter to where numpydoc has it."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a function or class."""
        if obj.docstring is not None:
            obj.docstring.value = _SECTION.sub(lambda found: move_meanings(found[0]), obj.docstring.value)


def move_meanings(section: str) -> str:
    """`name : meaning` as a line with the name and a line with the meaning."""
    return _ENTRY.sub(r"\1\n    \2", section)
