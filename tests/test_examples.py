"""The scripts of examples/ answer what `featx predict` answers, in processes that cannot import featx."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from conftest import environment
from fitted import Lab, call, make_lab
from odd_files import tiff
from PIL import Image
from test_export import made

from featx.bundle.bundle import Bundle
from featx.export.flow import FORMATS, ExportOptions, export
from featx.images.decoder import load_image

EXAMPLES = Path(__file__).parents[1] / "examples"
ISOLATED = """
import json, os, runpy, sys
sys.modules["featx"] = None  # importing it is an error
for arguments in json.loads(sys.argv[1]):
    sys.argv = arguments
    sys.path.insert(0, os.path.dirname(sys.argv[0]))  # where Python looks first when it is given a script
    runpy.run_path(sys.argv[0], run_name="__main__")
assert not [name for name in sys.modules if name.startswith("featx.")]
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Format -> its export of the lab's logistic regression."""
    bundle = made(make_lab(tmp_path_factory.getbasetemp() / "lab"), "logreg")
    out = tmp_path_factory.mktemp("exported")
    done = export(bundle, out, ExportOptions(list(FORMATS)))
    assert not done.refused
    return {one.format: Path(one.path) for one in done.results} | {"keras": bundle.path}


def assert_answers(lines: list[str], bundle: Bundle, paths: list[str], cwd: Path) -> None:
    """The printed lines say what `featx predict --json` gives, but for rounding."""
    given = call("predict", *paths, "--model", bundle.path, "--json", cwd=cwd).json["predictions"]
    told = [f"{one['path']} {in_words(one)}" for one in given]
    assert len(lines) == len(told) == len(paths)
    for line, expected in zip(lines, told, strict=True):
        (path, text, confidence), (expected_path, *same) = parsed(line), parsed(expected)
        assert (path, text) == (expected_path, same[0])
        assert confidence == pytest.approx(same[1], abs=0.11)  # of percent, of which one decimal is printed


def in_words(one: dict[str, Any]) -> str:
    """An answer as the programs print it."""
    likeliest = f"{one['top'][0]['label']} {one['top'][0]['confidence']:.1%}"
    return likeliest if "labels" not in one else f"{' | '.join(one['labels']) or 'no label'} ({likeliest})"


def parsed(line: str) -> tuple[str, str, float]:
    """Path, what is said of it, and the confidence in percent."""
    path, text = line.split(maxsplit=1)
    words, _, rest = text.rpartition(" ")
    return path, words, float(rest.rstrip(")").rstrip("%"))


SLOW = pytest.param(("savedmodel", "keras"), marks=pytest.mark.slow)  # in one process, as TensorFlow starts slowly


