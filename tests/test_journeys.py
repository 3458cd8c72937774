"""Three kinds of work from an installed wheel in an empty folder, by what the README and the help print, and no more.

Somebody sorts photographs; somebody reproduces a walk-through; a company works through many images. Commands are read
from the README and from what commands print; whatever else is typed is looked for in the help first. The network is
converted once: the later journeys begin with what the first left in its cache.
"""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import environment
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COLOURS = {"daisy": (225, 215, 90), "rose": (190, 40, 60), "tulip": (120, 60, 180)}

# Runs command lines as a shell would, and blocks of Python, each list of them in a folder, in one process: what is
# imported is imported once. "follow" runs what the commands before have suggested.
DRIVER = r"""
import contextlib, glob, io, json, os, re, shlex, sys
from featx.cli.app import main
import featx

def run(line):
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if "\n" in line:
                exec(line, {})
            else:
                typed = shlex.split(line, comments=True)
                words = [name for word in typed for name in sorted(glob.glob(word)) or [word]]
                assert words[0] == "featx", line
                main(words[1:])
        except SystemExit as end:
            status = int(end.code or 0)
    return [line, status, out.getvalue(), err.getvalue()]

def run_all(lines):
    answers = []
    for line in lines:
        if line == "follow":
            suggested = [found for one in answers for found in re.findall(r"(?m)(?:^|\s)(featx [a-z-]+ \S.*)$", one[2])]
            answers += [run(found) for found in suggested]
        else:
            answers.append(run(line))
    return answers

told = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever else is printed is no answer
for asked in sys.stdin:
    folder, lines = json.loads(asked)
    os.chdir(folder)
    print(json.dumps([featx.__file__, run_all(lines)]), file=told, flush=True)
"""


class Installed:
    """The wheel's featx in a process, which runs lines in one folder after the other."""

    def __init__(self, site: Path, errors: Path) -> None:
        self.site, self._errors = site, errors
        with open(errors, "w") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-c", DRIVER],
                cwd=errors.parent,
                env=environment(PYTHONPATH=str(site), OMP_NUM_THREADS="1"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )

    def ask(self, folder: Path, lines: Sequence[str]) -> list[tuple[str, int, str, str]]:
        """Each line, its status, and what it printed on stdout and stderr."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([str(folder), lines]), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, self._errors.read_text(encoding="utf-8")
        where, answers = json.loads(answer)
        assert Path(where).is_relative_to(self.site)
        return [tuple(one) for one in answers]

    def end(self) -> None:
        """No more lines come."""
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0, self._errors.read_text(encoding="utf-8")


class Desk:
    """An empty folder, and the wheel's featx in it."""

    def __init__(self, folder: Path, installed: Installed) -> None:
        self.folder, self.installed = folder, installed
        folder.mkdir()

    def type(self, *lines: str, refused: bool = False) -> list[str]:
        """What command lines and blocks of Python print on stdout.

        refused : whether the last one is meant to fail; its sentence is returned
        """
        answers = self.installed.ask(self.folder, lines)
        for place, (line, status, out, err) in enumerate(answers):
            fails = refused and place == len(answers) - 1
            assert (status != 0) == fails, f"{line}: {status}\n{out}\n{err}"
            assert "Traceback" not in err, err
        return [out or err for _, _, out, err in answers]

    def type_known(self, *lines: str, refused: bool = False) -> list[str]:
        """`type`, once every command and option was found in the help."""
        words = [shlex.split(line)[1:] for line in lines]
        named = [" ".join(typed[: 2 if typed[0] in {"bundle", "data"} else 1]) for typed in words]
        texts = self.type("featx --help", *(f"featx {name} --help" for name in named), *lines, refused=refused)
        for typed, text in zip(words, texts[1:], strict=False):
            assert re.search(rf"^  {typed[0]} ", texts[0], flags=re.MULTILINE), typed
            for option in (word for word in typed if word.startswith("-")):
                assert re.search(rf"(^|[\s,/]){option}\b", text, flags=re.MULTILINE), typed
        return texts[1 + len(lines) :]


