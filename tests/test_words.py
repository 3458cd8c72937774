"""Texts that a user can meet avoid the phrases that CONTRIBUTING ("How we write") names."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import click
import pytest

import featx
from featx.cli.app import cli

ROOT = Path(featx.__file__).parent
PATTERNS = {
    "programs show, print, return and report": r"\b(tells?|told)\b",
    "X is not a Y": r"(?<!there )\b(is|are) no (?!longer\b)[a-z]",
    "idiom": r"\b(by heart|speaks? for|hold good|such as it is|nobody answers|makes other pixels)\b",
    "bug": r"\ba mistake in featx\b",
    "is not among": r"\b(is|are) none of (the|these)\b",
    "X is a file, but a folder is needed": r"has to be a (file|folder), and it is",
}


@cache
def texts_of(path: Path) -> list[tuple[int, str]]:
    """Return (line, text) of every string of a module that is not a docstring and has several words."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    inside = {id(part) for node in joined for part in ast.walk(node)} - {id(node) for node in joined}
    found = [(node.lineno, re.sub(r"\{[^{}]*\}", "X", ast.unparse(node)[2:-1])) for node in joined]
    for node in ast.walk(tree):
        text = getattr(node, "value", None)
        if isinstance(node, ast.Constant) and isinstance(text, str) and id(node) not in docstrings | inside:
            found.append((node.lineno, text))
    return [(line, text) for line, text in found if len(text.split()) > 2]


def commands(group: click.Command, name: str = "featx") -> list[tuple[str, click.Command]]:
    """Return the commands of a group and of those in it, by what is typed."""
    if not isinstance(group, click.Group):
        return [(name, group)]
    context = click.Context(group, info_name=name)
    below = [(one, group.get_command(context, one)) for one in group.list_commands(context)]
    return [(name, group), *(pair for one, found in below if found for pair in commands(found, f"{name} {one}"))]


@pytest.mark.parametrize("reason", PATTERNS)
def test_messages_and_pages_avoid(reason: str) -> None:
    pattern = re.compile(PATTERNS[reason], re.IGNORECASE)
    modules = [path for path in ROOT.rglob("*.py") if not path.name.endswith("keywords.py")]
    texts = [(path, line, text) for path in modules for line, text in texts_of(path)]
    pages = [path for suffix in ("*.html", "*.js") for path in ROOT.rglob(suffix)]
    texts += [(path, at, line) for path in pages for at, line in enumerate(path.read_text().splitlines(), 1)]
    assert len(texts) > 1000
    found = [f"{path.relative_to(ROOT)}:{line}: {text}" for path, line, text in texts if pattern.search(text)]
    assert not found


def test_documentation_avoids_them_too() -> None:
    repository = ROOT.parent
    pages = [
        *(repository / "docs").rglob("*.md"),
        *(repository / name for name in ("README.md", "pipelines/README.md")),
    ]
    patterns = [PATTERNS[one] for one in ("programs show, print, return and report", "idiom", "bug")]
    texts = [(page.name, at, line) for page in pages for at, line in enumerate(page.read_text().splitlines(), 1)]
    assert len(texts) > 1000
    assert not [one for one in texts for pattern in patterns if re.search(pattern, one[2], re.IGNORECASE)]


def test_help_begins_with_the_thing_and_ends_with_a_full_stop() -> None:
    options = [
        (name, option.opts[-1], option.help or "")
        for name, command in commands(cli)
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
    ]
    assert len(options) > 100
    assert not [one for one in options if not re.search(r"[.\])]$", one[2].strip())]
    assert not [one for one in options if re.match(r"(Of|Which|What|How|Whether|From which|So many)\b", one[2])]
    assert not [one for name, command in commands(cli) if (one := (name, command.help)) and not command.help]


def test_the_patterns_find_what_they_are_for() -> None:
    wrong = {
        "programs show, print, return and report": "Tell the class of images.",
        "X is not a Y": "X is no bundle.",
        "idiom": "Which places speak for a class",
        "bug": "This is a mistake in featx: see -v.",
        "is not among": "a.png is none of the 12 images of flowers.",
        "X is a file, but a folder is needed": "out has to be a folder, and it is a file.",
    }
    assert {
        reason: bool(re.search(PATTERNS[reason], text, re.IGNORECASE)) for reason, text in wrong.items()
    } == dict.fromkeys(PATTERNS, True)
    assert not re.search(PATTERNS["X is not a Y"], "It is no longer there.")