@pytest.mark.parametrize("names", [("onnx",), ("openvino",), ("litert",), SLOW], ids="-".join)
def test_an_example_answers_as_featx_does(
    lab: Lab, exported: dict[str, Path], tmp_path: Path, names: tuple[str, ...]
) -> None:
    paths = lab.pictures[::10]
    env = environment()
    env.pop("PYTHONPATH", None)
    scripts = [[str(EXAMPLES / f"predict_{name}.py"), str(exported[name]), *paths] for name in names]
    command = [sys.executable, "-I", "-c", ISOLATED, json.dumps(scripts)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(names) * len(paths)
    for number in range(len(names)):
        shown = lines[number * len(paths) : (number + 1) * len(paths)]
        assert_answers(shown, made(lab, "logreg"), paths, tmp_path)


def run_here(name: str, *arguments: str | Path) -> None:
    """Run an example in this process, which has its libraries loaded already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        patch.syspath_prepend(EXAMPLES)
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.mark.parametrize("kind", ["dense", "labels"])
def test_keras_alone_runs_other_bundles(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """A head that is a network with a temperature, and several labels with their thresholds."""
    bundle, paths = made(lab, kind), lab.pictures[::10]
    run_here("predict_keras.py", bundle.path, *paths)
    assert_answers(capsys.readouterr().out.splitlines(), bundle, paths, tmp_path)


@pytest.mark.parametrize("kind", ["knn", "isotonic"])
def test_what_keras_alone_cannot_do_is_said(lab: Lab, kind: str) -> None:
    with pytest.raises(SystemExit, match="head of scikit-learn or curves"):
        run_here("predict_keras.py", made(lab, kind).path, lab.pictures[0])


def test_there_is_an_example_for_every_format() -> None:
    scripts = sorted(script.stem.removeprefix("predict_") for script in EXAMPLES.glob("predict_*.py"))
    assert scripts == sorted(FORMATS)


def write_kinds(folder: Path) -> list[str]:
    """Images of every kind that decoders treat in a way of their own."""
    random = np.random.default_rng(0)
    wide = Image.fromarray(random.integers(0, 256, (20, 53, 3), np.uint8))
    large = wide.resize((530, 200))
    turned = Image.Exif()
    turned[0x0112] = 6
    wide.save(folder / "wide.png")
    large.save(folder / "large.jpg")  # decoded at a part of its size
    large.save(folder / "turned.jpg", exif=turned)
    wide.convert("L").save(folder / "grey.png")
    wide.quantize(16).save(folder / "palette.gif")
    Image.fromarray(random.integers(0, 256, (31, 17, 4), np.uint8)).save(folder / "clear.png")
    Image.fromarray(random.integers(0, 65536, (40, 30), np.uint16)).save(folder / "deep.png")
    wide.convert("CMYK").save(folder / "print.jpg")
    return sorted(map(str, folder.iterdir()))


def write_deep_kinds(folder: Path) -> None:
    """Files of more than 8 bits, most of which use few of them."""
    values = np.random.default_rng(1).integers(0, 3000, (37, 41, 4)).astype(np.uint16)
    for channels in (1, 3, 4):
        some = np.ascontiguousarray(values[..., 0] if channels == 1 else values[..., :channels])
        (folder / f"deep-{channels}.png").write_bytes(imagecodecs.png_encode(some))
        coded = imagecodecs.jpeg2k_encode(some, bitspersample=12, codecformat="jp2", reversible=True)
        (folder / f"deep-{channels}.jp2").write_bytes(coded)
    (folder / "deep-16.tif").write_bytes(tiff(values[..., :3], 16, 2))
    (folder / "deep-12.tif").write_bytes(tiff(values[..., :1], 12, 1))
    (folder / "deep-turned.tif").write_bytes(tiff(values[..., :1], 16, 1, t274=(6,)))


_LEVELS = ("full", "10bit", "12bit", "minmax", "percentile")


@pytest.mark.parametrize(
    "rule",
    ["stretch", "crop", "pad", "crop:0.875:bicubic", "stretch:0.8", *(f"stretch:1:bilinear:{one}" for one in _LEVELS)],
)
def test_the_reader_gives_the_pixels_of_featx(tmp_path: Path, rule: str) -> None:
    read_image = runpy.run_path(str(EXAMPLES / "reading.py"))["read_image"]
    if rule.count(":") == 3:
        write_deep_kinds(tmp_path)
    for path in write_kinds(tmp_path):
        for size in ((24, 32), (64, 64), (7, 5)):
            expected = load_image(path, size, rule)
            np.testing.assert_array_equal(read_image(path, *size, rule)[0], expected, err_msg=path)


def test_the_pages_name_every_example() -> None:
    docs = EXAMPLES.parent / "docs"
    scripts, python = ((docs / page).read_text(encoding="utf-8") for page in ("export.md", "reference/python.md"))
    for example in (*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")):
        if "notebook" in example.name or example.suffix == ".ipynb":
            assert f"(../../examples/{example.name})" in python
        else:
            assert f"(../examples/{example.name})" in scripts


def shown(cells: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """The source of each cell, and what it shows as text; tables have seconds in them."""
    return [
        ("".join(cell["source"]), ["".join(one["data"]["text/plain"]) for one in cell.get("outputs", ())])
        for cell in cells
    ]


def test_the_notebook_has_the_cells_and_their_outputs() -> None:
    cells = runpy.run_path(str(EXAMPLES / "write_notebook.py"))["CELLS"]
    written = json.loads((EXAMPLES / "first_hour.ipynb").read_text(encoding="utf-8"))
    assert (written["nbformat"], written["nbformat_minor"]) == (4, 5)
    assert [(one["cell_type"], "".join(one["source"])) for one in written["cells"]] == list(cells)
    assert sum(bool(one.get("outputs")) for one in written["cells"]) >= 7
    assert (EXAMPLES / "first_hour.ipynb").stat().st_size < 20_000


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = runpy.run_path(str(EXAMPLES / "write_notebook.py"))["notebook"]()
    written = json.loads((EXAMPLES / "first_hour.ipynb").read_text(encoding="utf-8"))
    assert shown(made["cells"]) == shown(written["cells"])
