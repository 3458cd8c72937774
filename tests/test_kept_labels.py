"""Labels that a person has judged: they hold for every command, by content, until the data say otherwise."""

from __future__ import annotations

import base64
import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fitted import Lab, Outcome, call

import featx
from featx.bundle.bundle import load_bundle


@pytest.fixture
def work(lab: Lab, tmp_path: Path) -> Callable[..., Outcome]:
    """Runs a command in a folder with a copy of the pictures, three of the red ones in the folder of the blue."""
    shutil.copytree(lab.root / "pictures", tmp_path / "pictures")
    for number in range(3):
        (tmp_path / f"pictures/red/0-{number:02}.png").rename(tmp_path / f"pictures/blue/wrong-{number}.png")
    return lambda *arguments: call(*arguments, cwd=tmp_path)


def of(lab: Lab) -> list[str]:
    return ["--backbone", str(lab.root / "tiny.keras"), "--layer", "last", "--cache", str(lab.root / "cache")]


def sizes(work: Callable[..., Outcome], *arguments: str) -> dict[str, int]:
    return work("check", *arguments, "--json").json["classes"]


def write(path: Path, rows: list[tuple[str, ...]]) -> str:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path.name


WRONG = [(f"blue/wrong-{number}.png", "red") for number in range(3)]


def test_corrections_hold_for_every_command(lab: Lab, work: Callable[..., Outcome], tmp_path: Path) -> None:
    assert sizes(work, "pictures") == {"blue": 23, "green": 20, "red": 17}
    fixed = write(tmp_path / "fixed.csv", [("path", "label"), *WRONG, ("green/0-00.png", "green")])
    applied = work("relabel", "apply", fixed, "pictures", "--json")
    assert applied.status == 0, applied.err
    assert applied.json == {"file": "runs/pictures/labels.json", "corrected": 3, "confirmed": 0, "as_before": 1}
    checked = work("check", "pictures", "--json").json
    assert checked["classes"] == {"blue": 20, "green": 20, "red": 20}
    assert checked["judged"] == {"corrected": 3, "confirmed": 0}
    assert (
        "3 labels corrected, 0 labels known to be right, by runs/pictures/labels.json" in work("check", "pictures").out
    )

    assert work("split", "pictures", "--out", "split.csv").status == 0
    with open(tmp_path / "split.csv", newline="", encoding="utf-8") as file:
        labels = {row["path"]: row["label"] for row in csv.DictReader(file)}
    assert [labels[f"pictures/{path}"] for path, _ in WRONG] == ["red"] * 3
    exported = work("cache", "export", "pictures", *of(lab), "--out", "f.npz")
    assert exported.status == 0, exported.err
    arrays = np.load(tmp_path / "f.npz")
    assert np.bincount(arrays["labels"]).tolist() == [20, 20, 20]

    fitted = work("fit-head", "pictures", *of(lab), "--clf", "logreg", "--strength", "1", "--no-html", "--json")
    assert fitted.status == 0, fitted.err
    manifest = load_bundle(tmp_path / fitted.json["bundle"]).manifest
    plain = ["--clf", "logreg", "--strength", "1", "--no-html", "--json", "--runs", "others", "--relabel", fixed]
    again = work("fit-head", "pictures", *of(lab), *plain)  # what holds for one command, as it did before
    assert again.json["val"] == fitted.json["val"]
    assert again.json["test"] == fitted.json["test"]
    assert manifest.classes == ("blue", "green", "red")
    measured = work("evaluate", fitted.json["bundle"], "--data", "pictures", "--split", "test", "--json").json
    assert measured["accuracy"] == fitted.json["test"]["accuracy"]

    mapped = work("map", "pictures", *of(lab), "--method", "pca", "--json")
    page = (tmp_path / mapped.json["page"]).read_text(encoding="utf-8")
    points = json.loads(re.findall(r'id="data">(.*?)</script>', page, flags=re.DOTALL)[0])["colourings"]
    codes = next(base64.b64decode(one["values"]) for one in points if one["title"] == "class")
    assert np.bincount(np.frombuffer(codes, "<u2")).tolist() == [20, 20, 20]

    other_name = ["--name", "elsewhere", *of(lab), "--clf", "knn", "--strength", "3", "--no-html", "--json"]
    assert "3 labels corrected" in work("fit-head", "pictures", *other_name).err  # another run of the same data
    arrays = featx.read_features(
        tmp_path / "pictures",
        runs=str(tmp_path / "runs"),
        backbone=str(lab.root / "tiny.keras"),
        cache=str(lab.root / "cache"),
        layer=["last"],
    )
    assert np.bincount(arrays.labels).tolist() == [20, 20, 20]


def test_files_may_move_and_what_the_data_change_themselves_counts(
    work: Callable[..., Outcome], tmp_path: Path
) -> None:
    fixed = write(tmp_path / "fixed.csv", [("path", "label"), *WRONG])
    assert work("relabel", "apply", fixed, "pictures").status == 0
    (tmp_path / "pictures/blue/wrong-0.png").rename(tmp_path / "pictures/blue/renamed.png")
    assert sizes(work, "pictures") == {"blue": 20, "green": 20, "red": 20}
    (tmp_path / "pictures/blue/wrong-1.png").rename(tmp_path / "pictures/red/moved.png")  # as it was corrected
    (tmp_path / "pictures/blue/wrong-2.png").rename(tmp_path / "pictures/green/moved.png")  # somebody knows better
    checked = work("check", "pictures", "--json").json
    assert checked["classes"] == {"blue": 20, "green": 21, "red": 19}
    assert checked["judged"] == {"corrected": 1, "confirmed": 1}

    over = write(tmp_path / "over.csv", [("path", "label"), ("blue/renamed.png", "green")])
    assert sizes(work, "pictures", "--relabel", over) == {"blue": 20, "green": 22, "red": 18}  # for this command alone
    assert sizes(work, "pictures") == {"blue": 20, "green": 21, "red": 19}


