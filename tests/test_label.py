"""featx label: answers are on the disk before the next image, tabs keep each other's work, and nobody else gets in."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import Lab, call, write_pictures

import featx
from featx.active.label import LabelPlan, ask_model, next_round, open_desk, run_of
from featx.bundle.bundle import Bundle
from featx.config import DataOptions, Pipeline
from featx.dataset import read_images
from featx.inference.predict import predict
from featx.io.compact import Coded, Paths
from featx.io.context import Context
from featx.serve import label_desk
from featx.serve.label_app import Rounds, guard_label
from featx.serve.label_desk import LabelDesk
from featx.serve.label_journal import LabelJournal
from featx.serve.label_types import LabelSheet, Wanted
from featx.store.cache import Cache

testclient = pytest.importorskip("starlette.testclient", reason="pip install 'featx[serve]'")
TOKEN = "a-token"


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Nine pictures without a label."""
    write_pictures(tmp_path / "classes", per_class=3, seed=5)
    folder = tmp_path / "pool"
    folder.mkdir()
    for path in sorted((tmp_path / "classes").rglob("*.png")):
        path.rename(folder / f"{path.parent.name}-{path.name}")
    return folder


def plan_of(lab: Lab, data: Path, out: Path, bundle: Bundle | None = None, **more: Any) -> LabelPlan:
    pipeline = replace(lab.pipeline, data=DataOptions(path=str(data), classes=("blue", "green", "red")))
    return LabelPlan(pipeline, bundle, out, **more)


@contextmanager
def opened(plan: LabelPlan, work: Any = None) -> Iterator[tuple[Any, LabelDesk]]:
    """A client of a page, and its desk."""
    with Cache(plan.pipeline.features.cache) as cache:
        desk = open_desk(plan, cache, Context())
        app = guard_label(desk, Rounds(work), TOKEN)
        client = testclient.TestClient(app, base_url=f"http://127.0.0.1:8000/{TOKEN}/", raise_server_exceptions=False)
        yield client, desk
        desk.close()


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def ask(client: Any, path: str, expect: int = 200, **body: Any) -> Any:
    found = client.post(path, json=body)
    assert found.status_code == expect, found.text
    return found.json()


