"""Sets of classes: the share that they hold is the one asked for, by simulation and on pictures."""

from __future__ import annotations

import csv
import hashlib
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fitted import Lab, call, write_pictures, write_squares

import featx
from featx.bundle.bundle import Bundle, load_bundle, pack
from featx.bundle.coverage import COVERAGE_FILE, why_approximate
from featx.errors import BundleError, UsageError
from featx.inference.sets import guarantee, measure_sets
from featx.metrics.conformal import CalibrationScores, fewest, limit_of
from featx.metrics.predictions import LabelledPredictions
from featx.runs.run import Run
from featx.workflow.publish import publish_head


def world(n: int, generator: np.random.Generator, classes: int = 5) -> CalibrationScores:
    """Images of classes of unequal sizes under a model that is too sure of itself."""
    labels = generator.choice(classes, n, p=np.arange(1, classes + 1) / (classes * (classes + 1) / 2))
    logits = generator.normal(size=(n, classes)) * 2
    logits[np.arange(n), labels] += 2 + labels / 2
    shares = np.exp(2 * logits)
    return CalibrationScores(shares / shares.sum(axis=1, keepdims=True), labels.astype(np.int64))


def several(n: int, generator: np.random.Generator, classes: int = 4) -> CalibrationScores:
    """The same with several labels, or none, for an image."""
    has = generator.random((n, classes)) < np.array([0.5, 0.3, 0.2, 0.6])
    logits = generator.normal(size=(n, classes)) + 2 * has - 1
    return CalibrationScores(1 / (1 + np.exp(-3 * logits)), has)


def within(found: np.ndarray, least: float, most: float) -> None:
    """The mean over splits is in [least, most], give or take three standard errors."""
    error = found.std(ddof=1) / math.sqrt(len(found))
    assert least - 3 * error <= found.mean() <= most + 3 * error


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("make", [world, several])
def test_the_mean_coverage_of_200_splits_is_what_is_promised(make: object, coverage: float) -> None:
    n, found = 100, []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        calibrating, others = make(n, generator), make(1000, generator)  # type: ignore[operator]
        found.append(others.covered(calibrating.rule(coverage, False)).mean())
    # of several labels, images without one have equal scores and are always covered: only more than is promised
    within(np.array(found), coverage, coverage + 1 / (n + 1))


@pytest.mark.parametrize("make", [world, several])
def test_the_coverage_per_class_is_that_of_each_class(make: object) -> None:
    found: dict[int, list[float]] = {}
    numbers: dict[int, list[int]] = {}
    for seed in range(200):
        generator = np.random.default_rng(seed)
        calibrating, others = make(400, generator), make(2000, generator)  # type: ignore[operator]
        rule = calibrating.rule(0.9, True)
        assert not rule.pooled.any()
        inside = rule.sets(others.probabilities)
        for code in range(others.probabilities.shape[1]):
            has = others.labels[:, code] if others.labels.ndim == 2 else others.labels == code
            mine = calibrating.labels[:, code] if calibrating.labels.ndim == 2 else calibrating.labels == code
            found.setdefault(code, []).append(inside[has, code].mean())
            numbers.setdefault(code, []).append(int(mine.sum()))
    for code, shares in found.items():
        within(np.array(shares), 0.9, 0.9 + float(np.mean([1 / (n + 1) for n in numbers[code]])))


def test_the_limit_is_the_corrected_quantile() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1, 20) / 20)
    assert limit_of(scores, 0.9) == pytest.approx(18 / 20)  # the ceil(20 * 0.9)-th of 19
    assert limit_of(scores[:9], 0.9) == scores[:9].max()
    assert limit_of(scores[:8], 0.9) == math.inf
    assert [fewest(share) for share in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]


def test_classes_of_few_images_are_pooled_and_others_are_not() -> None:
    generator = np.random.default_rng(0)
    found = world(300, generator)
    few = np.concatenate([np.flatnonzero(found.labels == 0)[:8], np.flatnonzero(found.labels == 1)[:5]])
    rows = np.concatenate([few, np.flatnonzero(found.labels > 1)])
    some = CalibrationScores(found.probabilities[rows], found.labels[rows])
    rule = some.rule(0.9, True)
    assert rule.pooled.tolist() == [True, True, False, False, False]
    together = 1 - some.probabilities[np.arange(13), some.labels[:13]]
    assert rule.limit[:2] == pytest.approx(np.sort(together)[12])  # the ceil(14 * 0.9)-th of 13
    alone = CalibrationScores(found.probabilities[rows[8:]], found.labels[rows[8:]]).rule(0.9, True)
    every = 1 - found.probabilities[rows[8:], found.labels[rows[8:]]]
    assert alone.limit[:2] == pytest.approx(limit_of(every, 0.9))


