"""Generate `featx.api.keywords`, `section_keywords` and `trained_keywords` for editors and type checkers.

    python -m featx.api.generate

It is run whenever an option changes; a test compares the files with what this writes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args

from featx.api.options import (
    COMPARE,
    DRIFT,
    ENOUGH,
    EVALUATE,
    EXTRACT,
    FINETUNE,
    FIT_HEAD,
    MAP,
    NEXT,
    PREPARED,
    READ_FEATURES,
)
from featx.config import SECTIONS, Section, TrainingOptions, help_of, types_of
from featx.config.bounds import Hint, origin_of, without_bounds, without_none
from featx.config.option import Also, Known
from featx.io.files import write_atomic

FOLDER = Path(__file__).parent
FUNCTIONS: Mapping[str, Sequence[str]] = {
    "ExtractKeywords": EXTRACT,
    "ReadFeaturesKeywords": READ_FEATURES,
    "FitHeadKeywords": FIT_HEAD,
    "TuneKeywords": FINETUNE,
    "EvaluateKeywords": EVALUATE,
    "NextImagesKeywords": NEXT,
    "FindEnoughKeywords": ENOUGH,
    "CompareModelsKeywords": COMPARE,
    "FindDriftKeywords": DRIFT,
    "DrawMapKeywords": MAP,
}
_HEADER = '''\
"""The options of {}as keywords, for editors and type checkers.

Written by `python -m featx.api.generate` from `featx.config`. Do not edit.
"""

from __future__ import annotations

'''
_TYPES = """\
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict
"""
_WIDTH = 120
_ARGUMENTS = {("DataKeywords", "path"), ("CompareKeywords", "data")}  # which functions take without a keyword


def keyword_modules() -> dict[str, str]:
    """The modules by name, as `ruff format` leaves them."""
    taken = list(dict.fromkeys(section for sections in FUNCTIONS.values() for section in sections))
    trained = [name for name in taken if _trains(name)]
    functions = [
        _HEADER.format("functions ")
        + _imported("section_keywords", [name for name in taken if name not in trained])
        + _imported("trained_keywords", trained),
        *(_function_class(name, sections) for name, sections in FUNCTIONS.items()),
    ]
    sections = [
        _HEADER.format("the sections ") + _TYPES,
        _section_class("PreparedKeywords", "TypedDict", SECTIONS["features"], _others(SECTIONS["features"], PREPARED)),
        *(_class_of(name, SECTIONS[name]) for name in taken if name not in trained),
    ]
    training = [
        _HEADER.format("the sections that train ") + _TYPES,
        _section_class("TrainingKeywords", "TypedDict", TrainingOptions, frozenset()),
        *(_class_of(name, SECTIONS[name]) for name in trained),
    ]
    return {
        "keywords.py": "\n\n".join(functions),
        "section_keywords.py": "\n\n".join(sections),
        "trained_keywords.py": "\n\n".join(training),
    }


def _trains(section: str) -> bool:
    return issubclass(SECTIONS[section], TrainingOptions)


def _imported(module: str, sections: Sequence[str]) -> str:
    """The import of the classes of sections, as `ruff format` leaves it."""
    names = sorted(map(_class_name, sections))
    line = f"from featx.api.{module} import {', '.join(names)}\n"
    if len(line) <= _WIDTH:
        return line
    listed = ",\n    ".join(names)
    return f"from featx.api.{module} import (\n    {listed},\n)\n"


def _class_of(name: str, section: type[Section]) -> str:
    """The class of a section; what others take as well, as those that train do, is in a class of its own."""
    if name == "features":
        return _section_class(_class_name(name), "PreparedKeywords", section, frozenset(PREPARED))
    trains = issubclass(section, TrainingOptions)
    shared = frozenset(entry.name for entry in fields(TrainingOptions)) if trains else frozenset[str]()
    base = "TrainingKeywords" if trains else "TypedDict"
    return _section_class(_class_name(name), base, section, shared)


def _section_class(name: str, base: str, section: type[Section], without: frozenset[str]) -> str:
    listed = [one for one in fields(section) if one.name not in without and (name, one.name) not in _ARGUMENTS]
    entries = [_entry(section, one) for one in listed]
    return f'class {name}({base}, total=False):\n    """{_first_line(section)}"""\n\n' + "".join(entries)


def _others(section: type[Section], names: Sequence[str]) -> frozenset[str]:
    return frozenset(entry.name for entry in fields(section)) - set(names)


def _function_class(name: str, sections: Sequence[str]) -> str:
    bases = ", ".join(_class_name(section) for section in sections)
    listed = f"{', '.join(sections[:-1])} and {sections[-1]}" if len(sections) > 1 else sections[0]
    plural = "s" if len(sections) > 1 else ""
    head = f"class {name}({bases}, total=False):"
    if len(head) > _WIDTH:
        head = head.replace("(", "(\n    ").replace("):", "\n):")
    return f'{head}\n    """Options of the section{plural} {listed}."""\n'


def _class_name(section: str) -> str:
    return f"{section.capitalize()}Keywords"


def _first_line(section: type[Section]) -> str:
    return str(section.__doc__).partition("\n")[0]


def _entry(section: type[Section], option: Field[Any]) -> str:
    """A key with its type, and its help as editors show it."""
    shown = textwrap.fill(
        f'"""{help_of(section, option)}"""',
        _WIDTH,
        initial_indent="    ",
        subsequent_indent="    ",
        break_on_hyphens=False,
    )
    line = f"    {option.name}: {keyword_type(types_of(section)[option.name])}"
    if len(line) > _WIDTH:
        line = line.replace("Literal[", "Literal[\n        ").replace("]", "\n    ]")
    return f"{line}\n{shown}\n"


def keyword_type(hint: Hint) -> str:
    """The type of an option as it is written in Python: a list for a tuple, one layer without brackets, a `Path`."""
    kind = without_none(hint)
    known = next((one.values for one in get_args(kind) if isinstance(one, Known)), None)
    if known is not None:  # editors offer these; a plug-in's name is a str to them
        return _written(Literal[known], ())[0]
    optional = " | None" if NoneType in get_args(hint) else ""
    return (
        " | ".join(_written(without_bounds(kind), [one.kind for one in get_args(kind) if isinstance(one, Also)]))
        + optional
    )


def _written(kind: Hint, also: Sequence[type]) -> list[str]:
    origin, items = origin_of(kind), get_args(kind)
    if origin is Literal:
        return [f"Literal[{', '.join(f'{item!r}'.replace(chr(39), chr(34)) for item in items)}]"]
    if origin is dict:
        return ["Mapping[str, object]"]
    if origin is tuple:
        item = _written(without_bounds(items[0]), ())[0]
        return [*([item] if Ellipsis in items else []), f"Sequence[{item}]"]
    own = "str" if issubclass(kind, str) else kind.__name__
    return [own, *("Sequence[float]" if one is tuple else one.__name__ for one in also)]


if __name__ == "__main__":
    for name, text in keyword_modules().items():
        write_atomic(FOLDER / name, text)
