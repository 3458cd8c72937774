"""Which models there are, which one a command takes that names none, and whose data a run is of."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import call, write_pictures
from manifests import manifest_of

import featx
from featx.bundle.bundle import load_bundle, pack
from featx.bundle.sealing import seal
from featx.config import DataOptions, Pipeline, ReportOptions
from featx.dataset import ImageSet, read_images
from featx.dataset.split import Placed
from featx.errors import BundleError, UsageError
from featx.io.index import StatIndex
from featx.runs.choosing import choose_bundle
from featx.runs.known_data import KnownData
from featx.runs.run import Run


def make(path: Path, created: str, val: float, **sections: Any) -> Path:
    """A bundle of the least that one holds, with figures, and a file of 100 bytes."""
    interval = [val - 0.1, min(val + 0.05, 1.0)]
    parts = {part: {"accuracy": val, "images": 20, "intervals": {"accuracy": interval}} for part in ("val", "test")}
    manifest = manifest_of(
        created=created,
        score={"metric": "accuracy", "value": val},
        metrics=parts,
        data={"source": path.parent.name},
        **sections,
    )
    path.mkdir(parents=True)
    (path / "network").write_bytes(bytes(100))
    seal(path, manifest)
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two runs and one of a comparison: flowers is older than cats, whose newest is not its best."""
    runs = tmp_path / "runs"
    make(runs / "flowers" / "1-logreg", "2026-01-01T10:00:00Z", 0.8)
    make(runs / "flowers" / "2-svm", "2026-01-02T10:00:00Z", 0.9)
    make(runs / "cats" / "1-logreg", "2026-03-01T10:00:00Z", 0.7)
    make(runs / "cats" / "2-logreg", "2026-03-02T10:00:00Z", 0.6)
    make(runs / "compare" / "birds" / "1-svm", "2026-02-01T10:00:00Z", 0.5)
    (runs / "flowers" / "look").mkdir()
    return runs


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", ".."])
def test_a_name_that_leaves_the_folder_of_results_is_refused(tmp_path: Path, name: str) -> None:
    done = call("fit-head", "pictures", "--name", name, cwd=tmp_path)
    assert done.status == 2
    assert f"got {name}, which is outside of it. Choose that folder with --runs DIR." in done.err
    with pytest.raises(UsageError, match="outside of it"):
        featx.fit_head("pictures", name=name)
    (tmp_path / "mine.yaml").write_text(f"data: {{path: pictures}}\nreport: {{name: '{name}'}}\n")
    assert "outside of it" in call("fit-head", "-p", "mine.yaml", cwd=tmp_path).err


def test_names_with_folders_are_as_deep_as_models_are_listed(results: Path) -> None:
    make(results / "a" / "b" / "c" / "1-logreg", "2026-04-01T10:00:00Z", 0.9)
    assert next(str(one.run.relative_to(results)) for one in featx.models(results)) == "a/b/c"
    assert call("models", "--name", "a/b/c", "--json", cwd=results.parent).json["default"] == "runs/a/b/c/1-logreg"
    deeper = call("models", "--name", "a/b/c/d", cwd=results.parent)
    assert deeper.status == 2
    assert "report.name must be 3 folders deep at most" in deeper.err


def test_every_model_of_every_run_is_listed(results: Path) -> None:
    listed = featx.models(results)
    assert [str(one.path.relative_to(results)) for one in listed] == [
        "cats/1-logreg",
        "cats/2-logreg",
        "compare/birds/1-svm",
        "flowers/1-logreg",
        "flowers/2-svm",
    ]
    assert [one.path.parent.name for one in listed if one.best] == ["cats", "birds", "flowers"]
    assert [one.path for one in listed if one.newest] == [results / "cats" / "2-logreg"]
    last = listed.models[-1]
    assert (last.data, last.head, last.layer, last.metric) == ("flowers", "logreg", "last@avg", "accuracy")
    assert last.test.value == 0.9
    assert last.test.interval == pytest.approx((0.8, 0.95))
    assert last.bytes == sum(file.stat().st_size for file in last.path.iterdir())
    assert last.best
    assert not listed.broken
    assert len(featx.models(results / "cats")) == 2
    assert len(featx.models(results / "nothing")) == 0


