"""No figure is of images that trained, or chose, what is measured."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cached import images_of_part, prepare
from fitted import Lab, call, evaluate, with_finetune, write_pictures

import featx
from featx.bundle.bundle import Bundle, load_bundle
from featx.config import HeadOptions
from featx.dataset import SPLITS, TEST, TRAIN, VAL
from featx.errors import DataError
from featx.io.digests import digest_file
from featx.runs.prepared import Prepared
from featx.store.cache import Cache
from featx.workflow.publish import publish_finetuned, publish_head
from featx.workflow.run import run_pipeline


def prepare_anew(lab: Lab, runs: Path, seed: int = 0, **head: Any) -> Prepared:
    """The pictures of the lab in a run of their own, split by another seed."""
    pipeline = lab.pipeline
    return prepare(
        replace(
            pipeline,
            data=replace(pipeline.data, seed=seed),
            head=replace(HeadOptions(), strength=0.1, **head),
            report=replace(pipeline.report, runs=str(runs)),
        )
    )


def part_of(lab: Lab, bundle: Bundle, part: str) -> set[bytes]:
    """What is measured, read from the files themselves."""
    images, _ = images_of_part(lab.pipeline, bundle, part)
    return {digest_file(path) for path in images.paths}


def in_part(prepared: Prepared, *codes: int) -> set[bytes]:
    sample = prepared.sample
    return set(sample.digests[np.isin(sample.split, codes)].tolist())


def test_a_fine_tune_is_not_measured_on_what_its_start_was_trained_on(lab: Lab, tmp_path: Path) -> None:
    first, second = prepare_anew(lab, tmp_path / "a"), prepare_anew(lab, tmp_path / "b", seed=1)
    start = publish_head(first)
    tuned = publish_finetuned(start, with_finetune(second, epochs=1))
    # by hand: sets of digests
    val = in_part(second, VAL) - in_part(first, TRAIN)
    test = in_part(second, TEST) - in_part(first, TRAIN, VAL)
    assert 0 < len(test) < len(in_part(second, TEST))
    assert 0 < len(val) < len(in_part(second, VAL))
    assert tuned.manifest.metrics_on("test").images == len(test)
    assert tuned.manifest.metrics_on("val").images == len(val)
    assert tuned.manifest.origin is not None
    assert tuned.manifest.origin.metrics_on("test").images == len(test)
    assert part_of(lab, tuned, "test") == test
    (note,) = tuned.manifest.notes
    assert f"{15 - len(val)} of 15 val images and {15 - len(test)} of 15 test images are left out" in note
    # it remembers what it comes from, and hands it on
    again = publish_finetuned(tuned, with_finetune(prepare_anew(lab, tmp_path / "c", seed=0), epochs=1))
    trained = in_part(first, TRAIN) | in_part(second, TRAIN)
    for bundle in (tuned, again):
        assert set(bundle.seen().trained.tolist()) == trained
    assert part_of(lab, again, "test") == in_part(first, TEST) - trained - val
    _, notes = images_of_part(lab.pipeline, tuned, "all")
    assert notes == [f"{len(trained)} of these images were trained on: the figures flatter the model."]
    assert load_bundle(tuned.path).split().keys() == in_part(second, TRAIN) | val | test


def test_val_of_a_head_that_was_fitted_again_is_training_data(lab: Lab, tmp_path: Path) -> None:
    prepared = prepare_anew(lab, tmp_path, refit=True)
    bundle = publish_head(prepared)
    with pytest.raises(
        DataError, match=r"trained on its val images, too \(--refit\).*on val before that was 0\.\d\d\. "
    ):
        images_of_part(lab.pipeline, bundle, "val")
    _, notes = images_of_part(lab.pipeline, bundle, "all")
    assert notes == ["45 of these images were trained on: the figures flatter the model."]
    assert evaluate(bundle, images_of_part(lab.pipeline, bundle, "test")[0])[0]["images"] == 15
    with pytest.raises(DataError, match=r"none of the 15 val images can choose the best epoch\. Fit a head without"):
        publish_finetuned(bundle, with_finetune(prepared, epochs=1))
    with Cache(Path(lab.pipeline.features.cache)) as cache:
        done = run_pipeline(prepared.pipeline, cache)
    assert [(one.stage, one.done) for one in done.stages][2] == ("finetune", False)
    assert "trained on val, too (head.refit)" in done.stages[2].why


def test_a_rival_is_not_compared_on_its_own_training_images(lab: Lab, tmp_path: Path) -> None:
    first, second = prepare_anew(lab, tmp_path / "a"), prepare_anew(lab, tmp_path / "b", seed=1)
    bundles = publish_head(first), publish_head(second)
    shutil.copytree(lab.root / "pictures", tmp_path / "pictures")
    for (one, other), (mine, theirs) in ((bundles, (first, second)), (bundles[::-1], (second, first))):
        found = call(
            "evaluate", one.path, "--against", other.path, "--data", tmp_path / "pictures", "--split", "test", "--json",
            cwd=tmp_path,
        )  # fmt: skip
        fair = in_part(mine, TEST) - in_part(theirs, TRAIN, VAL)
        assert found.json["images"] == 15
        assert found.json["against"]["images"] == len(fair)
        assert f"{15 - len(fair)} of 15 images are left out of the comparison" in found.err
        assert any("left out of the comparison" in note for note in found.json["notes"])
    everything = call(
        "evaluate", one.path, "--against", other.path, "--data", tmp_path / "pictures", "--json", cwd=tmp_path
    )
    assert everything.json["images"] == 60
    assert everything.json["against"]["images"] == 60 - len(in_part(first, TRAIN) | in_part(second, TRAIN))
    refused = call(
        "evaluate", one.path, "--against", other.path, "--data", tmp_path / "pictures", "--split", "train",
        cwd=tmp_path,
    )  # fmt: skip
    assert refused.status == 1
    assert "cannot be compared on these images" in refused.sentence


def test_where_both_have_the_same_split_nothing_is_left_out(lab: Lab, tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures")
    for part in SPLITS[1:]:
        found = call(
            "evaluate", lab.bundle("logreg").path, "--against", lab.bundle("ridge").path,
            "--data", tmp_path / "pictures", "--split", part, "--json", cwd=tmp_path,
        )  # fmt: skip
        assert (found.json["against"]["images"], found.json["notes"]) == (15, [])


def test_classes_that_the_bundle_does_not_know_are_named(lab: Lab, tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 4, seed=3)
    bundle = lab.bundle("logreg").path
    (tmp_path / "p" / "red").rename(tmp_path / "p" / "Red")
    found = call("evaluate", bundle, "--data", tmp_path / "p", "--json", cwd=tmp_path)
    (note,) = found.json["notes"]
    assert note.startswith(f"4 of 12 images are of classes that {bundle} does not know, and count as wrong: Red.")
    assert note.endswith("Rename classes that are the same: 'Red' is 'red' there.")
    assert note in found.err
    for name in ("blue", "green"):
        (tmp_path / "p" / name).rename(tmp_path / "p" / f"{name} flower")
    refused = call("evaluate", bundle, "--data", tmp_path / "p", cwd=tmp_path)
    assert refused.status == 1
    assert "None of the 12 images is of a class that" in refused.sentence
    assert "they are of Red, blue flower, green flower, and it knows blue, green, red." in refused.sentence


def test_classes_that_a_rival_does_not_know_are_named(lab: Lab, tmp_path: Path) -> None:
    """A model of other classes is never right: that another one is better by more than noise is no finding."""
    write_pictures(tmp_path / "p", 4, seed=3)
    (tmp_path / "p" / "red").rename(tmp_path / "p" / "rose")
    network = ("--backbone", lab.root / "tiny.keras", "--layer", "last", "--cache", lab.root / "cache")
    fitted = call("fit-head", "p", "--strength", "0.1", "--no-html", *network, cwd=tmp_path)
    assert fitted.status == 0, fitted.err
    rival = tmp_path / "runs" / "p" / "1-logreg"
    write_pictures(tmp_path / "new", 4, seed=4)
    typed = ("evaluate", lab.bundle("logreg").path, "--against", rival, "--data")
    found = call(*typed, "new", "--json", cwd=tmp_path)
    note = "4 of 12 images are of classes that {} does not know, and count as wrong: red."
    assert found.json["notes"] == [note.format(rival)]
    assert found.json["against"]["images"] == 12
    shutil.rmtree(tmp_path / "new" / "blue")
    shutil.rmtree(tmp_path / "new" / "green")
    with pytest.raises(DataError, match=r"^None of the 4 images is of a class that .* knows: they are of red, and it"):
        featx.load(lab.bundle("logreg").path).evaluate(tmp_path / "new", against=rival)


def test_images_that_are_gone_are_counted(lab: Lab, tmp_path: Path) -> None:
    write_pictures(tmp_path / "p")
    bundle = lab.bundle("logreg")
    parts, shown = bundle.split(), bundle.shown
    of_test = [path for path in sorted((tmp_path / "p").rglob("*.png")) if parts[digest_file(path)] == TEST]
    of_test[0].unlink()
    typed = ("evaluate", shown, "--data", tmp_path / "p", "--json", "--split")
    found = call(*typed, "test", cwd=tmp_path).json
    assert found["images"] == 14
    assert found["notes"] == [
        f"1 of 15 test images of {shown} is not in {tmp_path / 'p'}, or was changed: measured without."
    ]
    shutil.copy(of_test[2], of_test[1])  # other content under the same name, which is in the data twice now
    found = call(*typed, "test", cwd=tmp_path).json
    assert (found["images"], found["notes"][0].split(" of ")[:2]) == (13, ["2", "15 test images"])
    assert call(*typed, "val", cwd=tmp_path).json["notes"] == []
