"""The model card: its numbers are those of the images, what is not known is said to be so, no name breaks the page."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fitted import COLOURS, Lab, call
from manifests import changed, manifest_of

from featx.backbones.spec import resolve
from featx.backbones.table import BACKBONES
from featx.bundle.bundle import pack
from featx.bundle.manifest import Manifest
from featx.card.card import model_card
from featx.config import FeaturesOptions
from featx.dataset import TEST, TRAIN
from featx.inference.predict import predict
from featx.io.digests import digest_file

SECTIONS = (  # of Mitchell et al. 2019, figure 1
    *("Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data"),
    *("Quantitative analyses", "Ethical considerations", "Caveats and recommendations"),
)


def front_matter(card: str) -> dict[str, Any]:
    """The metadata as a YAML reader has it."""
    _, block, _ = card.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(block)
    return found


def tables(card: str) -> list[list[list[str]]]:
    """The cells of every table, without its line of dashes."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", card, flags=re.MULTILINE)
    rows = [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()] for block in blocks]
    return [[[cell.strip() for cell in row] for i, row in enumerate(block) if i != 1] for block in rows]


def table_of(card: str, header: str) -> dict[str, list[str]]:
    """First cell -> the others, of the table that has this header."""
    (found,) = [table for table in tables(card) if header in table[0]]
    return {row[0]: row[1:] for row in found}


def test_its_numbers_are_those_of_the_images(lab: Lab, tmp_path: Path) -> None:
    """Counted again by hand: which images are where, and what the bundle answers to those of test."""
    bundle = lab.bundle("logreg")
    split = bundle.split()
    part = {path: split[digest_file(Path(path))] for path in lab.pictures}
    test = [path for path in lab.pictures if part[path] == TEST]
    truth = np.array([Path(path).parent.name for path in test])
    answers = np.array([one.label for one in predict(bundle, test)])
    card = call("bundle", "card", bundle.path, cwd=tmp_path).out
    accuracy = (truth == answers).mean()
    assert table_of(card, "val")["images"] == ["15", str(len(test))]
    assert table_of(card, "val")["accuracy"][1].startswith(f"{accuracy:.2f} (")
    (result,) = front_matter(card)["model-index"][0]["results"]
    assert result["metrics"][0] == {"type": "accuracy", "name": "accuracy", "value": pytest.approx(accuracy)}
    classes = table_of(card, "test images")
    for name in COLOURS:
        trained, tested, precision, recall, *_ = classes[name]
        assert int(trained) == sum(part[path] == TRAIN and Path(path).parent.name == name for path in lab.pictures)
        assert int(tested) == (truth == name).sum()
        assert float(recall) == pytest.approx((answers[truth == name] == name).mean(), abs=0.00501)
        assert float(precision) == pytest.approx((truth[answers == name] == name).mean(), abs=0.00501)


def test_it_has_every_section_and_tells_how_to_make_it_again(lab: Lab, tmp_path: Path) -> None:
    bundle = lab.bundle("logreg")
    done = call("bundle", "card", bundle.path, "--json", cwd=tmp_path).json
    card = done["card"]
    headings = " ".join(re.findall(r"^## (.*)$", card, flags=re.MULTILINE)).lower()
    assert all(section.lower() in headings for section in SECTIONS)
    manifest = bundle.manifest
    for told in (
        *("`tiny`", "last@avg", "32 pixels high, 32 wide", "logistic regression, C = ", manifest.split.digest[:16]),
        *(f"tensorflow=={manifest.versions['tensorflow']}", f"featx predict IMAGE... --model {bundle.path.name}"),
        *("--max-distance 1", "--min-confidence", "read from a file whose licence featx does not know"),
        *("Left out: 0 that could not be read, 0 copies of other images (which count once), and 0 for another reason",),
        *("drawn by featx, stratified by class", "No groups are known", "Test had no part in it"),
    ):
        assert told in card, told
    assert front_matter(card)["library_name"] == "featx"
    assert done["out"] is None


def test_it_is_written_to_a_file_that_is_not_replaced_unasked(lab: Lab, tmp_path: Path) -> None:
    pack(lab.bundle("logreg"), tmp_path / "colours.featx")
    command = ("bundle", "card", "colours.featx", "--out", "README.md")
    done = call(*command, cwd=tmp_path)
    assert done.out == "README.md\n"
    card = (tmp_path / "README.md").read_text()
    assert "# Model card: colours\n" in card
    assert "--model colours.featx" in card
    (tmp_path / "README.md").write_text("mine")
    done = call(*command, cwd=tmp_path)
    assert done.status == 2
    assert done.sentence.endswith("Replace it with --force, or name another file with --out.")
    assert (tmp_path / "README.md").read_text() == "mine"
    call(*command, "--force", cwd=tmp_path)
    assert (tmp_path / "README.md").read_text() == card