def test_a_class_that_the_model_does_not_know_is_never_covered() -> None:
    found = world(100, np.random.default_rng(0))
    labels = found.labels.copy()
    labels[:20] = 7
    strange = CalibrationScores(found.probabilities, labels)
    assert strange.rule(0.9, False).limit[0] == math.inf
    assert strange.covered(strange.rule(0.9, False)).sum() == 80


# --- bundles -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty new pictures of the lab's three classes."""
    return write_pictures(tmp_path_factory.mktemp("new"), per_class=10, seed=9)


def test_predictions_have_the_sets_of_a_plain_reference(lab: Lab, pictures: Path, tmp_path: Path) -> None:
    bundle = lab.bundle("logreg")
    paths = sorted(map(str, pictures.rglob("*.png")))
    chances = featx.Model(bundle).predict_proba(paths)
    found = call("predict", *paths, "--model", bundle.path, "--coverage", "0.8", "--json", cwd=tmp_path).json
    calibrating = bundle.coverage
    scores = np.sort(1 - calibrating.probabilities[np.arange(len(calibrating)), calibrating.labels])
    limit = scores[math.ceil((len(scores) + 1) * 0.8) - 1]
    for one, row in zip(found["predictions"], chances, strict=True):
        order = np.argsort(-row)
        assert one["set"] == [bundle.classes[code] for code in order if 1 - row[code] <= limit + 1e-6]
    assert found["coverage"]["images"] == 15
    assert found["coverage"]["approximate"] is None
    assert found["coverage"]["pooled"] == []


def test_the_same_in_python_and_in_a_csv(lab: Lab, pictures: Path, tmp_path: Path) -> None:
    bundle = lab.bundle("logreg")
    answers = list(featx.Model(bundle).predict(pictures, coverage=0.8, per_class=True))
    call(
        "predict", pictures, "--model", bundle.path, "--coverage", "0.8", "--per-class", "--out", "p.csv", cwd=tmp_path
    )
    with open(tmp_path / "p.csv", newline="", encoding="utf-8") as file:
        rows = {row["path"]: row["set"] for row in csv.DictReader(file)}
    assert rows == {one.path: "|".join(one.set or ()) for one in answers}


def test_a_packed_bundle_keeps_its_sets(lab: Lab, tmp_path: Path) -> None:
    pack(lab.bundle("logreg"), tmp_path / "lab.featx")
    assert guarantee(load_bundle(tmp_path / "lab.featx"), 0.8, False).images == 15


def test_the_scores_are_those_of_images_that_had_no_part_in_the_fit(lab: Lab) -> None:
    bundle = lab.bundle("logreg")
    val = lab.prepared.sample.split == 1
    assert sorted(bundle.coverage.labels.tolist()) == sorted(lab.prepared.sample.y[val].tolist())
    answers = featx.Model(bundle).predict_proba(
        [lab.prepared.sample.images.paths[row] for row in lab.prepared.sample.rows[val]]
    )
    assert answers == pytest.approx(bundle.coverage.probabilities, abs=5e-3)


def test_what_chose_or_stopped_makes_it_approximate(lab: Lab) -> None:
    assert why_approximate(lab.bundle("ridge").manifest) == ""
    assert "stopped" in why_approximate(lab.bundle("dense").manifest)


def test_models_that_are_compared_by_the_same_images_are_approximate(lab: Lab, tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "two")
    made: list[Bundle] = []
    for clf in ("ridge", "logreg"):
        pipeline = replace(lab.pipeline, head=lab.head(clf))
        made.append(publish_head(replace(lab.prepared, pipeline=pipeline, run=run)))
    assert guarantee(lab.bundle("ridge"), 0.8, False).approximate is None
    assert "compare 2 models" in str(guarantee(made[0], 0.8, False).approximate)


