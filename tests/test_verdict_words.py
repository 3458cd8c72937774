"""The verdict: what a person reads of a model's counts, with scipy's intervals, and what is suggested next."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import Lab
from manifests import manifest_of
from scipy import stats

from featx.bundle.records import CandidateRecord
from featx.config import DataOptions, FeaturesOptions, Pipeline, ReportOptions
from featx.config.arguments import arguments_again, file_of, typed_arguments
from featx.config.pipeline import as_yaml
from featx.metrics.predictions import LabelledPredictions
from featx.report.next_steps import Typed
from featx.report.report import Content, write_report
from featx.report.standing import stand
from featx.report.typed import typed_again
from featx.report.verdict import Verdict, reach_verdict
from featx.report.words import named, percent

PHOTOS = Typed("photos", "photos")


def judged(
    confusion: Sequence[Sequence[int]], names: Sequence[str], part: str = "test", sure: float = 0.6, **more: Any
) -> LabelledPredictions:
    """Predictions with this confusion matrix, all of the same confidence."""
    k = len(confusion[0])
    cells = [(row, column) for row, some in enumerate(confusion) for column, n in enumerate(some) for _ in range(n)]
    labels, predicted = np.array(cells, np.int64).reshape(-1, 2).T
    chances = np.full((len(labels), k), (1 - sure) / max(k - 1, 1))
    chances[np.arange(len(labels)), predicted] = sure
    return LabelledPredictions(labels, chances, tuple(names), part=part, paths=("x.png",) * len(labels), **more)


def diagonal(k: int, each: int) -> list[list[int]]:
    return (np.eye(k, dtype=int) * each).tolist()


def verdict(*parts: LabelledPredictions, typed: Typed = PHOTOS, **sections: Any) -> Verdict:
    return reach_verdict(parts, manifest_of(**sections), typed=typed)


def wilson(right: int, images: int, digits: int = 0) -> str:
    found = stats.binomtest(right, images).proportion_ci(method="wilson")
    steps = 10**digits
    low, high = (
        way(round(100 * end * steps, 9)) / steps for way, end in ((math.floor, found.low), (math.ceil, found.high))
    )
    return f"between {low:.{digits}f} and {high:.{digits}f} %"


def test_a_small_set_reads_as_counts_with_the_interval_of_scipy() -> None:
    found = verdict(judged([[14, 1, 0], [2, 0, 0], [1, 0, 27]], ["hats", "insects", "shoes"]))
    assert found.headline == f"41 of 45 test images right (91 %, {wilson(41, 45)})."
    assert "Weakest: insects (0 of 2 right)" in found.sentences[1]
    assert found.sentences[1].endswith(": too few images of a class to be certain.")
    assert found.sentences[0] == "As a mean over classes that is 63 %: it does better on classes of many images."
    assert found.sentences[-1] == "It mistakes insects for hats (2 of 2)."


def test_of_many_images_the_digits_are_those_that_count_and_weak_classes_are_certain() -> None:
    found = verdict(judged([[4900, 100], [900, 4100]], ["cats", "dogs"]))
    assert found.headline == f"9,000 of 10,000 test images right (90.0 %, {wilson(9000, 10_000, 1)})."
    assert found.sentences == (
        "Weakest: dogs (4,100 of 5,000 right).",
        "It mistakes dogs for cats (900 of 5,000) and cats for dogs (100 of 5,000).",
    )
    assert found.as_json()["weakest"] == [{"label": "dogs", "images": 5000, "right": 4100, "certain": True}]


def test_everything_right_and_nothing_right() -> None:
    perfect = verdict(judged(diagonal(3, 10), "abc"))
    assert perfect.headline == f"30 of 30 test images right (100 %, {wilson(30, 30)})."
    assert perfect.sentences == ()
    assert perfect.steps[0].text.startswith("Nearly everything is right: if several images show one thing")
    none = verdict(judged([[0, 6], [6, 0]], ["a", "b"]))
    assert none.headline == f"0 of 12 test images right (0 %, {wilson(0, 12)})."
    assert none.sentences[0] == "Always answering a would be right for 50 %, so this is not a clear gain."
    assert none.sentences[-1] == "It mistakes a for b (6 of 6) and b for a (6 of 6)."
    one = verdict(judged([[1, 0], [0, 0]], ["a", "b"]))
    assert one.headline.startswith("1 of 1 test image right (100 %, between ")


def test_nothing_is_rounded_to_all_or_none() -> None:
    assert [percent(value) for value in (0, 1, 0.999, 0.9999, 0.001, 0.5)] == ["0", "100", "99.9", "99.99", "0.1", "50"]
    confusion = [[99_999, 1], [0, 100_000]]
    interval = stats.binomtest(199_999, 200_000).proportion_ci(method="wilson")
    assert float(interval.low) == pytest.approx(0.999972, abs=1e-6)
    assert "(99.9995 %, between 99.997 and 99.99992 %)" in verdict(judged(confusion, "ab")).headline


def test_without_test_images_the_optimism_of_val_is_said_and_the_remedy_can_be_typed() -> None:
    empty = LabelledPredictions(np.empty(0, np.int64), np.empty((0, 2)), ("a", "b"), part="test")
    val = judged([[9, 1], [0, 10]], "ab", part="val")
    found = verdict(val, empty, typed=Typed("p --split 0.8,0.2,0", "p"))
    assert found.headline.startswith("19 of 20 validation images right (95 %, ")
    assert found.headline.endswith("%); there are no test images.")
    assert found.sentences[0] == "Choose no model by these, or new images will do worse."
    tried = [{"clf": "svm", "params": {"C": c}, "metric": "accuracy", "score": 0.9, "where": "val"} for c in (1.0, 2.0)]
    chosen = verdict(val, empty, search={"a": tried}).sentences[0]
    assert chosen == "Models are chosen by these images, so new ones will do somewhat worse."
    assert found.steps[0].command == "featx fit-head p --split 0.6,0.2,0.2"
    declared = verdict(val, empty, split={"digest": "s", "declared": True})
    assert declared.steps[0].command == ""
    nothing = verdict(empty)
    assert nothing.headline.startswith("Nothing was measured")
    nested = {"folds": 5, "chosen": [], "images": 23, "accuracy": 20 / 23, "intervals": {"accuracy": [0.6787, 0.9546]}}
    folded = verdict(empty, nested=nested).headline
    assert (
        "By nested folds of 23 training images, each predicted without it, accuracy is 87 %, between 67 and 96 %"
        in folded
    )
    assert nothing.as_json()["images"] == 0
    single = {"digest": "s", "images": {"train": 2}, "classes": {"train": {"a": 1, "b": 1}}}
    alone = verdict(empty, split=single).steps[0]
    assert (alone.text[:10], alone.command) == ("Add images", "")  # of which no split would keep one back
    assert nothing.lines.endswith("Next: " + " ".join([nothing.steps[0].text, nothing.steps[0].command]))


def test_what_was_fitted_to_is_not_praised() -> None:
    assert "so new ones will do worse" in verdict(judged(diagonal(2, 30), "ab", part="train")).sentences[0]
    assert verdict(judged(diagonal(2, 30), "ab", part="holidays")).headline.startswith("60 of 60 images of holidays ")


def test_groups_widen_the_interval_and_are_named() -> None:
    confusion, groups = [[18, 2], [2, 18]], np.repeat(np.arange(8), 5)
    alone, grouped = (verdict(judged(confusion, "ab", groups=some)) for some in (None, groups))
    assert grouped.headline.endswith(", over 8 groups).")
    by_name = verdict(judged(confusion, "ab", groups=groups), split={"digest": "s", "grouped_by": "pupil"})
    assert by_name.headline.endswith(", over 8 groups by pupil).")
    assert alone.standing is not None
    assert grouped.standing is not None
    assert np.ptp(grouped.standing.interval) > np.ptp(alone.standing.interval)
    uneven = verdict(judged([[2, 2], [2, 34]], "ab", groups=groups)).as_json()
    assert json.loads(json.dumps(uneven))["weakest"][0]["certain"] is False


@pytest.mark.parametrize(("k", "each"), [(10, 6), (50, 6)])
def test_no_class_is_called_weak_by_chance(k: int, each: int) -> None:
    """By Wilson's interval of each class, one of ten equal ones was named in 10 % of sets, one of fifty in 24 %."""
    generator, named_weak = np.random.default_rng(0), 0
    for _ in range(200):
        right = generator.binomial(each, 0.9, k)
        cells = np.diag(right) + np.diag(each - right)[:, np.roll(np.arange(k), 1)]
        standing = verdict(judged(cells.tolist(), [f"class {code}" for code in range(k)])).standing
        named_weak += any(one.worse for one in standing.classes) if standing else 0
    assert named_weak <= 10
    certain = verdict(judged([[1, 5], [0, 54]], ["hats", "shoes"])).standing
    assert certain is not None
    assert [one.worse for one in certain.classes] == [True, False]
    assert stats.binom.cdf(1, 6, 55 / 60) < 0.05 / 2


