"""Files that commands write: their formats follow the suffix, what exists stays, and long work is never silent."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet
import pytest
from fitted import Lab, Outcome, call

import featx
from featx.errors import UsageError
from featx.inference.answer_files import Columns, write_answers
from featx.inference.predict import AnswerOptions, Unread, predict
from featx.io.bars import Bars, shown_by
from featx.io.progress import no_progress


@pytest.fixture
def work(lab: Lab, tmp_path: Path) -> Callable[..., Outcome]:
    """Runs a command in an empty folder that has the pictures and the cache of the lab."""
    (tmp_path / "pictures").symlink_to(lab.root / "pictures")
    return lambda *arguments: call(*arguments, cwd=tmp_path)


def of(lab: Lab) -> list[str]:
    return ["--backbone", str(lab.root / "tiny.keras"), "--layer", "last", "--cache", str(lab.root / "cache")]


def test_the_formats_of_an_export_hold_the_same(lab: Lab, work: Callable[..., Outcome], tmp_path: Path) -> None:
    for name in ("f.h5", "f.npz", "f.csv", "f.parquet"):
        done = work("cache", "export", "pictures", *of(lab), "--out", name)
        assert done.status == 0, done.err
    with h5py.File(tmp_path / "f.h5") as file:
        features, codes = file["features"][:], file["labels"][:]
        paths, split, classes = ([one.decode() for one in file[name][:]] for name in ("paths", "split", "classes"))
    assert features.shape == (60, 16)
    arrays = np.load(tmp_path / "f.npz")  # no pickles
    np.testing.assert_array_equal(arrays["features"], features)
    assert arrays["features"].dtype == features.dtype
    np.testing.assert_array_equal(arrays["labels"], codes)
    assert [arrays[name].tolist() for name in ("paths", "split", "classes")] == [paths, split, classes]
    labels = [classes[code] for code in codes]
    with open(tmp_path / "f.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0][:5] == ["path", "label", "split", "last@avg_0", "last@avg_1"]
    assert [row[:3] for row in rows[1:]] == [list(row) for row in zip(paths, labels, split, strict=True)]
    np.testing.assert_array_equal(np.array([row[3:] for row in rows[1:]], features.dtype), features)
    table = pyarrow.parquet.read_table(tmp_path / "f.parquet")
    assert [table[name].to_pylist() for name in ("path", "label", "split")] == [paths, labels, split]
    np.testing.assert_array_equal(np.array(table["features"].to_pylist(), features.dtype), features)
    assert json.loads(table.schema.metadata[b"shape"]) == [16]


def test_the_formats_of_predictions_hold_the_same(lab: Lab, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_text("text")
    bundle, images = lab.bundle("logreg"), [*lab.pictures[:3], str(broken)]
    options, columns = AnswerOptions(top=2, max_distance=1.0), Columns(distance=True)
    expected = list(predict(bundle, images, options))
    for name in ("p.csv", "p.json", "p.parquet"):
        read, unread = write_answers(tmp_path / name, predict(bundle, images, options), columns)
        assert (read, unread) == (3, [Unread(str(broken), "text, not an image")])
    found = json.loads((tmp_path / "p.json").read_text())
    assert found["bad"] == [{"path": str(broken), "reason": "text, not an image"}]
    assert [one["path"] for one in found["predictions"]] == images[:3]
    assert [len(one["top"]) for one in found["predictions"]] == [2, 2, 2]
    with open(tmp_path / "p.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = pyarrow.parquet.read_table(tmp_path / "p.parquet").to_pylist()
    assert list(table[0]) == list(rows[0]) == ["path", "label", "confidence", "distance", "reason"]
    for row, typed, one in zip(rows, table, expected, strict=True):
        assert row["path"] == typed["path"] == one.path
        if isinstance(one, Unread):
            assert (row["reason"], typed["reason"], typed["label"]) == (one.reason, one.reason, None)
        else:
            assert row["label"] == typed["label"] == one.label
            assert (typed["confidence"], typed["distance"]) == (one.confidence, one.distance)


@pytest.mark.parametrize(
    ("arguments", "ends"),
    [
        (["cache", "export", "pictures", "--out", "f.xlsx"], ".h5, .hdf5, .npz, .csv or .parquet, and .xlsx"),
        (["predict", "pictures", "--out", "p.xlsx"], ".csv, .json or .parquet, and .xlsx"),
        (["predict", "pictures", "--out", "answers"], ".csv, .json or .parquet, and it has none"),
        (["split", "pictures", "--out", "s.txt"], "has to end with .csv, and .txt is not one of them"),
        (["augment", "pictures/red/0-00.png", "--out", "a.jpg"], "has to end with .png, and .jpg"),
        (["similar", "x.png", "--data", "pictures", "--out", "a.tiff"], "has to end with .png, and .tiff"),
    ],
)
def test_an_unknown_suffix_is_refused_with_those_there_are(
    work: Callable[..., Outcome], tmp_path: Path, arguments: list[str], ends: str
) -> None:
    refused = work(*arguments)
    assert refused.status == 2
    assert ends in refused.sentence
    assert not (tmp_path / arguments[-1]).exists()


def test_what_exists_is_replaced_with_force_alone(lab: Lab, work: Callable[..., Outcome], tmp_path: Path) -> None:
    model, picture = ["--model", str(lab.bundle("logreg").path)], "pictures/red/0-00.png"
    commands = {
        "f.h5": ["cache", "export", "pictures", *of(lab)],
        "p.csv": ["predict", picture, *model],
        "m.featx": ["bundle", "pack", *model],
        "card.md": ["bundle", "card", *model],
        "s.csv": ["split", "pictures"],
        "a.png": ["augment", picture, "--flip", "horizontal", *of(lab)[:2]],
        "near.png": ["similar", picture, "--data", "pictures", *of(lab)],
    }
    for name, command in commands.items():
        out = tmp_path / name
        out.write_text("mine")
        refused = work(*command, "--out", name)
        assert (refused.status, out.read_text()) == (2, "mine"), refused.err
        assert refused.sentence.startswith(f"featx: {name} exists already. Replace it with --force"), refused.err
        done = work(*command, "--out", name, "--force")
        assert done.status == 0, done.err
        assert out.read_bytes() != b"mine", name


def test_folders_with_something_in_them_are_left_alone(lab: Lab, work: Callable[..., Outcome], tmp_path: Path) -> None:
    bundle = lab.bundle("logreg").path
    (tmp_path / "maps").mkdir()  # empty: nothing is lost
    explain = ["explain", "pictures/red/0-00.png", "--model", str(bundle), "--out", "maps"]
    assert work(*explain).status == 0
    again = work(*explain)
    assert again.status == 2
    assert "maps is a folder with files in it. Add to it with --force" in again.sentence
    assert work(*explain, "--force").status == 0

    assert work("bundle", "pack", str(bundle), "--out", "m.featx").status == 0
    assert work("bundle", "unpack", "m.featx").status == 0
    assert work("bundle", "unpack", "m.featx").status == 2
    (tmp_path / "m" / "head.npz").write_text("damaged")
    assert work("bundle", "unpack", "m.featx", "--force").status == 0
    assert work("bundle", "verify", "m").status == 0
    strange = work("bundle", "unpack", "m.featx", "--out", "pictures", "--force")  # no bundle: never removed
    assert strange.status == 1
    assert len(list((lab.root / "pictures").rglob("*.png"))) == 60


# --- progress ----------------------------------------------------------------------------------------------------


def test_a_stage_that_counts_nothing_has_its_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featx.io.bars._EVERY", 0.05)
    monkeypatch.setattr("featx.io.bars._LOOK", 0.01)
    with Bars() as bars:
        bars("fit", 0, 0)
        time.sleep(0.3)  # nobody calls
        bars("extract", 1, 2)
        time.sleep(0.15)
        bars("extract", 2, 2)
        time.sleep(0.15)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "fit: 0 s"
    assert "extract: 1 of 2 images" in lines
    assert lines[-1] == "extract is done, the next step goes on: 0 s"
    assert 5 <= len(lines) <= 13
    time.sleep(0.1)
    assert capsys.readouterr().err == ""  # it ends with its work


def test_python_shows_progress_when_it_is_asked(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    options = {"backbone": str(lab.root / "tiny.keras"), "cache": str(lab.root / "cache")}
    featx.extract(lab.root / "pictures", **options)
    assert "hash" not in capsys.readouterr().err
    featx.extract(lab.root / "pictures", progress=True, **options)
    assert "hash: " in capsys.readouterr().err
    with shown_by(False) as silent, shown_by(no_progress) as given:
        assert silent is given is no_progress


def test_an_unknown_suffix_is_refused_in_python_too(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Predictions cannot be written to .*p\.txt"):
        write_answers(tmp_path / "p.txt", predict(lab.bundle("logreg"), lab.pictures[:1]))