def test_a_refitted_head_is_refused(lab: Lab, pictures: Path, tmp_path: Path) -> None:
    pipeline = replace(lab.pipeline, head=replace(lab.head("ridge"), refit=True))
    bundle = publish_head(replace(lab.prepared, pipeline=pipeline, run=Run(tmp_path / "runs" / "refitted")))
    assert COVERAGE_FILE not in bundle.manifest.files
    with pytest.raises(BundleError, match="--no-refit"):
        list(featx.Model(bundle).predict(pictures, coverage=0.9))


def test_a_bundle_of_an_earlier_version_says_how_to_get_them(pictures: Path) -> None:
    model = featx.load(Path(__file__).parent / "old_0_1_0" / "1-logreg.featx")
    with pytest.raises(BundleError, match="made by an earlier featx"):
        model.predict(pictures, coverage=0.9)


def test_too_few_images_are_refused(lab: Lab, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes at least 19 val images"):
        featx.Model(lab.bundle("logreg")).predict(pictures, coverage=0.95)
    done = call("predict", pictures, "--model", lab.bundle("logreg").path, "--per-class", cwd=tmp_path)
    assert done.status == 2
    assert "--per-class goes with --coverage" in done.sentence
    done = call("predict", pictures, "--model", lab.bundle("logreg").path, "--coverage", "1", cwd=tmp_path)
    assert done.status == 2


def test_several_labels_are_all_in_the_set(lab: Lab, tmp_path: Path) -> None:
    table = write_squares(tmp_path, 120)
    model = featx.fit_head(
        table, label_separator="$", html=False, backbone=str(lab.root / "tiny.keras"), cache=str(tmp_path / "cache"),
        runs=str(tmp_path / "runs"), split=(0.4, 0.3, 0.3),
    )  # fmt: skip
    found = model.bundle.coverage
    assert found.labels.dtype == bool
    assert found.covered(found.rule(0.9, False)).mean() >= 0.9
    sentence = guarantee(model.bundle, 0.9, False).sentence()
    assert "all labels of an image are in its set" in sentence
    answer = model.predict(str(tmp_path / "images" / "0.png"), coverage=0.9)[0]
    assert set(answer.set or ()) <= set(model.classes)


def test_the_measured_coverage_has_the_interval_of_groups() -> None:
    """Groups of ten copies are worth one image each: the interval is no narrower than that of one copy of each."""
    generator = np.random.default_rng(0)

    def draw(n: int) -> LabelledPredictions:
        chances = generator.dirichlet(np.ones(3), n)
        labels = (generator.random((n, 1)) > chances.cumsum(axis=1)).sum(axis=1)
        return LabelledPredictions(labels, chances, ("a", "b", "c"), paths=tuple(map(str, range(n))))

    val, once = draw(100), draw(40)
    copies = replace(once.take(np.repeat(np.arange(40), 10)), groups=np.repeat(np.arange(40), 10))
    alone, together = measure_sets(val, once, 0.8), measure_sets(val, copies, 0.8)
    assert alone is not None
    assert together is not None
    assert together.covered == alone.covered
    assert alone.interval is not None
    assert together.interval is not None
    width = alone.interval[1] - alone.interval[0]
    assert width <= together.interval[1] - together.interval[0] < 1.2 * width


def test_the_report_has_the_measured_coverage(lab: Lab, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "pictures", per_class=40, seed=3)
    keys = {"backbone": str(lab.root / "tiny.keras"), "cache": str(tmp_path / "cache"), "runs": str(tmp_path / "runs")}
    model = featx.fit_head(data, clf="ridge", split=(0.4, 0.3, 0.3), **keys)  # type: ignore[arg-type]
    page = (model.path / "report" / "index.html").read_text(encoding="utf-8")
    rows = re.findall(r'<th scope="row" class="number">(0\.[89]5?).*?</th><td class="number">([\d.]+)', page)
    assert [row[0].rstrip("0") for row in rows][:2] == ["0.8", "0.9"]
    split = model.bundle.split()
    test = [path for path in data.rglob("*.png") if split[hashlib.sha256(path.read_bytes()).digest()] == 2]
    answers = model.predict([str(path) for path in test], coverage=0.9)
    covered = np.mean([path.parent.name in (one.set or ()) for path, one in zip(test, answers, strict=True)])
    assert float(rows[1][1]) == pytest.approx(covered, abs=0.03)
