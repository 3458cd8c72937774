"""What leaves the machine names none of its folders and users, unless `--keep-paths` asks for them."""

from __future__ import annotations

import html
import re
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from fitted import Lab, Outcome, call, write_backbone, write_pictures

import featx
from featx.bundle.bundle import load_bundle, pack
from featx.bundle.records import FinetuneRecord
from featx.bundle.sealing import seal, without_folders
from featx.config import Pipeline
from featx.config.pipeline import as_shown, read_pipeline
from featx.io import commands
from featx.io.commands import sentence_without_folders, short_path, without_folder

SECRET = "home-of-ada"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, imagenet_cache: Path) -> Path:
    """A folder with a run that was made by options that are all whole paths, an unreadable image among its data."""
    home = tmp_path_factory.mktemp("x") / SECRET
    write_pictures(home / "pictures", 6)
    write_backbone(home / "tiny.keras")
    shutil.copytree(imagenet_cache, home / "cache")
    next((home / "pictures").rglob("*.png")).with_name("broken.png").write_bytes(b"no image")
    ended = typed("fit-head", *options(home), "--strength", "1", "--split", "0.5,0.25,0.25", cwd=home.parent)
    assert ended.status == 0, ended.err
    return home


def typed(*arguments: str | Path, cwd: Path) -> Outcome:
    """Run a command as if it had been typed, so that it is what pages and bundles record."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["featx", *map(str, arguments)])
        return call(*arguments, cwd=cwd)


def options(home: Path) -> list[str]:
    where = ["--cache", f"{home}/cache", f"--runs={home}/runs", "--name", "lab"]
    return [f"{home}/pictures", "--backbone", f"{home}/tiny.keras", *where]


def test_pages_name_no_folder(home: Path) -> None:
    bundle = home / "runs" / "lab" / "1-logreg"
    page = bundle / "report" / "index.html"
    assert SECRET not in page.read_text()
    assert "featx fit-head pictures --backbone tiny.keras" in html.unescape(re.sub("<[^>]+>", "", page.read_text()))
    assert "path: pictures" in page.read_text()
    assert "/broken.png" in page.read_text()
    assert SECRET in load_bundle(bundle).manifest.command  # what stays here has the whole command
    for arguments in (
        ("evaluate", bundle, "--data", home / "pictures", "--split", "test", "--report", "page"),
        ("check", *options(home), "--features"),
        ("look", *options(home)),
    ):
        done = typed(*arguments, "--json", cwd=home.parent)
        assert done.status == 0, done.err
        assert done.json["report"], arguments
        assert SECRET not in (home.parent / done.json["report"]).read_text(), arguments[0]
    kept = typed(
        "evaluate",
        str(bundle),
        "--data",
        f"{home}/pictures",
        "--keep-paths",
        "--report",
        "kept",
        "--json",
        cwd=home.parent,
    )
    shown = html.unescape((home.parent / kept.json["report"]).read_text())
    assert f"--data {home}/pictures" in re.sub("<[^>]+>", "", shown)
    assert f"{home}/pictures" in shown.partition("broken.png")[0][-300:]


def test_a_comparison_names_no_folder(home: Path) -> None:
    networks, own = f"{home}/tiny.keras,{home}/absent.keras", ("head.strength=1", "data.split=[0.5, 0.25, 0.25]")
    settings = [word for one in (*own, f"features.cache={home}/cache") for word in ("--set", one)]
    where = [f"{home}/pictures", "--backbone", networks, "--clf", "logreg", f"--runs={home}/runs", "--name", "all"]
    done = typed("compare", *where, *settings, "--json", cwd=home.parent)
    assert done.json["failed"] == 1, done.err
    assert SECRET in next(row["reason"] for row in done.json["rows"] if row["reason"])
    page = (home.parent / done.json["report"]).read_text()
    assert SECRET not in page
    assert "absent.keras" in page


def test_packs_and_cards_name_no_folder(home: Path, tmp_path: Path) -> None:
    bundle = home / "runs" / "lab" / "1-logreg"
    packed = featx.load(bundle).pack(tmp_path / "m.featx")
    with zipfile.ZipFile(packed) as archive:
        assert not any(SECRET.encode() in archive.read(name) for name in archive.namelist())
    assert featx.load(packed).bundle.manifest.digest != load_bundle(bundle).manifest.digest
    kept = featx.load(featx.load(bundle).pack(tmp_path / "k.featx", keep_paths=True)).bundle
    assert kept.manifest == load_bundle(bundle).manifest
    card = typed("bundle", "card", str(bundle), cwd=tmp_path)
    assert SECRET not in card.out
    assert "featx predict IMAGE... --model 1-logreg" in card.out
    assert str(bundle) in typed("bundle", "card", str(bundle), "--keep-paths", cwd=tmp_path).out


def test_options_of_training_name_no_folder(lab: Lab, tmp_path: Path) -> None:
    shutil.copytree(lab.bundle("logreg").path, tmp_path / "b")
    tuned = FinetuneRecord({"epochs": 3, "tensorboard": f"/srv/{SECRET}/logs", "freeze": "all"})
    seal(tmp_path / "b", replace(lab.bundle("logreg").manifest, finetune=tuned))
    bundle = load_bundle(tmp_path / "b")
    pack(bundle, tmp_path / "m.featx")
    found = load_bundle(tmp_path / "m.featx").manifest.finetune
    assert found is not None
    assert found.options == {"epochs": 3, "tensorboard": "logs", "freeze": "all"}
    assert without_folders(without_folders(bundle.manifest)) == without_folders(bundle.manifest)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("data/flowers", "data/flowers"),
        ("/srv/ada/flowers/", "flowers"),
        ("/home/ada", "~"),
        ("/Users/ada/", "~"),
        ("~ada", "~"),
        ("~/x", "x"),
        (r"C:\Users\ada\x y", "x y"),
        (r"\\server\ada\x", "x"),
        ("file:///home/ada/x", "x"),
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("sftp://ada@host/a", "sftp://host/a"),
        ("a.keras,/home/ada/b.keras", "a.keras,b.keras"),
        ("data/../../ada/x", "x"),
        ("/home/o'brien/x", "x"),
        ("block3/add@grid:4", "block3/add@grid:4"),
        ("0.5,0.25,0.25", "0.5,0.25,0.25"),
    ],
)
def test_a_value_without_folders(value: str, shown: str) -> None:
    assert without_folder(value) == shown
    pipeline = replace(Pipeline(), data=replace(Pipeline().data, path=value))
    assert yaml.safe_load(as_shown(pipeline))["data"]["path"] == shown


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("featx extract -p/home/ada/p.yaml x", "featx extract -pp.yaml x"),
        (
            "featx fit-head x --set 'compare.data=[/home/ada/a, /srv/b c]'",
            "featx fit-head x --set 'compare.data=[a, b c]'",
        ),
        ("featx.fit_head('/home/ada/f', clf='svm')", "featx.fit_head('f', clf='svm')"),
        (
            "featx.fit_head(\"/home/o'brien/f\", cache=PosixPath('/srv/c'))",
            "featx.fit_head(\"f\", cache=PosixPath('c'))",
        ),
        (r"featx.fit_head('C:\\Users\\ada\\f')", "featx.fit_head('f')"),
    ],
)
def test_a_command_without_folders(command: str, shown: str) -> None:
    assert commands.without_folders(command) == shown


def test_a_sentence_and_an_image_without_folders() -> None:
    text = "No file /home/ada/x.keras. Check ~/y, or and/or 3 / 4."
    assert sentence_without_folders(text) == "No file x.keras. Check y, or and/or 3 / 4."
    assert short_path("/home/ada/flowers/rose/1.png") == "rose/1.png"
    assert short_path("flowers/rose/1.png") == "flowers/rose/1.png"


def test_a_pipeline_file_keeps_paths_where_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("data: {path: /srv/ada/x}\nreport: {keep_paths: true}\n")
    assert "path: /srv/ada/x" in as_shown(read_pipeline(tmp_path / "p.yaml"))
    assert "path: x\n" in as_shown(read_pipeline(tmp_path / "p.yaml", ["report.keep_paths=false"]))
