"""docs/plugins.md, walked through: a package with a head and a network, found by its entry points."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fitted import Outcome, call, write_pictures

from featx.io.modules import named_modules
from featx.io.plugins import find_plugins

PAGE = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text(encoding="utf-8")
ROOT = "featx_meadow"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def install(site: Path, code: str, project: dict[str, object]) -> None:
    """Lay a package out as pip does."""
    name, version = str(project["name"]), str(project["version"])
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = project["entry-points"]
    assert isinstance(groups, dict)
    lines = [[f"[{group}]", *(f"{key} = {value}" for key, value in names.items())] for group, names in groups.items()]
    (folder / "entry_points.txt").write_text("\n".join(line for group in lines for line in group) + "\n")
    (site / f"{ROOT}.py").write_text(code)
    find_plugins.cache_clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where packages are installed."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(named_modules(), "names", [])
    yield tmp_path / "site"
    find_plugins.cache_clear()
    sys.modules.pop(ROOT, None)


def forget() -> None:
    named_modules().names.clear()
    sys.modules.pop(ROOT, None)
    find_plugins.cache_clear()


def test_the_package_of_the_page_walks_from_extract_to_evaluate(site: Path, tmp_path: Path) -> None:
    project = tomllib.loads(blocks("toml")[0])["project"]
    code = "\n\n".join(blocks("python"))
    write_pictures(tmp_path / "flowers", 8)
    install(site, code, project)

    def run(*words: object, status: int = 0) -> Outcome:
        done = call(*map(str, words), cwd=tmp_path)
        assert done.status == status, done.err
        return done

    assert ROOT not in sys.modules
    assert "|meadow]" in run("fit-head", "--help").out.replace("\n", "").replace(" ", "")
    assert json.loads(run("backbones", "--json").out)["plugins"] == [
        {"name": "meadow-net", "package": "featx-meadow", "version": "0.1"}
    ]
    assert "meadow-net  featx-meadow 0.1" in run("backbones").out
    assert ROOT not in sys.modules  # to list is not to load

    place = ("flowers", "--backbone", "meadow-net", "--input-size", "32")
    first = run("extract", *place, "--json").json
    assert (first["computed"], first["reused"]) == (24, 0)
    key = json.loads((tmp_path / first["store"] / "key.json").read_text())
    assert key["key"]["backbone"] == "meadow-net"
    fitted = run("fit-head", *place, "--clf", "meadow", "--no-html", "--json").json
    assert fitted["clf"] == "meadow"
    bundle = tmp_path / fitted["bundle"]
    record = json.loads((bundle / "bundle.json").read_text())
    assert (record["head"]["plugin"], record["backbone"]["plugin"]) == ("featx-meadow 0.1", "featx-meadow 0.1")
    assert bundle.name.endswith("-meadow")
    run("bundle", "pack", bundle, "--out", "flowers.featx")
    forget()
    measured = run("evaluate", "flowers.featx", "--data", "flowers", "--split", "all", "--json").json
    answers = run("predict", "flowers", "--model", "flowers.featx", "--json").json["predictions"]
    right = np.mean([one["label"] == Path(one["path"]).parent.name for one in answers])
    assert measured["accuracy"] == pytest.approx(right)

    # another version of the package, or other code of it, is another network and another head
    (site / "featx_meadow-0.1.dist-info").rename(site / "featx_meadow-0.2.dist-info")
    metadata = site / "featx_meadow-0.2.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("0.1", "0.2"))
    forget()
    assert run("extract", *place, "--dry-run", "--json").json["rows"] == 24
    # without the package the bundle names it
    (site / f"{ROOT}.py").unlink()
    metadata.unlink()
    (metadata.parent / "entry_points.txt").unlink()
    metadata.parent.rmdir()
    forget()
    absent = run("predict", "flowers", "--model", "flowers.featx", status=1).sentence
    assert "is meadow, a plug-in of featx-meadow 0.1, which is not installed here" in absent
    unknown = run("fit-head", "flowers", "--clf", "meadows", status=2).sentence
    assert "head.clf must be a kind of head (--clf), got 'meadows'. There are: logreg" in unknown


def test_a_broken_plug_in_is_one_sentence_where_it_is_used(site: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "flowers", 4)
    networks = {"bad": "fails", "none": "number", "lost": "lost", "two": "two"}
    groups = {
        "featx.heads": {"gone": f"{ROOT}:Gone", "odd": f"{ROOT}:number"},
        "featx.backbones": {name: f"{ROOT}:{attribute}" for name, attribute in networks.items()},
    }
    code = """number = 3
def fails():
    raise RuntimeError("no weights")
def lost():
    return "lost.onnx"
def two():
    return 2
"""
    install(site, code, {"name": "broken", "version": "1", "entry-points": groups})
    (site / "worse-1.dist-info").mkdir()
    (site / "worse-1.dist-info" / "entry_points.txt").write_bytes(b"[featx.heads]\n\xff\xfe = = :\nnonsense\n")
    (site / "worse-1.dist-info" / "METADATA").write_text("nothing")
    forget()
    for words in (("--help",), ("fit-head", "--help"), ("backbones",)):
        assert call(*words, cwd=tmp_path).status == 0
    fit = ("fit-head", "flowers", "--no-html")
    for more, expected in (
        (("--clf", "gone"), "The plug-in gone of broken 1 cannot be loaded"),
        (("--clf", "odd"), "got 'featx_meadow.number': it is not a class"),
        (("--backbone", "bad"), "The plug-in bad of broken 1 fails: RuntimeError: no weights"),
        (("--backbone", "none"), "The plug-in none of broken 1 is not a function"),
        (("--backbone", "lost"), "The plug-in lost of broken 1 names a file that does not exist: lost.onnx"),
        (("--backbone", "two"), "The plug-in two of broken 1 gives a int, neither a Keras network"),
    ):
        done = call(*fit, *more, cwd=tmp_path)
        assert (done.status, expected in done.sentence) == (1, True), done.err
        assert "Traceback" not in done.err
    (site / f"{ROOT}.py").write_text("import no_such_library")
    forget()
    for more in (("--clf", "gone"), ("--backbone", "bad")):
        assert "ModuleNotFoundError: No module named 'no_such_library'" in call(*fit, *more, cwd=tmp_path).sentence