def test_an_answer_is_on_the_disk_before_the_next_image_is_shown(lab: Lab, pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    bundle = lab.bundle("logreg")
    with opened(plan_of(lab, pool, out, bundle)) as (client, desk):
        names = sorted(map(str, pool.iterdir()))
        wanted = {one.path: one for one in predict(bundle, names)}
        image = ask(client, "next", tab="a")["image"]
        assert image["name"] == Path(names[0]).name
        assert image["suggestion"] == [wanted[names[0]].label]
        assert image["confidence"] == pytest.approx(wanted[names[0]].confidence, abs=2e-3)
        synced = []
        usual = os.fsync

        def fsync(file: int) -> None:
            usual(file)
            synced.append(desk.journal.path.read_text().count("\n"))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            following = desk.next
            patch.setattr(desk, "next", lambda *a: (synced.append("next"), following(*a))[1])
            found = ask(client, "answer", tab="a", number=0, labels=["red"])
        assert synced[0] == 1  # flushed with the line in it
        assert synced.index("next") > 0
        assert found["image"]["number"] == 1
        other = "blue" if image["suggestion"] != ["blue"] else "green"
        ask(client, "answer", tab="a", number=1, labels=[other])
        ask(client, "answer", tab="a", number=2, labels=None)
        standing = client.get("state").json()["standing"]
        assert (standing["answered"], standing["skipped"], standing["open"]) == (2, 1, 6)
        right = sum([[wanted[names[0]].label] == ["red"], [other] == [wanted[names[1]].label]])
        assert (standing["judged"], standing["right"]) == (2, right)
    assert [(row["path"], row["label"]) for row in rows_of(out)] == [(names[0], "red"), (names[1], other)]
    read = read_images(str(out), DataOptions())
    assert [read.label_names(row) for row in range(2)] == [("red",), (other,)]


def test_two_tabs_show_different_images_and_the_last_answer_counts(lab: Lab, pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    with opened(plan_of(lab, pool, out)) as (client, _):
        one, two = (ask(client, "next", tab=tab)["image"]["number"] for tab in "ab")
        assert (one, two) == (0, 1)
        assert ask(client, "answer", tab="a", number=0, labels=["red"])["image"]["number"] == 2
        assert ask(client, "answer", tab="b", number=1, labels=["blue"])["image"]["number"] == 3
        ask(client, "answer", tab="b", number=0, labels=["green"])
        assert "another tab" in ask(client, "undo", 409, tab="a")["detail"]
        back = ask(client, "undo", tab="b")["image"]
        assert (back["number"], back["now"]) == (0, ["red"])  # what the first tab said counts again
    # a second process writes beside the first one
    with opened(plan_of(lab, pool, out)) as (first, _), opened(plan_of(lab, pool, out)) as (second, _):
        ask(first, "answer", tab="c", number=4, labels=["red"])
        ask(second, "answer", tab="d", number=5, labels=["blue"])
        assert first.get("state").json()["standing"]["answered"] in {3, 4}
    assert len(rows_of(out)) == 4


def test_undo_goes_back_one_by_one_and_survives_a_start(lab: Lab, pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    with opened(plan_of(lab, pool, out)) as (client, _):
        for number in range(3):
            ask(client, "answer", tab="a", number=number, labels=["red"])
        assert ask(client, "undo", tab="a")["image"]["number"] == 2
    with opened(plan_of(lab, pool, out)) as (client, _):
        assert ask(client, "undo", tab="a")["image"]["number"] == 1
        assert [row["path"] for row in rows_of(out)] == [str(sorted(pool.iterdir())[0])]
        assert ask(client, "next", tab="a")["image"]["number"] == 1
        ask(client, "undo", tab="a")
        ask(client, "undo", 409, tab="a")


def test_a_new_class_is_kept_and_bad_ones_are_refused(lab: Lab, pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    with opened(plan_of(lab, pool, out)) as (client, _):
        assert "not a class" in ask(client, "answer", 422, tab="a", number=0, labels=["teal"])["detail"]
        assert ask(client, "class", tab="a", name="  sea   green ")["added"] == "sea green"
        for name in ("", " ", "x" * 101, "RED", "a\u0007b"):
            ask(client, "class", 422, tab="a", name=name)
        ask(client, "answer", 422, tab="a", number=0, labels=[])
        ask(client, "answer", 422, tab="a", number=0, labels=["red", "blue"])
        ask(client, "answer", tab="a", number=0, labels=["sea green"])
    with opened(plan_of(lab, pool, out)) as (client, _):
        assert client.get("state").json()["standing"]["classes"] == ["blue", "green", "red", "sea green"]
    assert rows_of(out)[0]["label"] == "sea green"


def test_labels_of_the_data_are_checked_and_kept(lab: Lab, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", per_class=2, seed=6)
    out = tmp_path / "labels.csv"
    with opened(plan_of(lab, folder, out)) as (client, _):
        assert ask(client, "next", tab="a")["image"] is None  # nothing is without a label
        image = ask(client, "next", tab="a", wanted={"show": "given"})["image"]
        assert image["given"] == ["blue"]
        ask(client, "answer", tab="a", number=0, labels=["blue"])
        ask(client, "answer", tab="a", number=1, labels=["red"])
        only = ask(client, "next", tab="a", wanted={"show": "given", "label": "red"})["image"]
        assert only["given"] == ["red"]
    assert [(row["label"], row["how"]) for row in rows_of(out)] == [
        ("blue", "right"),
        ("red", "labelled"),
        *[(name, "given") for name in ("green", "green", "red", "red")],
    ]
    (tmp_path / "runs").mkdir()
    kept = call("relabel", "apply", str(out), str(folder), "--cache", str(tmp_path / "cache"), cwd=tmp_path)
    assert kept.status == 0, kept.err
    known = json.loads(next(tmp_path.rglob("labels.json")).read_text())["labels"].values()
    assert sorted((one["given"], one["label"]) for one in known) == [("blue", "blue"), ("blue", "red")]
    corrected = read_images(str(folder), DataOptions(relabel=str(out)))
    assert [corrected.label_names(row)[0] for row in range(6)] == ["blue", "red", "green", "green", "red", "red"]


def test_judged_labels_are_those_of_relabel(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers on the page are kept for every command, what was kept is not asked again, and undo takes back."""
    folder, out = write_pictures(tmp_path / "pictures", per_class=2, seed=6), tmp_path / "labels.csv"
    plan = plan_of(lab, folder, out)
    runs = replace(plan.pipeline.report, runs=str(tmp_path / "runs"), name=None)
    plan = replace(plan, pipeline=replace(plan.pipeline, report=runs))
    monkeypatch.setattr(label_desk, "_CALM", 0.0)
    options = ("--cache", plan.pipeline.features.cache, "--runs", str(tmp_path / "runs"))
    green = sorted(map(str, folder.rglob("*.png")))[2]
    call("relabel", "confirm", green, "--data", str(folder), *options, cwd=tmp_path)

    def kept() -> list[tuple[str, str]]:
        listed = call("relabel", "list", str(folder), *options, "--json", cwd=tmp_path).json["labels"]
        return [(one["given"], one["label"]) for one in listed]

    with opened(plan) as (client, _):
        standing = client.get("state").json()["standing"]
        assert (standing["answered"], standing["given"]) == (1, 5)  # the confirmed one is not to be checked again
        ask(client, "answer", tab="a", number=0, labels=["blue"])
        ask(client, "answer", tab="a", number=1, labels=["red"])
        assert kept() == [("blue", "blue"), ("blue", "red"), ("green", "green")]
        ask(client, "undo", tab="a")
        assert kept() == [("blue", "blue"), ("green", "green")]
        ask(client, "answer", tab="a", number=2, labels=["red"])
        ask(client, "undo", tab="a")
        assert kept() == [("blue", "blue"), ("green", "green")]  # what was known before counts again
    call("relabel", "forget", "--all", "--data", str(folder), *options, cwd=tmp_path)
    with opened(plan) as (client, _):  # the journal was taken in once
        assert kept() == []
        ask(client, "answer", tab="a", number=4, labels=["green"])
        assert kept() == [("red", "green")]


def test_labels_are_filtered_and_ordered_by_how_likely_they_are_wrong(lab: Lab, tmp_path: Path) -> None:
    folder, out = write_pictures(tmp_path / "pictures", per_class=4, seed=7), tmp_path / "labels.csv"
    bundle = lab.bundle("logreg")
    for name in ("blue", "red"):
        (folder / name / "7-00.png").rename(folder / "green" / f"{name}.png")
    paths = sorted(map(str, folder.rglob("*.png")))
    plan = plan_of(lab, folder, out, bundle)
    plan = replace(
        plan, pipeline=replace(plan.pipeline, report=replace(plan.pipeline.report, runs=str(tmp_path / "r")))
    )
    chances = zip(paths, featx.Model(bundle).predict_proba(paths), strict=True)
    doubt = {path: 1 - row[bundle.classes.index(Path(path).parent.name)] for path, row in chances}
    with opened(plan) as (client, _):
        shown = []
        assert client.get("state").json()["standing"]["scored"]
        wanted = {"show": "given", "order": "wrong", "doubt": 0.5}
        while image := ask(client, "next", tab="a", wanted=wanted)["image"]:
            shown.append(image["number"])
            assert image["wrong"] == pytest.approx(doubt[paths[image["number"]]], abs=2e-3)
            ask(client, "answer", tab="a", number=image["number"], labels=image["given"])
        names = [paths[number] for number in shown]
        assert names == sorted(filter(lambda path: doubt[path] >= 0.5, paths), key=lambda path: -doubt[path])
        assert {"blue.png", "red.png"} <= {Path(name).name for name in names}


def test_the_list_of_check_brings_its_scores(lab: Lab, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", per_class=1, seed=8)
    listed = tmp_path / "runs" / "pictures" / "check" / "label_errors.csv"
    listed.parent.mkdir(parents=True)
    listed.write_text(
        "path,label,suggested,confidence,label_confidence,split,right\n"
        "blue/8-00.png,blue,red,0.9000,0.0400,train,\nred/8-00.png,red,blue,0.6000,0.3000,train,\n"
    )
    runs = replace(lab.pipeline.report, runs=str(tmp_path / "runs"), name=None)
    options = DataOptions(path=str(listed), image_dir=str(folder))
    pipeline = replace(lab.pipeline, data=options, report=runs)
    with opened(LabelPlan(pipeline, None, tmp_path / "labels.csv")) as (client, _):
        image = ask(client, "next", tab="a", wanted={"show": "given", "order": "wrong"})["image"]
        assert (image["given"], image["suggestion"], image["wrong"]) == (["blue"], ["red"], 0.96)
        ask(client, "answer", tab="a", number=image["number"], labels=["red"])
    kept = json.loads((tmp_path / "runs" / "pictures" / "labels.json").read_text())["labels"].values()
    assert [(one["given"], one["label"]) for one in kept] == [("blue", "red")]


def test_a_large_set_is_there_before_its_suggestions(lab: Lab, pool: Path, tmp_path: Path) -> None:
    """The model is asked in the background; what was answered meanwhile stays, and a path named twice is shown once."""
    listed, out = tmp_path / "list.csv", tmp_path / "labels.csv"
    names = sorted(map(str, pool.iterdir()))
    listed.write_text("path,label\n" + "".join(f"{name},\n" for name in [*names, names[3]]))
    plan = plan_of(lab, listed, out, lab.bundle("logreg"))
    with Cache(plan.pipeline.features.cache) as cache:
        desk = open_desk(plan, cache, Context(), at_once=5)
        assert desk.standing().images == 9
        first = desk.next("a", Wanted())
        assert first is not None
        assert (first.number, first.suggestion, first.near) == (0, None, ())
        desk.answer(0, ["red"], "a")
        said: list[str] = []
        assert "suggests" in ask_model(plan, desk, said.append)
        following = desk.next("a", Wanted())
        assert following is not None
        assert following.suggestion is not None
        assert [one.number for one in following.near] == [0]
        desk.close()
    assert [row["label"] for row in rows_of(out)] == ["red"]


def test_an_image_takes_few_bytes(tmp_path: Path) -> None:
    """So that two million fit: what a desk holds of each, besides the name of its file."""
    n = 8_000
    paths = Paths(f"/data/class{row % 7}/{row:08d}.jpg" for row in range(n))
    given = Coded(np.arange(n, dtype=np.int32) % 8, (*((f"class{code}",) for code in range(7)), ()))
    journal = LabelJournal(tmp_path / "labels.journal.jsonl")
    tracemalloc.start()
    desk = LabelDesk(LabelSheet.plain(paths, given), journal, tmp_path / "labels.csv", [])
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (desk.standing().given, desk.standing().open) == (n - n // 8, n // 8)
    assert held / n < 80
    assert peak / n < 300  # with the lines of the CSV that are on their way
    desk.close()
    assert len(rows_of(tmp_path / "labels.csv")) == n - n // 8


@pytest.mark.parametrize("order", ["list", "unsure", "wrong"])
def test_filters_and_orders_are_those_of_a_loop(tmp_path: Path, order: str) -> None:
    """Whatever is asked for, the first image is that which one finds by looking at each."""
    n, random = 120, np.random.default_rng(0)
    classes, paths = ("a", "b", "c"), Paths(f"/data/{row}.jpg" for row in range(120))
    given = Coded.of([((), ("a",), ("b",))[code] for code in random.integers(0, 3, n).tolist()])
    likely = Coded.of([(None, ("b",), ("c",))[code] for code in random.integers(0, 3, n).tolist()])
    sure = np.where(random.random(n) < 0.2, np.nan, random.random(n).round(2))
    wrong = np.where(random.random(n) < 0.2, np.nan, random.random(n).round(2))
    sheet = replace(LabelSheet.plain(paths, given), suggestion=likely, confidence=sure, wrong=wrong, first=(7, 90))
    desk = LabelDesk(sheet, LabelJournal(tmp_path / "a.journal.jsonl"), tmp_path / "a.csv", classes)
    answered = dict(zip(range(0, n, 5), (None, ("a",), ("c",)) * 8, strict=True))
    for row, labels in answered.items():
        desk.answer(row, labels, "a")

    def kind(row: int) -> str:
        if row in answered:
            return "skipped" if answered[row] is None else "answered"
        return "given" if given[row] else "open"

    def passes(row: int, wanted: Wanted) -> bool:
        labels = {*(answered[row] or () if row in answered else given[row]), *(likely[row] or ())}
        if kind(row) != wanted.show or (wanted.label and wanted.label not in labels):
            return False
        if wanted.doubt and not wrong[row] >= wanted.doubt:
            return False
        return bool(np.isnan(sure[row]) or wanted.least <= sure[row] <= wanted.most)

    keys = {"list": np.where(np.isin(np.arange(n), sheet.first), -1, 0), "unsure": sure, "wrong": -wrong}
    for show, label, least, most, doubt in product(
        ("open", "given", "answered", "skipped"), ("", "a", "c"), (0.0, 0.4), (1.0, 0.7), (0.0, 0.5)
    ):
        wanted = Wanted(show, label, least, most, doubt, order)
        rows = [row for row in np.argsort(keys[order], kind="stable").tolist() if passes(row, wanted)]
        found = desk.next("a", wanted)
        assert (None if found is None else found.number) == (rows[0] if rows else None), wanted
    desk.close()


def test_a_very_large_set_does_not_wait_for_its_csv(
    lab: Lab, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written in the background and at the end; answers are in the journal at once."""
    monkeypatch.setattr(label_desk, "_MANY", 5)
    out = tmp_path / "labels.csv"
    with opened(plan_of(lab, pool, out)) as (client, desk):
        ask(client, "answer", tab="a", number=2, labels=["red"])
        ask(client, "answer", tab="a", number=1, labels=["blue"])
        ask(client, "undo", tab="a")
        assert not out.exists()
        assert [entry.path for entry in desk.journal.answers()] == [desk.sheet.paths[2]]
    assert [(row["path"], row["label"]) for row in rows_of(out)] == [(desk.sheet.paths[2], "red")]


def test_several_labels_go_through_the_csv(lab: Lab, pool: Path, tmp_path: Path) -> None:
    listed, out = tmp_path / "list.csv", tmp_path / "labels.csv"
    names = sorted(map(str, pool.iterdir()))
    listed.write_text("path,label\n" + "".join(f"{name},\n" for name in names))
    options = DataOptions(path=str(listed), label_separator="|", classes=("blue", "red"))
    plan = LabelPlan(replace(lab.pipeline, data=options), None, out)
    with opened(plan) as (client, _):
        ask(client, "answer", tab="a", number=0, labels=["red", "blue"])
        ask(client, "answer", tab="a", number=1, labels=[])
        assert "stands between" in ask(client, "class", 422, tab="a", name="a|b")["detail"]
    read = read_images(str(out), DataOptions(label_separator="|"))
    assert [read.label_names(row) for row in range(2)] == [("blue", "red"), ()]


def test_a_list_of_next_brings_its_suggestions(lab: Lab, pool: Path, tmp_path: Path) -> None:
    names = sorted(map(str, pool.iterdir()))
    listed = tmp_path / "runs" / "flowers" / "next" / "next.csv"
    listed.parent.mkdir(parents=True)
    listed.write_text(
        "path,label,suggestion,confidence,distance,score,reason\n"
        f"{names[4]},,red,0.4000,,0.1,typical\n{names[2]},,blue,0.9000,,0.1,rare\n"
    )
    pipeline = replace(lab.pipeline, data=DataOptions(path=str(listed)))
    assert run_of(replace(pipeline, report=replace(pipeline.report, name=None))).path == listed.parent.parent
    with opened(LabelPlan(pipeline, None, tmp_path / "labels.csv")) as (client, _):
        image = ask(client, "next", tab="a")["image"]
        assert (image["name"], image["suggestion"], image["confidence"]) == (Path(names[4]).name, ["red"], 0.4)
        assert image["reason"] == "typical"
        sure = ask(client, "next", tab="a", wanted={"least": 0.5})["image"]
        assert sure["suggestion"] == ["blue"]
        doubtful = ask(client, "next", tab="b", wanted={"label": "red"})["image"]
        assert doubtful["suggestion"] == ["red"]


def test_only_images_of_the_set_are_served_and_only_to_who_knows_the_token(
    lab: Lab, pool: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.png").write_bytes(sorted(pool.iterdir())[0].read_bytes())
    with opened(plan_of(lab, pool, tmp_path / "labels.csv")) as (client, desk):
        page = client.get("")
        assert page.status_code == 200
        assert "script-src 'self'" in page.headers["content-security-policy"]
        picture = client.get("image/0")
        assert picture.content[:2] == b"\xff\xd8"
        assert client.get("image/9").status_code == 404
        assert client.get("image/-1").status_code == 404
        for path in ("image/../../secret.png", "image/%2e%2e%2fsecret.png", "image/secret.png", "..%2fsecret.png"):
            assert client.get(path).status_code in {403, 404, 422}
        assert client.get("image/0?size=../x").status_code == 422
        before = desk.standing()
        for url in ("/", "/wrong/state", f"/{TOKEN}x/state", f"/{TOKEN}", "/state"):
            assert client.get(f"http://127.0.0.1:8000{url}").status_code == 403
        body = {"tab": "a", "number": 0, "labels": ["red"]}
        for headers in (
            {"Origin": "http://evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Origin": "null"},
        ):
            assert client.post("answer", json=body, headers=headers).status_code == 403
        assert client.get("state", headers={"Host": "evil.example"}).status_code == 421
        assert client.post("answer", json=body, headers={"Host": "evil.example"}).status_code == 421
        assert desk.standing() == before
        assert client.post("answer", json=body, headers={"Origin": "http://127.0.0.1:8000"}).status_code == 200


def test_what_a_killed_process_left_half_is_skipped(lab: Lab, pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    with opened(plan_of(lab, pool, out)) as (client, desk):
        ask(client, "answer", tab="a", number=0, labels=["red"])
        journal = desk.journal.path
    with open(journal, "a") as file:
        file.write('{"path": "x", "how": "label')
    out.unlink()
    with opened(plan_of(lab, pool, out)) as (client, _):
        assert ask(client, "next", tab="a")["image"]["number"] == 1
        ask(client, "answer", tab="a", number=1, labels=["blue"])
    with opened(plan_of(lab, pool, out)):
        assert [row["label"] for row in rows_of(out)] == ["red", "blue"]
    assert len([line for line in journal.read_text().splitlines() if line.startswith("{") and _is_json(line)]) == 2


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def test_the_button_fits_and_brings_the_images_of_the_pool(lab: Lab, pool: Path, tmp_path: Path) -> None:
    listed, out = tmp_path / "list.csv", tmp_path / "labels.csv"
    names = sorted(map(str, pool.iterdir()))
    listed.write_text("path,label\n" + "".join(f"{name},\n" for name in names[:2]))
    plan = plan_of(lab, listed, out, labelled=str(lab.root / "pictures"), pool=str(pool))
    pipeline: Pipeline = replace(plan.pipeline, report=replace(plan.pipeline.report, runs=str(tmp_path / "runs")))
    plan = replace(plan, pipeline=pipeline)
    with opened(plan) as (client, desk):
        labelled = client.get("state").json()["standing"]["given"]
        assert labelled == 60
        image = ask(client, "next", tab="a")["image"]
        assert {tuple(one["labels"]) for one in image["near"]} <= {("blue",), ("green",), ("red",)}
        for number in range(2):
            ask(client, "answer", tab="a", number=number, labels=[Path(names[number]).name.split("-")[0]])
        said: list[str] = []
        done = next_round(plan, desk, said.append)
        assert "7 images to label next" in done
        first = ask(client, "next", tab="a")["image"]
        chosen = rows_of(tmp_path / "runs" / "lab" / "next" / "next.csv")
        assert len(chosen) == 7
        assert first["name"] == Path(chosen[0]["path"]).name
        assert first["suggestion"] == [chosen[0]["suggestion"]]
        assert client.get("state").json()["standing"]["open"] == 7
        assert len(first["near"]) == 6
    assert len(rows_of(out)) == 62


def test_too_few_labels_are_a_sentence_on_the_page(lab: Lab, pool: Path, tmp_path: Path) -> None:
    plan = plan_of(lab, pool, tmp_path / "labels.csv")
    with Cache(plan.pipeline.features.cache) as cache:
        desk = open_desk(plan, cache, Context())
    rounds = Rounds(lambda say: next_round(plan, desk, say))
    rounds._run(lambda say: next_round(plan, desk, say))
    assert rounds.failed
    assert not rounds.said.startswith("Unexpected")


@pytest.mark.slow
def test_the_command_goes_on_after_a_kill(lab: Lab, pool: Path, tmp_path: Path) -> None:
    import httpx

    command = [sys.executable, "-m", "featx", "label", str(pool), "--classes", "blue,red", "--runs", "runs"]
    csv = Path("runs", "pool", "label", "labels.csv")
    for number in range(2):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        assert process.stderr is not None
        line = next(line for line in process.stderr if "Label at" in line)
        address = line.split()[2]
        with httpx.Client(trust_env=False, timeout=30) as client:
            image = client.post(f"{address}next", json={"tab": "a"}).json()["image"]
            assert image["number"] == number
            client.post(f"{address}answer", json={"tab": "a", "number": number, "labels": ["red"]})
        process.send_signal(signal.SIGKILL if number == 0 else signal.SIGTERM)
        ended = process.communicate()[1]
    assert f"2 images labelled here: {csv}. Fit a head: featx fit-head {csv}" in ended
    process = subprocess.Popen([*command, "--name", "none"], stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stderr is not None
    line = next(line for line in process.stderr if "Label at" in line)
    assert (
        httpx.get(f"{line.split()[2]}state", trust_env=False, timeout=30).json()["standing"]["answered"] == 0
    )  # it serves now
    process.send_signal(signal.SIGTERM)
    assert process.communicate()[1].endswith("labels.csv. The same command resumes.\n")
    assert len(rows_of(tmp_path / "runs" / "pool" / "label" / "labels.csv")) == 2