def test_images_of_one_group_make_no_class_weak_for_certain() -> None:
    right, names = [30, 30, 30, 18], ["a", "b", "c", "d"]
    confusion = [
        [n if row == column else (30 - n) * (column == (row + 1) % 4) for column in range(4)]
        for row, n in enumerate(right)
    ]
    groups = np.concatenate([30 * row + np.arange(30) // 10 for row in range(4)])  # three groups of ten to a class
    alone, grouped = (verdict(judged(confusion, names, groups=some)) for some in (None, groups))
    assert alone.as_json()["weakest"] == [{"label": "d", "images": 30, "right": 18, "certain": True}]
    assert grouped.as_json()["weakest"] == [{"label": "d", "images": 30, "right": 18, "certain": False}]


def test_several_labels_are_counted_by_image_and_by_label() -> None:
    labels = np.array([[1, 0], [1, 1], [0, 1], [0, 0]] * 5, bool)
    chances = np.where(labels, 0.8, 0.2)
    chances[::2, 1] = 0.2  # half of them lack the second label
    several = LabelledPredictions(labels, chances, ("sky", "sea"), None, "test", ("x",) * 20)
    found = verdict(several)
    right = int(((chances >= 0.5) == labels).all(axis=1).sum())
    assert found.headline == f"All labels right for {right} of 20 test images ({5 * right} %, {wilson(right, 20)})."
    assert found.sentences == ("Weakest: sea (5 of 10 right): too few images of a class to be certain.",)


def test_a_thousand_classes_name_three() -> None:
    confusion = diagonal(1000, 2)
    for row in range(0, 400, 2):
        confusion[row] = [0] * 1000
        confusion[row][row + 1] = 2
    found = verdict(judged(confusion, [f"class {i}" for i in range(1000)]))
    assert found.headline.startswith("1,600 of 2,000 test images right (80 %, ")
    assert found.sentences[0] == (
        "Weakest: class 0 (0 of 2 right), class 2 (0 of 2 right), class 4 (0 of 2 right) and 197 as weak: too few "
        "images of a class to be certain."
    )
    assert len(found.lines) < 600


def test_classes_that_the_model_does_not_know_are_counted_apart() -> None:
    found = verdict(judged([[5, 0], [0, 5], [2, 1]], ["ape", "bee", "zebra"]))
    assert found.sentences[0] == "3 of them are of classes that the model does not know (zebra), and therefore wrong."


def test_names_that_could_be_numbers_are_in_quotes() -> None:
    assert [named(name) for name in ("hats", "T-shirt_top", "8", "a, b", "größe", "Ankle boot")] == [
        "hats",
        "T-shirt_top",
        "'8'",
        "'a, b'",
        "größe",
        "Ankle boot",
    ]


# --- what next -----------------------------------------------------------------------------------------------------


def steps(found: Verdict) -> list[str]:
    return [one.command or one.text for one in found.steps]


def one_tried(clf: str = "logreg") -> dict[str, Any]:
    return {"last@avg": [CandidateRecord(clf, {"C": 1.0}, 0.5).as_json()]}


def test_steps_follow_the_figures() -> None:
    confusion = [[60, 40], [5, 95]]
    plenty = {"digest": "s", "images": {"train": 900}, "classes": {"train": {"cats": 100, "dogs": 800}}}
    found = verdict(judged(confusion, ["cats", "dogs"]), search=one_tried(), split=plenty)
    assert found.steps[0].text.startswith("More training images of cats (so far 100). Until there are, ")
    assert steps(found) == [
        "featx fit-head photos --clf logreg --class-weight balanced",
        "featx fit-head photos --clf auto",
        "featx look photos",
        "featx finetune photos",
    ]
    searched = {"a@avg": one_tried()["last@avg"], "b@avg": one_tried("svm")["last@avg"]}
    assert steps(verdict(judged(confusion, ["cats", "dogs"]), search=searched, split=plenty))[1:] == [
        "featx finetune photos"
    ]
    tuned = verdict(judged(confusion, ["cats", "dogs"]), search=one_tried(), split=plenty, finetune={"best_epoch": 1})
    assert len(tuned.steps) == 1
    frozen = verdict(judged(confusion, ["cats", "dogs"]), typed=Typed("p", "p", trainable=False), split=plenty)
    assert "featx finetune p" not in steps(frozen)
    in_memory = verdict(judged(confusion, ["cats", "dogs"]), typed=Typed(), split=plenty)
    assert {one.command for one in in_memory.steps} == {""}


def test_mistakes_that_the_model_is_sure_of_put_the_labels_first() -> None:
    sure = verdict(judged([[20, 3], [2, 20]], "ab", sure=0.95), search=one_tried())
    assert sure.steps[0].text == ("Look at the labels: 5 of the 5 mistakes are made with a confidence of 90 % or more.")
    assert sure.steps[0].command == "featx check photos --features"
    assert "check" not in " ".join(steps(verdict(judged([[20, 3], [2, 20]], "ab", sure=0.8))))


def test_images_that_belong_together_are_asked_about_where_figures_are_too_good() -> None:
    perfect = judged(diagonal(2, 40), "ab")
    assert "--group-column" in verdict(perfect).steps[0].text
    grouped = verdict(perfect, split={"digest": "s", "grouped": True})
    assert not any("--group-column" in one.text for one in grouped.steps)
    copies = reach_verdict([judged([[20, 9], [9, 20]], "ab")], manifest_of(data={"images": 100}), 30)
    assert copies.steps[0].text.startswith("30 images are copies of others: ")


def test_arguments_are_those_that_mean_the_same_pipeline(tmp_path: Path) -> None:
    from featx.cli.arguments import pipeline_of

    pipeline = Pipeline(
        data=DataOptions(path="my photos", split=(0.5, 0.25, 0.25), seed=3),
        features=FeaturesOptions(layer=("a", "b@max"), input_size=96),
        report=ReportOptions(name="n", html=False),
    )
    sections = ("data", "features", "report")
    assert typed_arguments(pipeline, "my photos", None, sections, without={"data.seed"}) == (
        "'my photos' --split 0.5,0.25,0.25 --layer a --layer b@max --input-size 96 --name n"
    )
    file = tmp_path / "p.yaml"
    file.write_text(as_yaml(pipeline))
    assert file_of(f"featx fit-head -p {file} --clf svm") == file
    assert file_of(f"featx fit-head --pipeline={file}") == file
    assert file_of("featx fit-head -p gone.yaml") is None
    assert file_of("featx fit-head 'photos") is None
    assert typed_arguments(replace(pipeline, data=replace(pipeline.data, seed=4)), None, file, sections) == (
        f"-p {file} --seed 4"
    )
    assert pipeline_of(None, file, (), {}).data.seed == 3


# --- where it is shown ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "data", "words"),
    [
        ("featx fit-head 'my photos' --clf svm --layer a --layer=b --strength 2", "my photos", "--layer a --layer=b"),
        ("featx finetune p -p x.yaml --from r --unfreeze 3 --json --set head.pca=3", "p", "-p x.yaml"),
        (
            "featx run --set features.layer=a --set=head.pca=3 p --nested --seed 3",
            "p",
            "--set features.layer=a --seed 3",
        ),
        ("featx fit-head p --dry-run --backbone ResNet50 --split 0.5,0.5,0", "p", "--backbone ResNet50"),
        ("featx baseline p --input-size 64 --name n", "p", "--name n"),
        ("featx fit-head -p x.yaml", None, "-p x.yaml"),
    ],
)
def test_of_the_command_that_made_a_model_what_is_about_its_data_is_typed_again(
    command: str, data: str | None, words: str
) -> None:
    assert arguments_again(command, ("data", "features"), {"data.split"}) == (data, shlex.split(words)) or (
        arguments_again(command, ("data", "features", "report"), {"data.split"}) == (data, shlex.split(words))
    )


@pytest.mark.parametrize(
    "command", ["featx.fit_head('p')", "featx compare p --clf svm", "featx fit-head p --new 3", ""]
)
def test_what_cannot_be_typed_again_is_not(command: str) -> None:
    assert arguments_again(command, ("data", "features")) is None


def test_a_mistake_of_weighed_classes_is_as_sure_as_the_class_that_was_given() -> None:
    """All are taken for b, of which the weights make much, with a confidence of 5 %."""
    found = judged([[20, 3], [2, 20]], "ab")
    wrong = replace(found, probabilities=np.tile([0.95, 0.05], (45, 1)), emphasis=np.array([1.0, 30.0]))
    assert (wrong.predicted == 1).all()
    assert stand(wrong).sure == 0
    assert stand(replace(wrong, emphasis=None)).sure == 22  # those of b, which are taken for a


def test_the_next_steps_of_a_measurement_are_about_what_the_model_was_made_of(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They had the options of the default pipeline, or the images that were measured, of which nothing was fitted."""
    made = lab.bundle("logreg")
    bundle = replace(
        made, manifest=replace(made.manifest, command="featx fit-head p --layer x --split 0.8,0.2,0 --clf svm")
    )
    pipeline, measuring = (
        Pipeline(DataOptions(path="new"), FeaturesOptions(layer=("y",))),
        "featx evaluate runs/p --data new",
    )
    monkeypatch.chdir(tmp_path)
    assert typed_again(bundle, pipeline, measuring) == Typed(trainable=bundle.trainable)  # there is no p
    (tmp_path / "p").mkdir()
    found = typed_again(bundle, pipeline, measuring)
    assert (found.data, found.unsplit) == ("p --layer x --split 0.8,0.2,0", "p --layer x")
    assert found.look() == "featx look p --split 0.8,0.2,0"  # of other layers
    (tmp_path / "lab.yaml").write_text(as_yaml(pipeline))
    assert typed_again(bundle, pipeline, "featx evaluate runs/p -p lab.yaml").data.startswith("-p lab.yaml")


def test_the_report_opens_with_it_as_text(tmp_path: Path) -> None:
    names = ["<script>", "dogs & cats"]
    part = judged([[20, 9], [4, 20]], names)
    content = Content("t", manifest_of(), (part,), {}, typed=Typed("'<b>'", "x"))
    page = write_report(tmp_path, content).read_text()
    body = page.split("<main")[1]
    assert body.index('id="verdict"') < body.index('id="metrics"')
    assert "40 of 53 test images right (75\u00a0%, " in body
    assert "&lt;script&gt;" in body
    text = re.sub(r"<[^>]*>", "", body)  # the words of a command are spans
    assert "featx fit-head &#39;&lt;b&gt;&#39; --clf auto" in text or "featx look &#39;&lt;b&gt;&#39;" in text
