"""docs/tutorial.md from top to bottom: its commands and its Python are run, and what it says they print is compared."""

from __future__ import annotations

import ast
import io
import re
import shlex
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from fitted import call

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {"tutorial.md": {"console", "python", "yaml"}, "from-100-to-1000.md": {"console", "python"}}


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of every fenced block, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def agrees(expected: str, printed: str) -> bool:
    """Whether a line is what the page shows; `...` stands for anything."""
    pattern = ".*".join(map(re.escape, expected.strip().split("...")))
    return re.fullmatch(pattern, printed.strip()) is not None


def run_console(block: str, folder: Path) -> None:
    """Run the commands of a block; the lines shown after each must be among its output, in their order."""
    for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, flags=re.MULTILINE):
        program, *arguments = shlex.split(command)
        assert program == "featx", f"the page runs {program}"
        done = call(*arguments, cwd=folder)
        assert done.status == 0, f"{command}\n{done.err}"
        lines = iter([*done.err.splitlines(), *done.out.splitlines()])
        for expected in shown.splitlines():
            assert any(agrees(expected, line) for line in lines), (
                f"{command}\n{expected!r} not in\n{done.err}{done.out}"
            )


def run_python(block: str, names: dict[str, Any]) -> None:
    """Run a block; what `print(...)  # like this` prints must be what its comment says."""
    lines = block.splitlines()
    for statement in ast.parse(block).body:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(ast.Module([statement], []), "<page>", "exec"), names)
        last = lines[(statement.end_lineno or 1) - 1]
        if last.startswith("print("):
            expected = last.partition("  # ")[2]
            assert agrees(expected, printed.getvalue()), f"{last}\nprinted {printed.getvalue()}"


@pytest.fixture(scope="module")
def caches() -> list[Path]:
    """Those that pages have left, the earliest first."""
    return []


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_tutorial_works_as_it_stands(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caches: list[Path]
) -> None:
    """What the first page has computed of the digits, the others find."""
    monkeypatch.chdir(tmp_path)
    if caches:
        shutil.copytree(caches[0], tmp_path / "cache")
    names: dict[str, Any] = {}
    ran = set()
    for language, block in blocks((DOCS / page).read_text(encoding="utf-8")):
        ran.add(language)
        if language == "console":
            run_console(block, tmp_path)
        elif language == "python":
            run_python(block, names)
        else:
            (tmp_path / block.splitlines()[0].removeprefix("# ")).write_text(block)
    assert ran == PAGES[page]
    caches.append(tmp_path / "cache")


@pytest.mark.parametrize(
    ("shown", "printed", "same"), [("a ... c", "a b c", True), ("a", "b", False), ("...", "", True)]
)
def test_the_runner_compares_lines(shown: str, printed: str, same: bool, tmp_path: Path) -> None:
    assert agrees(shown, printed) is same
    with pytest.raises(AssertionError, match="nobody says this"):
        run_console("$ featx --version\nnobody says this\n", tmp_path)
    with pytest.raises(AssertionError, match="printed 2"):
        run_python("print(1 + 1)  # 3\n", {})