def test_a_broken_model_is_listed_with_its_sentence(results: Path) -> None:
    (results / "flowers" / "1-logreg" / "bundle.json").write_text("{")
    (results / "cats" / "1-logreg" / "network").unlink()
    (results / "flowers" / "3-knn").mkdir()
    (results / "flowers" / "3-knn" / "split.npz").write_bytes(b"")
    (results / "cats" / ".tmp-9-logreg").mkdir()
    shown = call("models", "--json", cwd=results.parent).json
    assert [one["path"] for one in shown["models"]] == [
        f"runs/{one}" for one in ("cats/2-logreg", "compare/birds/1-svm", "flowers/2-svm")
    ]
    reasons = {one["path"]: one["reason"] for one in shown["broken"]}
    assert "lacks network" in reasons["runs/cats/1-logreg"]
    assert "damaged" in reasons["runs/flowers/1-logreg"]
    assert "has no bundle.json" in reasons["runs/flowers/3-knn"]
    text = call("models", cwd=results.parent).out
    assert "broken: runs/cats/1-logreg: runs/cats/1-logreg lacks network." in text


def test_the_command_shows_what_a_command_without_a_model_takes(results: Path) -> None:
    outcome = call("models", cwd=results.parent)
    assert outcome.status == 0
    assert "runs/flowers/2-svm" in outcome.out
    assert "0.90 (0.80 to 0.95)" in outcome.out
    assert outcome.out.rstrip().endswith(
        "Without --model, commands take runs/cats/1-logreg, the best of the newest run (among 2, by accuracy on val)."
    )
    one = call("models", "--name", "flowers", "--json", cwd=results.parent).json
    assert [Path(model["path"]).name for model in one["models"]] == ["1-logreg", "2-svm"]
    assert one["default"] == "runs/flowers/2-svm"
    none = call("models", "--runs", "elsewhere", cwd=results.parent)
    assert none.out == "No models in elsewhere yet. Make one: featx fit-head DATA\n"


@pytest.mark.parametrize(
    ("where", "name", "taken", "why"),
    [
        (None, "flowers", "flowers/2-svm", "the best of runs/flowers"),
        (None, "default", "cats/1-logreg", "the best of the newest run"),
        ("flowers", "default", "flowers/2-svm", "the best of runs/flowers"),
        ("runs/flowers", "default", "flowers/2-svm", "the best of runs/flowers"),
        ("runs", "default", "cats/1-logreg", "the best of the newest run in runs"),
        ("compare", "default", "compare/birds/1-svm", "the best of the newest run in runs/compare"),
        ("compare/birds", "default", "compare/birds/1-svm", "the best of runs/compare/birds"),
        ("flowers/1-logreg", "default", "flowers/1-logreg", ""),
        ("runs/flowers/1-logreg/bundle.json", "default", "flowers/1-logreg", ""),
    ],
)
def test_a_model_is_named_by_bundle_run_or_folder_of_runs(
    results: Path, monkeypatch: pytest.MonkeyPatch, where: str | None, name: str, taken: str, why: str
) -> None:
    monkeypatch.chdir(results.parent)
    (results.parent / "flowers").mkdir()  # the data, which has the name of its run
    chosen = choose_bundle(where, Path("runs"), name)
    assert (chosen.path, chosen.why.partition(" (among")[0]) == (Path("runs") / taken, why)


