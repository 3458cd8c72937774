"""The examples in the docstrings of the public API run as they stand."""

from __future__ import annotations

import doctest
import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featx

NAMES = ("functions", "studies", "searching", "loading", "model", "asking", "predictions", "arrays", "transformer")
MODULES = tuple(f"featx.api.{name}" for name in NAMES)
SLOW = "Consulted.export"  # converts and runs a whole network
EXAMPLES = [
    one
    for name in MODULES
    for one in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name))
    if one.examples
]


@pytest.fixture(scope="session")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `flowers/` (three classes of twelve images of one colour), `pool/` and a run of a head on them."""
    folder = tmp_path_factory.mktemp("garden")
    random = np.random.default_rng(0)
    for code, name in enumerate(("daisy", "rose", "tulip")):
        (folder / "flowers" / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 40, (32, 32, 3), np.uint8)
            pixels[..., code] += 200
            Image.fromarray(pixels).save(folder / "flowers" / name / f"{number:02d}.png")
        (folder / "pool").mkdir(exist_ok=True)
        Image.fromarray(np.roll(pixels, code + 1, axis=2)[::2]).save(folder / "pool" / f"{name}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        featx.fit_head("flowers", html=False)
    return folder


def test_every_public_name_has_an_example() -> None:
    shown = {name for one in EXAMPLES for name in one.name.split(".")}
    returned = {"FeatureArrays", "FeatxError", "Predictions"}  # or raised: the examples of others have them
    assert {name for name in featx.__all__ if not name.startswith("__")} - returned <= shown


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(
            one, marks=pytest.mark.slow if one.name.endswith(SLOW) else (), id=one.name.removeprefix("featx.api.")
        )
        for one in EXAMPLES
    ],
)
def test_an_example_runs(
    example: doctest.DocTest, garden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(garden, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    printed: list[str] = []
    done = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=printed.append, clear_globs=False)
    assert done.attempted
    assert not done.failed, "".join(printed)