def block(after: str, kind: str) -> str:
    """The block of code that follows a sentence of the README."""
    found = re.search(rf"{re.escape(after)}.*?^```{kind}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    assert found is not None, after
    return found[1]


def write_photos(folder: Path, numbers: range, by_class: bool) -> None:
    """Photographs of flowers, as a computer paints them: a disc in a colour on a meadow."""
    rows, columns = np.mgrid[:48, :64]
    for name, colour in COLOURS.items():
        place = folder / name if by_class else folder
        place.mkdir(parents=True, exist_ok=True)
        for number in numbers:
            random = np.random.default_rng([number, *colour])
            pixels = np.full((48, 64, 3), (70.0, 140.0, 60.0)) + random.normal(0, 20, (48, 64, 3))
            away = np.hypot(rows - 24 - random.normal(0, 4), columns - 32 - random.normal(0, 4))
            pixels[away < 14] = np.array(colour) + random.normal(0, 25, 3)
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(place / f"{name}-{number:03}.jpg")


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel is installed."""
    place = tmp_path_factory.mktemp("wheel")
    for name in ("featx", "pipelines"):
        shutil.copytree(ROOT / name, place / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / "source" / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    here = ["--no-build-isolation", "--no-index"] if find_spec("setuptools") and find_spec("wheel") else []
    # which makes a wheel of it first
    install = [
        *pip,
        "install",
        "--no-deps",
        *here,
        "--no-compile",
        "--target",
        str(place / "site"),
        str(place / "source"),
    ]
    subprocess.run(install, check=True, capture_output=True)
    return place / "site"


@pytest.fixture(scope="module")
def installed(site: Path) -> Iterator[Installed]:
    """The one process of all journeys."""
    running = Installed(site, site.parent / "errors.txt")
    yield running
    running.end()


@pytest.fixture(scope="module")
def photos(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, list[str]]:
    """The desk of somebody who has followed the README with photographs, and what the commands printed."""
    desk = Desk(tmp_path_factory.mktemp("journeys") / "photos", installed)
    write_photos(desk.folder / "flowers", range(12), by_class=True)
    write_photos(desk.folder / "new", range(12, 14), by_class=False)
    commands = block("Four commands on your own folder", "sh").splitlines()
    assert [shlex.split(line)[1] for line in commands] == ["check", "look", "fit-head", "predict"]
    return desk, desk.type(*commands, block("In Python:", "python"), "follow")


def test_photographs_are_sorted_by_somebody_who_knows_no_machine_learning(photos: tuple[Desk, list[str]]) -> None:
    desk, (checked, _, fitted, predicted, python, *followed) = photos
    assert "36 images, 36 readable, 0 bad" in checked
    assert re.search(r"^3 of 3 test images right", fitted, flags=re.MULTILINE)  # a verdict in plain words
    answers = re.findall(r"new/(\w+)-\d+\.jpg +(\w+)", predicted)
    assert len(answers) == 6
    assert sum(named == given for named, given in answers) >= 5
    assert len(re.findall(r"'(daisy|rose|tulip)'", python)) == 6
    report = desk.folder / re.findall(r"^report: (\S+)$", fitted, flags=re.MULTILINE)[0]
    assert "test images right" in report.read_text(encoding="utf-8")
    assert len(followed) >= 2  # what they suggest can be typed as it stands


def test_a_walk_through_is_reproduced(photos: tuple[Desk, list[str]], site: Path) -> None:
    desk = Desk(photos[0].folder.parent / "thesis", photos[0].installed)
    shutil.copytree(photos[0].folder / "cache", desk.folder / "cache")
    promise = re.search(
        r"`\.venv/bin/(featx fit-head .*?)` fits in seconds and is right on more than ([\d.]+) % of the (\d+)",
        " ".join(README.split()),
    )
    assert promise is not None
    command, share, images = promise[1], float(promise[2]) / 100, int(promise[3])
    default = (site / "featx" / "pipelines" / "default.yaml").read_text()
    data = re.findall(r"^  path: (\S+)$", default, flags=re.MULTILINE)[0]
    more = ("featx evaluate --split test --json", "featx models")
    _, fitted, measured, listed = desk.type_known(f"featx data digits --out {data}", command, *more)
    right = re.findall(r"^(\d+) of (\d+) test images right", fitted, flags=re.MULTILINE)[0]
    assert int(right[1]) == images
    assert int(right[0]) / images > share
    assert json.loads(measured)["accuracy"] == pytest.approx(int(right[0]) / images)
    assert "default" in listed


def test_a_company_works_through_many_images(photos: tuple[Desk, list[str]]) -> None:
    desk = Desk(photos[0].folder.parent / "company", photos[0].installed)
    shutil.copytree(photos[0].folder / "cache", desk.folder / "cache")
    for part in desk.folder.glob("cache/*/*@*"):
        shutil.rmtree(part)
    write_photos(desk.folder / "stock", range(20, 50), by_class=True)
    (desk.folder / "stock" / "rose" / "rose-020.jpg").write_bytes(b"cut off")
    shutil.copy(desk.folder / "stock" / "daisy" / "daisy-021.jpg", desk.folder / "stock" / "daisy" / "copy.jpg")
    extract = "featx extract stock --layer block1a_project_bn"
    plan = ("featx check stock --json", f"{extract} --dry-run --json", f"{extract} --json")
    fit = (
        "featx fit-head stock --clf svm --layer block1a_project_bn --json",
        "featx bundle pack --out stock.featx",
    )
    checked, planned, extracted, fitted, _ = desk.type_known(*plan, *fit)
    assert [json.loads(checked)[name] for name in ("images", "readable")] == [91, 90]
    assert json.loads(planned)["rows"] == 89  # a copy is one image, what is cut off none
    assert [json.loads(extracted)[name] for name in ("computed", "duplicates")] == [89, 1]
    assert json.loads(fitted)["test"]["accuracy"] > 0.9

    # more images come: only they are computed; a machine that has the file and nothing else answers to all of them
    write_photos(desk.folder / "stock", range(50, 54), by_class=True)
    write_photos(desk.folder / "incoming", range(60, 90), by_class=False)
    other = Desk(desk.folder.parent / "other machine", photos[0].installed)
    shutil.copy(desk.folder / "stock.featx", other.folder)
    shutil.copytree(desk.folder / "incoming", other.folder / "incoming")
    (grown,) = desk.type(f"{extract} --json")
    assert [json.loads(grown)[name] for name in ("computed", "reused")] == [12, 89]
    ask = "featx predict incoming --model stock.featx --out answers.csv --json"
    written, _, again = other.type_known(ask, "featx bundle verify stock.featx", ask, refused=True)
    assert "answers.csv exists already" in again  # nobody's answers are written over
    assert json.loads(written)["images"] == 90
    with open(other.folder / "answers.csv", encoding="utf-8") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    assert np.mean([Path(row["path"]).name.split("-")[0] == row["label"] for row in rows]) > 0.95