def test_what_is_not_there_is_named_with_what_is(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(results.parent)
    with pytest.raises(BundleError, match=r"No bundle at flower\. Did you mean 'flowers'\?.* compare/birds, flowers"):
        choose_bundle("flower", Path("runs"), "default")
    with pytest.raises(BundleError, match=r"No bundle in runs/gone yet\. runs has models of: cats"):
        choose_bundle(None, Path("runs"), "gone", only=True)


def test_the_run_of_a_pipeline_file_is_the_only_one_that_will_do(results: Path) -> None:
    """The file of one data set, fitted or not, never means a model of another."""
    place = results.parent
    (place / "gone.yaml").write_text("data: {path: photos/gone}\n")
    (place / "ours.yaml").write_text("data: {path: photos}\nreport: {name: flowers}\n")
    (place / "views.yaml").write_text("augment: {flip: horizontal}\n")  # names no run
    missing = call("bundle", "card", "-p", "gone.yaml", cwd=place)
    assert missing.status == 1
    assert missing.sentence.startswith("featx: No bundle in runs/gone yet. runs has models of: cats")
    for file, run in (("ours.yaml", "flowers/2-svm"), ("views.yaml", "cats/1-logreg")):
        taken = call("bundle", "card", "-p", file, cwd=place)
        assert taken.err.startswith(f"Describing runs/{run}, the best of"), taken.err
        assert call("models", "-p", file, "--json", cwd=place).json["default"] == f"runs/{run}"
    assert call("models", "-p", "gone.yaml", "--json", cwd=place).json["default"] is None


def test_of_bundles_of_one_second_the_later_written_is_newer(tmp_path: Path) -> None:
    same = "2026-01-01T10:00:00Z"
    for number, name in enumerate(("later", "sooner")):
        path = make(tmp_path / "runs" / name / "1-svm", same, 0.5) / "bundle.json"
        os.utime(path, ns=(10**18 - number, 10**18 - number))
    assert choose_bundle(None, tmp_path / "runs", "default").path.parent.name == "later"


def test_commands_show_which_model_they_take_and_take_its_name(results: Path) -> None:
    taken = call("bundle", "card", cwd=results.parent)
    assert taken.status == 0, taken.err
    assert taken.err == (
        "Describing runs/cats/1-logreg, the best of the newest run (among 2, by accuracy on val). For another one: "
        "--model NAME; featx models lists them.\n"
    )
    named = call("bundle", "card", "--model", "flowers/1-logreg", "--json", cwd=results.parent)
    assert named.json["bundle"] == "runs/flowers/1-logreg"
    assert named.err == ""
    assert call("bundle", "card", "flowers", "--json", cwd=results.parent).json["bundle"] == "runs/flowers/2-svm"
    both = call("bundle", "card", "cats", "--model", "flowers", cwd=results.parent)
    assert both.sentence.endswith("Two models are named, cats and --model flowers. Name one.")
    gone = call("bundle", "card", "--name", "gone", cwd=results.parent)  # a name that was typed is meant
    assert "No bundle in runs/gone yet" in gone.sentence


def test_a_packed_bundle_is_called_by_its_file(results: Path, tmp_path: Path) -> None:
    pack(load_bundle(results / "cats" / "1-logreg"), tmp_path / "cats.featx")
    opened = load_bundle(tmp_path / "cats.featx")
    assert (opened.shown, opened.name) == (tmp_path / "cats.featx", "cats")
    assert opened.path != opened.shown
    shown = call("bundle", "card", "cats.featx", "--json", cwd=tmp_path)
    assert shown.json["bundle"] == "cats.featx"


def read(folder: Path) -> ImageSet:
    return read_images(str(folder), DataOptions())


@pytest.fixture
def meet(tmp_path: Path) -> Callable[..., list[str]]:
    """Brings images to the run `photos`, as every command does before it uses its split."""

    def bring(folder: Path, name: str | None = None) -> list[str]:
        images, data = read(folder), KnownData(tmp_path / "runs" / "photos")
        with StatIndex(tmp_path / "index.sqlite") as index:
            notes = data.meet(images, index, Pipeline(report=ReportOptions(name=name)))
        data.remember(images, DataOptions())
        return notes

    return bring


def test_another_data_set_of_the_same_name_is_refused(tmp_path: Path, meet: Callable[..., list[str]]) -> None:
    from featx.dataset.digests import digest_images

    one = write_pictures(tmp_path / "a" / "photos", 3, seed=1)
    other = write_pictures(tmp_path / "b" / "photos", 3, seed=2)
    assert meet(one) == []
    with StatIndex(tmp_path / "index.sqlite") as index:
        known = digest_images(read(one).paths, index).digest
    Run(tmp_path / "runs" / "photos").split.write("terms", Placed.of(known, np.zeros(len(known), np.uint8)))
    assert meet(one) == []
    with pytest.raises(UsageError, match=r"those of .*/a/photos: none of the 9 in .*--name b-photos\."):
        meet(other)
    assert meet(other, name="photos") == []  # who names the run means it
    assert json.loads((tmp_path / "runs" / "photos" / "data.json").read_text())["places"] == [str(one), str(other)]


def test_a_copy_shares_its_run_and_a_mixture_is_noted(tmp_path: Path, meet: Callable[..., list[str]]) -> None:
    from featx.dataset.digests import digest_images

    one = write_pictures(tmp_path / "a" / "photos", 3, seed=1)
    meet(one)
    with StatIndex(tmp_path / "index.sqlite") as index:
        known = digest_images(read(one).paths, index).digest
    Run(tmp_path / "runs" / "photos").split.write("terms", Placed.of(known, np.zeros(len(known), np.uint8)))
    copy, mixture = tmp_path / "c" / "photos", tmp_path / "d" / "photos"
    shutil.copytree(one, copy)
    assert meet(copy) == []
    shutil.copytree(one / "red", mixture / "red")
    write_pictures(mixture, 1, seed=5)
    (note,) = meet(mixture)
    assert note.startswith("3 of 6 images are among those of earlier runs in ")
    assert "keep it apart with --name" in note
