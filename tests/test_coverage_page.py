"""docs/seeds-coverage.md names only tests, options and commands that exist, and leaves no row out."""

from __future__ import annotations

import re
from configparser import ConfigParser
from dataclasses import fields
from pathlib import Path

from featx.cli.app import cli
from featx.config import SECTIONS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "seeds-coverage.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\| [A-F]\d+ .*$", PAGE, re.M)]
LAST = {"A": 17, "B": 9, "C": 12, "D": 19, "E": 7, "F": 6}


def test_every_row_is_there_once_and_in_order() -> None:
    assert [row[0] for row in ROWS] == [f"{letter}{n}" for letter, last in LAST.items() for n in range(1, last + 1)]
    text = (ROOT / "pipelines" / "README.md").read_text(encoding="utf-8")
    assert {row[0] for row in ROWS} == set(re.findall(r"\b([A-F]\d+)\b", text))


def test_what_works_is_shown_by_tests_that_exist() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").glob("test_*.py")))
    known = set(re.findall(r"^def (test_\w+)\(", source, re.M))
    for row in ROWS:
        state, tests = row[2], re.findall(r"`(test_\w+)`", row[4])
        assert state in {"yes", "partly", "no"}, row[0]
        assert tests or state != "yes", row[0]
        assert set(tests) <= known, (row[0], set(tests) - known)


def test_keys_and_commands_exist() -> None:
    for text in (PAGE, (ROOT / "pipelines" / "README.md").read_text(encoding="utf-8")):
        for section, key in re.findall(r"`(data|features|augment|head|finetune|report)\.(\w+)", text):
            assert key in {entry.name for entry in fields(SECTIONS[section])}, f"{section}.{key}"
        for command in re.findall(r"`featx ([\w-]+)", text):
            assert command in cli.list_commands(None), command  # type: ignore[arg-type]


def test_the_layout_is_that_of_the_card() -> None:
    for name in ("setup.cfg", "featx", "pipelines", "cache", "tests", "Makefile"):
        assert (ROOT / name).exists()
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needed = re.findall(r"^([\w-]+)", setup["options"]["install_requires"], re.M)
    assert {"tensorflow", "h5py", "scikit-learn", "numpy", "joblib", "click", "pillow"} <= set(needed)
    assert "featx = featx.cli:main" in setup["options.entry_points"]["console_scripts"]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert {"features", "test"} <= set(targets)
