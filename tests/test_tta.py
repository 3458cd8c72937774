"""Test-time averaging: the mean over an image and its views, by the bundle's policy or by one that is given."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cached import images_of_part, prepare
from fitted import Lab, call

from featx.bundle.bundle import Bundle
from featx.bundle.novelty import load_reference
from featx.config import AugmentOptions, HeadOptions
from featx.errors import UsageError
from featx.images.augment import Augmenter
from featx.images.decoder import load_image
from featx.inference.judge import judge
from featx.inference.predict import AnswerOptions, Average, Prediction, Unread, predict
from featx.io.digests import digest_file
from featx.workflow.publish import publish_head

POLICY = AugmentOptions(flip="horizontal", rotation=30, brightness=0.3)


def with_views(lab: Lab, **data: object) -> Bundle:
    """A bundle whose head was fitted on two views of every training image."""
    if "views" not in lab.bundles:
        pipeline = replace(lab.pipeline, augment=replace(POLICY, views=2), head=HeadOptions(strength=0.1))
        report = replace(pipeline.report, name="views")
        lab.bundles["views"] = publish_head(prepare(replace(pipeline, report=report)))
    return lab.bundles["views"]


def by_hand(bundle: Bundle, path: str, augmenter: Augmenter, views: int) -> np.ndarray:
    """The mean of the probabilities, one image at a time."""
    image = load_image(path, bundle.input_size, "stretch")
    altered = [augmenter(image, digest_file(Path(path)), view) for view in range(views + 1)]
    return np.mean([bundle.probabilities(bundle.features(one[None]))[0] for one in altered], axis=0)


@pytest.mark.parametrize("views", [1, 4, 40])  # 40 and the image are more than a batch
def test_probabilities_are_averaged_over_the_image_and_its_views(lab: Lab, views: int) -> None:
    bundle, paths = with_views(lab), lab.pictures[:5]
    answers = list(predict(bundle, paths, AnswerOptions(top=3), average=Average.of_bundle(bundle, views)))
    for path, answer in zip(paths, answers, strict=True):
        assert isinstance(answer, Prediction)
        expected = dict(zip(bundle.classes, by_hand(bundle, path, Augmenter(POLICY, 0), views), strict=True))
        assert answer.path == path
        for choice in answer.top:
            assert choice.confidence == pytest.approx(expected[choice.label], abs=1e-5)
        assert answer.label == max(expected, key=lambda label: expected[label])


def test_bytes_and_copies_have_the_views_of_their_content_and_broken_ones_are_told_once(lab: Lab) -> None:
    bundle = with_views(lab)
    first, second = lab.pictures[0], lab.pictures[30]
    sources = [first, Path(second).read_bytes(), b"no image", first, "/gone.png", second]
    average = Average.of_bundle(bundle, 3)
    found = list(predict(bundle, sources, average=average))
    assert [type(one) for one in found] == [Prediction, Prediction, Unread, Prediction, Unread, Prediction]
    assert isinstance(found[2], Unread)
    assert found[2].path == "image 3"
    confidences = [one.confidence for one in found if isinstance(one, Prediction)]
    assert confidences[0] == confidences[2]
    assert confidences[1] == confidences[3]
    assert found == list(predict(bundle, sources, average=average))


def test_distances_are_those_of_the_images_themselves(lab: Lab) -> None:
    bundle, paths = with_views(lab), lab.pictures[:4]
    plain = list(predict(bundle, paths, AnswerOptions(max_distance=1.0)))
    averaged = list(predict(bundle, paths, AnswerOptions(max_distance=1.0), average=Average.of_bundle(bundle, 2)))
    assert load_reference(bundle.path).scale > 0
    for one, other in zip(plain, averaged, strict=True):
        assert isinstance(one, Prediction)
        assert isinstance(other, Prediction)
        assert (one.distance, one.unknown) == (other.distance, other.unknown)
        assert one.confidence != other.confidence


def test_several_labels_are_given_by_averaged_probabilities(lab: Lab, tmp_path: Path) -> None:
    lines = [f"{path},{Path(path).parent.name}|{'odd' if i % 2 else 'even'}" for i, path in enumerate(lab.pictures)]
    (tmp_path / "index.csv").write_text("\n".join(["path,label", *lines]))
    data = replace(lab.pipeline.data, path=str(tmp_path / "index.csv"), label_separator="|")
    report = replace(lab.pipeline.report, runs=str(tmp_path / "runs"))
    pipeline = replace(lab.pipeline, data=data, report=report, head=HeadOptions(strength=0.1))
    bundle = publish_head(prepare(replace(pipeline, augment=replace(POLICY, views=1))))
    (answer,) = predict(bundle, lab.pictures[:1], AnswerOptions(top=5), average=Average.of_bundle(bundle, 2))
    chances = by_hand(bundle, lab.pictures[0], Augmenter(POLICY, 0), 2)
    assert isinstance(answer, Prediction)
    assert set(answer.labels or ()) == {
        name for name, p, least in zip(bundle.classes, chances, bundle.thresholds, strict=True) if p >= least
    }


def test_a_policy_that_is_given_goes_before_the_bundles(lab: Lab) -> None:
    bundle, other = with_views(lab), AugmentOptions(zoom=0.5)
    assert Average.of_bundle(bundle, 2, other, 7).augmenter == Augmenter(other, 7)
    assert Average.of_bundle(bundle, 2, AugmentOptions()).augmenter.policy == replace(POLICY, views=2)
    with pytest.raises(UsageError, match=r"made without augmentation, so --tta 3 needs a policy.*--flip horizontal"):
        Average.of_bundle(lab.bundle("logreg"), 3)


def test_a_part_is_measured_with_averaging(lab: Lab) -> None:
    bundle = with_views(lab)
    images, _ = images_of_part(lab.pipeline, bundle, "test")
    judged, _ = judge(bundle, images, "test", average=Average.of_bundle(bundle, 2))
    for path, chances in zip(judged.paths[:3], judged.probabilities[:3], strict=True):
        np.testing.assert_allclose(chances, by_hand(bundle, path, Augmenter(POLICY, 0), 2), atol=1e-5)


# --- the command line --------------------------------------------------------------------------------------------


def test_the_command_line_averages_with_the_same_keys(lab: Lab, tmp_path: Path) -> None:
    bundle, path = with_views(lab), lab.pictures[0]
    plain = call("predict", path, "--model", bundle.path, "--json", cwd=tmp_path).json
    averaged = call("predict", path, "--model", bundle.path, "--tta", "3", "--json", cwd=tmp_path).json
    assert list(averaged) == list(plain)
    assert list(averaged["predictions"][0]) == list(plain["predictions"][0])
    expected = by_hand(bundle, path, Augmenter(POLICY, 0), 3).max()
    assert averaged["predictions"][0]["confidence"] == pytest.approx(expected, abs=1e-5)
    assert averaged["predictions"][0]["confidence"] != plain["predictions"][0]["confidence"]
    arguments = ["--tta", "3", "--zoom", "0.5", "--out", "answers.csv"]
    assert call("predict", path, "--model", bundle.path, *arguments, cwd=tmp_path).status == 0
    expected = by_hand(bundle, path, Augmenter(AugmentOptions(zoom=0.5), 0), 3).max()
    with open(tmp_path / "answers.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["confidence"]) == pytest.approx(expected, abs=1e-5)


def test_a_pipeline_files_policy_is_taken(lab: Lab, tmp_path: Path) -> None:
    bundle, path = lab.bundle("logreg"), lab.pictures[0]
    (tmp_path / "p.yaml").write_text("augment: {brightness: 0.4}\ndata: {seed: 5}\n")
    done = call("predict", path, "--model", bundle.path, "-p", "p.yaml", "--tta", "2", "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    expected = by_hand(bundle, path, Augmenter(AugmentOptions(brightness=0.4), 5), 2).max()
    assert done.json["predictions"][0]["confidence"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tta", "2"], "was made without augmentation, so --tta 2 needs a policy"),
        (["--flip", "horizontal"], "flip: views are averaged with --tta N"),
        (["--tta", "-1"], "-1"),
    ],
)
def test_what_cannot_be_averaged_is_told(lab: Lab, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    done = call("predict", lab.pictures[0], "--model", lab.bundle("logreg").path, *arguments, cwd=tmp_path)
    assert done.status == 2
    assert sentence in done.sentence


def test_evaluate_averages_and_leaves_the_report_alone(lab: Lab, tmp_path: Path) -> None:
    bundle = with_views(lab)
    arguments = ["evaluate", bundle.path, "--data", str(lab.root / "pictures"), "--json"]
    plain, averaged = (call(*arguments, *more, cwd=tmp_path) for more in ([], ["--tta", "2"]))
    assert averaged.status == 0, averaged.err
    assert list(averaged.json) == list(plain.json)
    assert averaged.json["images"] == plain.json["images"] == 60
    assert averaged.json["log_loss"] != plain.json["log_loss"]
    assert averaged.json["report"] is None
    assert json.loads((bundle.path / "bundle.json").read_text())["digest"] == bundle.manifest.digest