def test_an_older_bundle_says_what_it_does_not_know(lab: Lab) -> None:
    content = lab.bundle("logreg").manifest.as_json()
    del content["backbone"]["license"], content["per_class"], content["data"]["duplicates"]
    del content["split"]["classes"], content["split"]["declared"]
    card = model_card(Manifest.from_json(content, "old"), "old")
    for told in (
        "made by an older featx",
        "By class: not recorded. `featx evaluate` measures every class.",
        "Copies of other images: not recorded",
        "How the parts were made is not recorded",
    ):
        assert told in card, told


def test_a_bundle_that_says_next_to_nothing_has_a_card() -> None:
    card = model_card(manifest_of(), "bare")
    assert table_of(card, "val")["accuracy"] == ["not measured", "not measured"]
    assert "model-index" not in front_matter(card)
    assert "There was no test part" in card
    assert "None" not in card


def test_what_was_not_measured_is_said(lab: Lab) -> None:
    manifest = lab.bundle("logreg").manifest
    test = manifest.metrics_on("test").as_json() | {"roc_auc_macro": None, "intervals": {}}
    card = model_card(changed(manifest, metrics={"test": test}), "colours")
    assert table_of(card, "val")["macro ROC AUC"][1] == "not measured"
    assert "Not measured on test: macro ROC AUC." in card
    names = [one["name"] for one in front_matter(card)["model-index"][0]["results"][0]["metrics"]]
    assert "macro ROC AUC" not in names
    assert "accuracy" in names
    manifest = changed(manifest, metrics={"test": {"images": 0, "accuracy": None}})
    assert "There was no test part" in model_card(manifest, "colours")


def test_without_a_test_part_it_is_measured_on_val_and_groups_and_narrow_intervals_are_named(lab: Lab) -> None:
    manifest = lab.bundle("logreg").manifest
    val = replace(manifest.metrics_on("val"), groups=4, cautions=("The interval is too narrow.",))
    parts = replace(manifest.split, images={"train": 75, "val": 15, "test": 0}, grouped=True, grouped_by="pupil")
    card = model_card(replace(manifest, split=parts, metrics={"val": val}), "shapes")
    assert "It was fitted on train. Choices were made by folds of train." in card
    assert "There was no test part." in card
    assert "Test had no part" not in card
    assert "--data IMAGES --split val" in card
    assert table_of(card, "val")["groups"] == ["4", "not recorded"]
    assert "Images of one group (by pupil) are all in one part" in card
    assert "- The interval is too narrow." in card
    assert "Models of one run are compared by accuracy on folds of train where all of them were tried there" in card


def test_no_mistake_is_not_certainty(lab: Lab) -> None:
    manifest = lab.bundle("logreg").manifest
    test = manifest.metrics_on("test").as_json() | {"accuracy": 1.0, "images": 59}
    card = model_card(changed(manifest, metrics={"test": test}), "colours")
    assert "an error rate of up to 5.0% can go unseen" in card  # 0.95 ** 59 = 0.0485
    card = model_card(changed(manifest, metrics={"test": test | {"accuracy": 0.99}}), "colours")
    assert "can go unseen" not in card


def rows_of(**f1: float | None) -> list[dict[str, Any]]:
    return [{"label": name, "precision": f, "recall": f, "f1": f, "images": 30} for name, f in f1.items()]


def test_the_weakest_classes_are_named(lab: Lab) -> None:
    rows = rows_of(a=0.9, b=0.2, c=1.0, d=0.5, e=None)
    rows[1]["images"] = 7
    trained = {"train": {"a": 400, "b": 12, "c": 100, "d": 100, "e": 100}}
    manifest = changed(lab.bundle("logreg").manifest, classes=list("abcde"), split={"classes": trained})
    card = model_card(changed(manifest, per_class={"val": [], "test": rows}), "letters")
    assert "**Weakest on test:** b (F1 0.20, 7 images), d (F1 0.50, 30 images)." in card  # the mean is 0.65
    assert "Classes with fewer than 20 test images, whose figures say little: b (7)." in card
    assert "The training images are uneven: 12 of b, 400 of a." in card
    assert table_of(card, "test images")["e"] == ["100", "30", "not measured", "not measured", "not measured"]
    manifest = changed(manifest, per_class={"test": rows_of(a=1.0, b=1.0)})
    assert "No class is weaker than another on test." in model_card(manifest, "letters")


