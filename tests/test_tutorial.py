"""Tutorials from top to bottom: their commands and their Python are run, and what they say these print is compared."""

from __future__ import annotations

import ast
import gzip
import io
import re
import shlex
import struct
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import call
from sklearn.datasets import load_digits

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {"tutorial.md": {"console", "python", "yaml"}, "from-100-to-1000.md": {"console", "python"}}
FASHION = Path("/usr/share/datasets/fashion-mnist")
PARTS = {"train": 320, "t10k": 120}
SMALLER = {  # what the pages say of many images -> of few; reports are drawn of one head, and where the page names one
    "tutorial.md": {
        'clf="logreg")': 'clf="logreg", html=False)',
        "--epochs 1 --from": "--no-html --epochs 1 --from",
        "--clf ridge\n": "--clf ridge --no-html\n",
    },
    "from-100-to-1000.md": {
        str(FASHION): "source",
        "70,000 images": "440 images",
        ", 4000)": ", 300)",
        "# 4000": "# 300",
        ", 2000)": ", 100)",
        "--split 0.8,0.2,0\n": "--split 0.8,0.2,0 --no-html\n",
        "--count 100": "--count 40",
        "# 100\n": "# 40\n",
        "(100, 200, 600, 0)": "(20, 40, 60, 0)",
        "{100: 0..., 200: 0..., 400: 0..., 1000: 0...}": "{40: 0..., 60: 0..., 100: 0..., 160: 0...}",
    },
}


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


def write_few(folder: Path) -> None:
    """A few images in the files of Fashion-MNIST: its own, or, where it is not installed, digits."""
    folder.mkdir()
    x, y = load_digits(return_X_y=True)
    digits = np.pad(np.kron(x.reshape(-1, 8, 8) * 15, np.ones((3, 3))), ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    start = 0
    for part, count in PARTS.items():
        names = (f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz")
        rows = slice(start, start + count)
        content = [digits[rows].tobytes(), y[rows].astype(np.uint8).tobytes()]
        if FASHION.is_dir():
            sizes, heads = (784 * count, count), (16, 8)
            for place, (name, size, head) in enumerate(zip(names, sizes, heads, strict=True)):
                with gzip.open(FASHION / name) as file:
                    content[place] = file.read(head + size)[head:]
        with gzip.open(folder / names[0], "wb", compresslevel=1) as file:
            file.write(struct.pack(">4i", 2051, count, 28, 28) + content[0])
        with gzip.open(folder / names[1], "wb", compresslevel=1) as file:
            file.write(struct.pack(">2i", 2049, count) + content[1])
        start += count


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_tutorial_works_as_it_stands(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer images than the page has, where it has many, and without the reports that it does not speak of."""
    monkeypatch.chdir(tmp_path)
    text = (DOCS / page).read_text(encoding="utf-8")
    smaller = SMALLER.get(page, {})
    for many, few in smaller.items():
        assert many in text, f"the page has no {many!r}"
        text = text.replace(many, few)
    if str(FASHION) in smaller:
        write_few(tmp_path / "source")
    names: dict[str, Any] = {}
    ran = set()
    for language, block in blocks(text):
        ran.add(language)
        if language == "console":
            run_console(block, tmp_path)
        elif language == "python":
            run_python(block, names)
        else:
            (tmp_path / block.splitlines()[0].removeprefix("# ")).write_text(block)
    assert ran == PAGES[page]
    for found in (names[one] for one in ("chosen", "chance") if one in names):
        assert list(found) == [40, 60, 100, 160]
        assert found[160] > 0.6


@pytest.mark.parametrize(
    ("shown", "printed", "same"), [("a ... c", "a b c", True), ("a", "b", False), ("...", "", True)]
)
def test_the_runner_compares_lines(shown: str, printed: str, same: bool, tmp_path: Path) -> None:
    assert agrees(shown, printed) is same
    with pytest.raises(AssertionError, match="nobody says this"):
        run_console("$ featx --version\nnobody says this\n", tmp_path)
    with pytest.raises(AssertionError, match="printed 2"):
        run_python("print(1 + 1)  # 3\n", {})