def test_labels_are_listed_and_forgotten(work: Callable[..., Outcome], tmp_path: Path) -> None:
    assert work("relabel", "list", "pictures").out.strip() == "No label was corrected or confirmed."
    assert work("relabel", "apply", write(tmp_path / "f.csv", [("path", "label"), *WRONG]), "pictures").status == 0
    done = work("relabel", "confirm", "pictures/green/0-00.png", "--data", "pictures", "--json")
    assert (done.json["corrected"], done.json["confirmed"]) == (0, 1)
    found = work("relabel", "list", "pictures", "--json").json["labels"]
    assert [(Path(one["path"]).name, one["given"], one["label"]) for one in found] == [
        *((f"wrong-{number}.png", "blue", "red") for number in range(3)),
        ("0-00.png", "green", "green"),
    ]
    assert "right" in work("relabel", "list", "pictures").out
    assert work("relabel", "forget", "--data", "pictures").status == 2
    gone = work("relabel", "forget", "pictures/blue/wrong-0.png", "--data", "pictures", "--json")
    assert gone.json["forgotten"] == 1
    assert sizes(work, "pictures") == {"blue": 21, "green": 20, "red": 19}
    assert work("relabel", "forget", "--all", "--data", "pictures", "--json").json["forgotten"] == 3
    assert sizes(work, "pictures") == {"blue": 23, "green": 20, "red": 17}


def test_a_list_that_is_older_than_a_correction_takes_nothing_back(
    work: Callable[..., Outcome], tmp_path: Path
) -> None:
    older = write(tmp_path / "older.csv", [("path", "label", "right"), ("blue/wrong-0.png", "blue", "")])
    assert work("relabel", "confirm", "pictures/blue/wrong-0.png", "--label", "red", "--data", "pictures").status == 0
    applied = work("relabel", "apply", older, "pictures", "--json").json
    assert (applied["corrected"], applied["confirmed"], applied["as_before"]) == (0, 0, 1)
    assert sizes(work, "pictures") == {"blue": 22, "green": 20, "red": 18}
    marked = write(tmp_path / "marked.csv", [("path", "label", "right"), ("blue/wrong-0.png", "blue", "yes")])
    assert work("relabel", "apply", marked, "pictures", "--json").json["confirmed"] == 1
    assert sizes(work, "pictures") == {"blue": 23, "green": 20, "red": 17}
    forgotten = work("relabel", "forget", "pictures/blue/wrong-0.png")
    assert forgotten.sentence.startswith("featx: --data is missing: name the folder or CSV of the data set")


def test_what_is_right_is_not_listed_again(lab: Lab, work: Callable[..., Outcome], tmp_path: Path) -> None:
    first = work("check", "pictures", "--features", *of(lab), "--no-html", "--json")
    assert first.status == 0, first.err
    path = tmp_path / first.json["label_errors"]["csv"]
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    listed = {row["path"] for row in rows}
    assert len(listed) > 3
    assert all(row["right"] == "" for row in rows)
    rows[0]["label"] = rows[0]["suggested"]
    for row in rows[1::2]:
        row["right"] = "yes"
    said = {rows[0]["path"], *(row["path"] for row in rows if row["right"])}
    write(path, [tuple(rows[0]), *(tuple(row.values()) for row in rows)])
    applied = work("relabel", "apply", str(path.relative_to(tmp_path)), "pictures", "--json").json
    assert (applied["corrected"], applied["confirmed"]) == (1, len(said) - 1)
    assert applied["as_before"] == len(rows) - len(said)
    again = work("check", "pictures", "--features", *of(lab), "--no-html", "--json").json
    with open(tmp_path / again["label_errors"]["csv"], newline="", encoding="utf-8") as file:
        assert not said & {row["path"] for row in csv.DictReader(file)}
    rest = work("relabel", "apply", again["label_errors"]["csv"], "pictures", "--confirm-rest", "--json").json
    assert rest["as_before"] == 0
    last = work("check", "pictures", "--features", *of(lab), "--no-html", "--json").json
    assert last["label_errors"]["found"] == 0 or again["label_errors"]["found"] == 0
    assert any("not listed" in note for note in [*again["notes"], *last["notes"]])


def test_what_makes_no_sense_is_refused(work: Callable[..., Outcome], tmp_path: Path) -> None:
    shutil.copy(tmp_path / "pictures/green/0-00.png", tmp_path / "pictures/green/copy.png")
    both = [("path", "label"), ("green/0-00.png", "red"), ("green/copy.png", "blue")]
    refused = work("relabel", "apply", write(tmp_path / "two.csv", both), "pictures")
    assert refused.status == 1
    assert "are the same image, and get the labels 'red' and 'blue'" in refused.sentence
    unknown = work("relabel", "confirm", "pictures/green/0-01.png", "--label", "gren", "--data", "pictures")
    assert "'gren' is not a class of pictures. Did you mean 'green'" in unknown.sentence
    assert (
        "gone.png is not among the 61 images" in work("relabel", "confirm", "gone.png", "--data", "pictures").sentence
    )
    (tmp_path / "runs/pictures").mkdir(parents=True, exist_ok=True)
    (tmp_path / "runs/pictures/labels.json").write_text(json.dumps({"labels": {"00": "red"}}))
    damaged = work("check", "pictures")
    assert damaged.status == 1
    assert "labels.json cannot be read: corrected labels are in it" in damaged.sentence