def test_of_many_classes_the_weakest_are_shown(lab: Lab) -> None:
    names = [f"c{number:03}" for number in range(120)]
    rows = rows_of(**{name: number / 120 for number, name in enumerate(names)})
    card = model_card(changed(lab.bundle("logreg").manifest, classes=names, per_class={"test": rows[::-1]}), "many")
    assert list(table_of(card, "test images"))[1:] == names[:50]
    assert "The weakest 50 of 120 classes, on test:" in card
    assert "c099 and 20 more." in card


def test_several_labels_have_their_metrics_and_thresholds(lab: Lab) -> None:
    measured = {"images": 40, "exact_match": 0.5, "f1_micro": 0.75, "intervals": {"exact_match": [0.25, 0.625]}}
    several = {"multilabel": True, "thresholds": [0.25, 0.5, 0.75], "metrics": {"val": None, "test": measured}}
    card = model_card(changed(lab.bundle("logreg").manifest, **several), "labels")
    assert table_of(card, "val")["exact match"] == ["not measured", "0.50 (0.25 to 0.63)"]
    assert [row[-1] for row in table_of(card, "threshold").values()] == ["threshold", "0.2500", "0.5000", "0.7500"]
    assert "an image may get none" in card
    assert "--min-confidence" not in card
    assert {"type": "f1", "name": "micro F1", "value": 0.75} in front_matter(card)["model-index"][0]["results"][0][
        "metrics"
    ]


def test_fine_tuned_and_from_scratch_are_told_apart(lab: Lab) -> None:
    tuned = {
        "finetune": {"epochs": 3, "best_epoch": 2},
        "from": {"bundle": "1-svm"},
        "verdict": "Fine-tuning beats it.",
    }
    card = model_card(changed(lab.bundle("logreg").manifest, **tuned), "tuned")
    assert "both fine-tuned from the bundle `1-svm`" in card
    assert "\n\nFine-tuning beats it.\n\n" in card
    assert "| fine-tuning | epochs 3, best_epoch 2 |" in card
    card = model_card(changed(lab.bundle("logreg").manifest, baseline={"net": "conv3"}), "scratch")
    assert "trained from scratch on your images" in card


@pytest.mark.parametrize(
    "name", ["a|b", "<script>alert(1)</script>", "x`y", "[l](http://x)", "two\nlines", "# h", "_u_", "é✓"]
)
def test_no_name_breaks_the_page(lab: Lab, name: str) -> None:
    manifest = lab.bundle("logreg").manifest
    rows = [row.as_json() | {"label": row.label.replace("red", name)} for row in manifest.per_class["test"]]
    more = {"per_class": {"test": rows}, "data": {"source": name}, "backbone": {"name": name}}
    card = model_card(changed(manifest, classes=["blue", "green", name], **more), name, name)
    assert all(len(row) == len(table[0]) for table in tables(card) for row in table)
    shown = [re.sub(r"\\(.)", r"\1", label) for label in table_of(card, "test images")]
    assert shown[1:] == ["blue", "green", " ".join(name.split("\n"))]
    assert front_matter(card)["tags"][-1] == " ".join(name.split("\n"))
    outside = re.sub(r"^```.*?^```|`[^`\n]*`", "", card.split("---\n", 2)[2], flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"(?<!\\)<script", outside)
    assert not re.search(r"^# h", outside, flags=re.MULTILINE)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_networks_weights_have_a_licence(name: str) -> None:
    assert resolve(FeaturesOptions(backbone=name)).weights_license in {"Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0"}
    assert resolve(FeaturesOptions(backbone=name, weights="random")).weights_license is None


@pytest.mark.parametrize(
    ("licence", "weights", "told"),
    [
        ("MIT", "imagenet", "were published under MIT"),
        (None, "random", "Yours: the network has random weights"),
        (None, "mine.h5", "read from a file whose licence featx does not know"),
    ],
)
def test_the_licence_of_the_weights(lab: Lab, licence: str | None, weights: str, told: str) -> None:
    manifest = changed(lab.bundle("logreg").manifest, backbone={"license": licence, "weights": weights})
    assert told in model_card(manifest, "x")
