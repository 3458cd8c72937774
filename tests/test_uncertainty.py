"""Intervals against SciPy's and against simulated truth, calibration against a count by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.stats import binomtest, bootstrap
from sklearn import metrics

from featx.metrics.cautions import cautions
from featx.metrics.intervals import bootstrap_intervals
from featx.metrics.measures import Measures, intervals_of, measure
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.reliability import chance_range, reliability
from featx.metrics.shares import Interval
from featx.metrics.table import resamplings_of

N, K = 400, 6
MEASURED = tuple(resamplings_of("class"))
LABELS_MEASURED = tuple(resamplings_of("labels"))


def intervals(labels: np.ndarray, chances: np.ndarray, **more: Any) -> dict[str, Interval | None]:
    """Of every metric that has one; several labels are predicted from 0.5 on."""
    outcome = LabelledPredictions(labels, chances, ())
    return bootstrap_intervals(outcome, resamplings_of(outcome.target), **more)


def interval(labels: np.ndarray, chances: np.ndarray, metric: str, **more: Any) -> Interval | None:
    wanted = {metric: resamplings_of("class")[metric]}
    return bootstrap_intervals(LabelledPredictions(labels, chances, ()), wanted, **more)[metric]


def measured(labels: np.ndarray, chances: np.ndarray, classes: int) -> Measures:
    return measure(LabelledPredictions(labels, chances, tuple(map(str, range(classes)))))


def by_hand(metric: str, labels: np.ndarray, chances: np.ndarray) -> float:
    """A metric, from its definition: scikit-learn's own takes too long for thousands of resamples."""
    predicted = chances.argmax(axis=1)
    if metric == "accuracy":
        return float(np.mean(predicted == labels))
    if metric == "log_loss":
        return float(-np.mean(np.log(chances[np.arange(len(labels)), labels])))
    if metric == "balanced_accuracy":
        return float(np.mean([np.mean(predicted[labels == code] == code) for code in set(labels.tolist())]))
    codes = set(labels.tolist()) | set(predicted.tolist())
    hits = {code: np.sum((predicted == code) & (labels == code)) for code in codes}
    return float(np.mean([2 * hits[code] / (np.sum(predicted == code) + np.sum(labels == code)) for code in codes]))


SCIKIT_LEARN: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": lambda y, p: metrics.accuracy_score(y, p.argmax(1)),
    "balanced_accuracy": lambda y, p: metrics.balanced_accuracy_score(y, p.argmax(1)),
    "macro_f1": lambda y, p: metrics.f1_score(y, p.argmax(1), average="macro"),
    "log_loss": lambda y, p: metrics.log_loss(y, p, labels=np.arange(p.shape[1])),
}


def draw(n: int = N, k: int = K, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes of unequal sizes, and a model that is right about two thirds."""
    generator = np.random.default_rng(seed)
    share = np.arange(1, k + 1) / np.arange(1, k + 1).sum()
    labels = generator.choice(k, size=n, p=share)
    chances = np.exp(generator.normal(size=(n, k)) + 1.8 * np.eye(k)[labels])
    return labels, chances / chances.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("metric", SCIKIT_LEARN)
def test_the_interval_is_near_that_of_scipys_percentile_bootstrap(metric: Any) -> None:
    """With 400 images and a third of them wrong both are right; shares have Wilson's, the others the same bootstrap."""
    labels, chances = draw()

    def statistic(rows: np.ndarray) -> float:
        return by_hand(metric, labels[rows], chances[rows])

    whole = SCIKIT_LEARN[metric](labels, chances)
    assert by_hand(metric, labels, chances) == pytest.approx(whole)
    expected = bootstrap(
        (np.arange(N),), statistic, vectorized=False, n_resamples=1500, method="percentile", random_state=1
    ).confidence_interval
    low, high = measured(labels, chances, K).intervals[metric] or (0, 0)
    width = expected.high - expected.low
    # 1500 resamples know the 2.5th percentile to about 3 % of the interval's width (one standard error)
    assert low == pytest.approx(expected.low, abs=0.12 * width)
    assert high == pytest.approx(expected.high, abs=0.12 * width)
    assert low < whole < high


@pytest.mark.parametrize(("right", "images"), [(0, 30), (30, 30), (1, 1), (44, 45), (70, 100), (990, 1000)])
def test_the_interval_of_an_accuracy_is_wilsons(right: int, images: int) -> None:
    expected = binomtest(right, images).proportion_ci(method="wilson")
    labels = np.repeat([0, 1], [right, images - right])
    found = measured(labels, np.tile([0.9, 0.1], (images, 1)), 2).intervals["accuracy"]
    assert found == pytest.approx((expected.low, expected.high), abs=1e-9)
    marked = np.repeat([[True, False], [False, False]], [right, images - right], axis=0)
    several = measure(LabelledPredictions(marked, np.tile([0.9, 0.1], (images, 1)), ("a", "b"))).intervals
    assert several["exact_match"] == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_thirty_of_thirty_are_not_certain() -> None:
    labels = np.arange(30) % 5
    found = measured(labels, np.eye(5)[labels], 5).intervals
    assert found["accuracy"] == pytest.approx((0.886, 1), abs=5e-4)
    for metric in ("balanced_accuracy", "macro_f1"):
        low, high = found[metric] or (1, 0)
        assert 0.6 < low < 0.9
        assert high == pytest.approx(1)


def covered(truth: dict[str, float], sets: Iterator[LabelledPredictions]) -> dict[str, float]:
    """How often the interval of each metric holds its truth."""
    found = [intervals_of(one) for one in sets]
    held = {name: [low <= value <= high for low, high in (one[name] or (1, 0) for one in found)]
            for name, value in truth.items()}  # fmt: skip
    return {name: float(np.mean(one)) for name, one in held.items()}


def test_the_intervals_of_nearly_perfect_models_hold_the_truth() -> None:
    """The percentile bootstrap held an accuracy of 0.98 in 46 of 100 sets of 30 images."""
    generator = np.random.default_rng(0)

    def sets(n: int, classes: int) -> Iterator[LabelledPredictions]:
        for _ in range(80):
            labels = np.arange(n) % classes
            wrong = generator.random(n) < 0.02
            yield LabelledPredictions(labels, np.eye(classes)[(labels + wrong) % classes], tuple("abcde"[:classes]))

    assert covered({"accuracy": 0.98}, sets(30, 2))["accuracy"] > 0.9
    assert covered({"balanced_accuracy": 0.98}, sets(30, 5))["balanced_accuracy"] > 0.9
    assert covered({"macro_f1": 0.98}, sets(150, 5))["macro_f1"] > 0.9


def test_images_of_a_group_count_as_what_they_tell_together() -> None:
    generator = np.random.default_rng(0)

    def sets(grouped: bool) -> Iterator[LabelledPredictions]:
        for _ in range(80):
            groups = np.repeat(np.arange(50), 8)
            labels = generator.integers(2, size=50)[groups]
            wrong = (generator.random(50) < 0.2)[groups]  # all images of a patient or none
            chances = 0.2 + 0.6 * np.eye(2)[labels ^ wrong]
            yield LabelledPredictions(labels, chances, ("a", "b"), groups=groups if grouped else None)

    loss = -0.8 * np.log(0.8) - 0.2 * np.log(0.2)
    truth = {"accuracy": 0.8, "balanced_accuracy": 0.8, "log_loss": loss}
    assert max(covered(truth, sets(grouped=False)).values()) < 0.8
    assert min(covered(truth, sets(grouped=True)).values()) > 0.87
    one = next(sets(grouped=True))
    assert measure(one).groups == 50
    # a set of groups that are alike within is one image of each
    first = LabelledPredictions(one.labels[::8], one.probabilities[::8], one.classes)
    low, high = measure(one).intervals["accuracy"] or (0, 1)
    alone = measure(first).intervals["accuracy"] or (0, 1)
    assert (low, high) == pytest.approx(alone, abs=0.02)
    assert high - low > alone[1] - alone[0]  # the spread of groups is estimated


@pytest.mark.parametrize("recall", [0.95, 0.7])
def test_a_class_of_few_groups_makes_the_interval_of_a_mean_wide(recall: float) -> None:
    """Thirty groups of ten like images, three of them of a rare class, which may be right in all of them or in none."""
    generator = np.random.default_rng(0)

    def sets() -> Iterator[LabelledPredictions]:
        for _ in range(300):
            groups = np.repeat(np.arange(30), 10)
            labels = (groups >= 27).astype(np.int64)
            hard = generator.random(30) > np.where(np.arange(30) >= 27, recall, 0.8)
            given = np.where(hard[groups], 1 - labels, labels)
            yield LabelledPredictions(labels, np.eye(2)[given], ("a", "b"), groups=groups)

    truth = (0.8 + recall) / 2
    assert covered({"balanced_accuracy": truth}, sets())["balanced_accuracy"] > 0.92


def test_the_mean_over_classes_of_groups_has_the_interval_of_welch() -> None:
    """Two classes, one of four groups: the width is that of the t distribution with Welch's degrees of freedom."""
    sizes = np.array([6] * 20 + [6] * 4)
    rights = np.array([6, 5, 4, 6, 3, 5, 6, 6, 2, 5, 4, 6, 6, 5, 1, 6, 5, 4, 6, 5, 2, 5, 4, 1])
    groups = np.repeat(np.arange(24), sizes)
    labels = (groups >= 20).astype(np.int64)
    right = np.concatenate([np.arange(size) < one for size, one in zip(sizes, rights, strict=True)])
    found = LabelledPredictions(labels, np.eye(2)[np.where(right, labels, 1 - labels)], ("a", "b"), groups=groups)
    shares = rights / sizes
    errors = [stats.sem(some) ** 2 for some in (shares[:20], shares[20:])]
    freedom = sum(errors) ** 2 / (errors[0] ** 2 / 19 + errors[1] ** 2 / 3)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(sum(errors)) / 2
    low, high = measure(found).intervals["balanced_accuracy"] or (0, 1)
    assert (high - low) / 2 == pytest.approx(half, rel=0.2)


def test_a_caution_says_which_intervals_are_too_narrow() -> None:
    labels = np.arange(30) % 5
    few = measured(labels, np.eye(5)[labels], 5)
    assert few.cautions[0].startswith("None of 30 images is wrong: with fewer than 5 wrong ones, ")
    assert few.cautions[1].startswith("Each class has 6 images on average: with fewer than 25, the interval ")
    assert few.cautions[2] == "With fewer than 2,000 images, the interval of log loss is too narrow."
    assert few.as_json()["cautions"] == list(few.cautions)
    assert measured(*draw(), K).cautions == few.cautions[2:]
    assert measured(*draw(2_000), K).cautions == ()
    labels, groups = np.arange(59) % 10, np.arange(59) // 5
    given = np.where(groups == 3, (labels + 1) % 10, labels)
    grouped = measure(LabelledPredictions(labels, np.eye(10)[given], tuple("abcdefghij"), groups=groups)).cautions
    assert grouped[0].startswith("In only 1 of 12 groups is an image wrong: with fewer than 5 such groups, ")
    assert grouped[1].startswith("The class of the fewest groups has 5 groups: with fewer than 25, the intervals of ")


TABLE = re.compile(r"^\| (\d+) classes(?:, groups of (\d+))? \| ([\d,]+) \|(.*)\|$", re.MULTILINE)


def test_where_the_page_has_less_than_93_percent_there_is_a_caution() -> None:
    """The coverage that was simulated, against what is shown of test sets of these sizes with a tenth of errors."""
    page = (Path(__file__).parent.parent / "docs" / "statistics.md").read_text()
    rows = TABLE.findall(page)
    assert len(rows) > 30
    for classes, group, size, cells in rows:
        k, n = int(classes), int(size.replace(",", ""))
        labels = np.arange(n) // int(group or 1) % k
        given = np.where(np.arange(n) // int(group or 1) % 10 == 3, (labels + 1) % k, labels)
        groups = np.arange(n) // int(group) if group else None
        found = cautions(LabelledPredictions(labels, np.eye(k)[given], tuple(map(str, range(k))), groups=groups))
        named = zip(("accuracy", "balanced accuracy", "macro F1", "log loss"), cells.split("|"), strict=True)
        for name, cell in named:
            covered = float(cell.partition(",")[0].strip() or 100)
            shown = any(name in one or "shares" in one for one in found)
            assert covered >= 93 or shown, (k, group, n, name, cell)


def test_a_seed_gives_the_same_interval_again_and_another_level_a_narrower_one() -> None:
    labels, chances = draw()
    for metric in MEASURED:
        wide = interval(labels, chances, metric) or (0, 0)
        assert interval(labels, chances, metric) == wide
        assert interval(labels, chances, metric, seed=1) != wide
        narrow = interval(labels, chances, metric, level=0.5) or (0, 0)
        assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_resamples_are_drawn_in_chunks_without_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, chances = draw()
    whole = intervals(labels, chances)
    monkeypatch.setattr("featx.metrics.intervals._CHUNK", 10 * N)
    assert intervals(labels, chances) == whole


def test_an_interval_that_is_not_defined_is_none() -> None:
    assert intervals(np.empty(0, np.int64), np.empty((0, 3))) == dict.fromkeys(MEASURED)
    labels, chances = draw()
    unknown = np.where(np.arange(N) < 5, K, labels)  # a class past the columns
    found = measured(unknown, chances, K + 1).intervals
    assert found["log_loss"] is None
    assert found["accuracy"] is not None


# --- several labels per image ------------------------------------------------------------------------------------


def draw_labels(n: int = 80, k: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities with ties, and labels given; the last label is rare."""
    generator = np.random.default_rng(7)
    truth = generator.random((n, k)) < np.array([0.5, 0.3, 0.04])
    chances = np.round(np.clip(0.35 * truth + 0.65 * generator.random((n, k)), 0, 1), 1)
    return truth, chances, chances >= 0.5


def score_labels(truth: np.ndarray, chances: np.ndarray, given: np.ndarray) -> dict[str, float]:
    """Every metric from its definition, of the labels of which it is defined."""
    marked = truth.sum(axis=1) + given.sum(axis=1)
    f1 = 2 * (truth & given).sum(axis=1) / np.maximum(marked, 1)
    ranked = [i for i in range(truth.shape[1]) if truth[:, i].any() and not truth[:, i].all()]
    counted = [i for i in range(truth.shape[1]) if truth[:, i].any() or given[:, i].any()]
    return {
        "exact_match": np.mean([bool((one == other).all()) for one, other in zip(truth, given, strict=True)]),
        "f1_samples": np.mean(np.where(marked == 0, 1.0, f1)),
        "f1_micro": 2 * np.sum(truth & given) / (np.sum(truth) + np.sum(given)),
        "f1_macro": np.mean(
            [2 * np.sum(truth[:, i] & given[:, i]) / (np.sum(truth[:, i]) + np.sum(given[:, i])) for i in counted]
        ),
        "roc_auc_macro": np.mean([count_pairs(truth[:, i], chances[:, i]) for i in ranked]),
        "average_precision_macro": np.mean([sum_precisions(truth[:, i], chances[:, i]) for i in ranked]),
    }


def count_pairs(truth: np.ndarray, chances: np.ndarray) -> float:
    """The share of pairs of an image with the label and one without that are in order; of equals half."""
    one, other = chances[truth][:, None], chances[~truth]
    return float(np.mean((one > other) + 0.5 * (one == other)))


def sum_precisions(truth: np.ndarray, chances: np.ndarray) -> float:
    """Precision at every threshold, times what it adds to the recall."""
    total, before = 0.0, 0.0
    for threshold in np.unique(chances)[::-1]:
        recall = truth[chances >= threshold].sum() / truth.sum()
        total += (recall - before) * truth[chances >= threshold].mean()
        before = recall
    return total


def resample_labels(rows: np.ndarray) -> dict[str, np.ndarray]:
    """The 95 % intervals of a plain bootstrap: every resample, one after the other."""
    truth, chances, given = draw_labels()
    found = [score_labels(truth[some], chances[some], given[some]) for some in rows]
    return {name: np.quantile([one[name] for one in found], [0.025, 0.975]) for name in LABELS_MEASURED}


def test_the_definitions_are_those_of_scikit_learn() -> None:
    truth, chances, given = draw_labels()
    assert score_labels(truth, chances, given) == pytest.approx(
        {
            "exact_match": metrics.accuracy_score(truth, given),
            "f1_samples": metrics.f1_score(truth, given, average="samples", zero_division=1.0),
            "f1_micro": metrics.f1_score(truth, given, average="micro"),
            "f1_macro": metrics.f1_score(truth, given, average="macro"),
            "roc_auc_macro": metrics.roc_auc_score(truth, chances),
            "average_precision_macro": metrics.average_precision_score(truth, chances),
        }
    )


def test_intervals_of_several_labels_are_those_of_the_same_resamples_one_by_one() -> None:
    truth, chances, _ = draw_labels()
    rows = np.random.default_rng(3).integers(len(truth), size=(60, len(truth)))
    assert any(not truth[some, 2].any() for some in rows)  # the rare label is not in every resample
    found = intervals(truth, chances, resamples=60, seed=3)
    for name, expected in resample_labels(rows).items():
        assert found[name] == pytest.approx(expected, abs=1e-12), name


def test_intervals_of_several_labels_are_those_of_other_resamples() -> None:
    truth, chances, given = draw_labels()
    rows = np.random.default_rng(11).integers(len(truth), size=(800, len(truth)))
    found, whole = intervals(truth, chances), score_labels(truth, chances, given)
    for name, (low, high) in resample_labels(rows).items():
        # 800 and 1000 resamples know a 2.5th percentile to about 4 % of the interval's width each (one standard error)
        assert found[name] == pytest.approx((low, high), abs=0.2 * (high - low)), name
        assert (found[name] or [1])[0] < whole[name] < (found[name] or [0, 0])[1]


def test_resamples_of_several_labels_are_drawn_in_chunks_without_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = intervals(*draw_labels()[:2], resamples=50)
    monkeypatch.setattr("featx.metrics.intervals._CHUNK", 7 * 80)
    assert intervals(*draw_labels()[:2], resamples=50) == whole


def test_an_interval_of_several_labels_that_is_not_defined_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, chances, _ = draw_labels()
    assert intervals(truth[:0], chances[:0]) == dict.fromkeys(LABELS_MEASURED)
    nobody = intervals_of(LabelledPredictions(np.zeros_like(truth), chances / 3, ()))
    assert nobody["roc_auc_macro"] is None
    assert nobody["f1_macro"] is None
    assert nobody["f1_micro"] is None
    assert nobody["exact_match"] == pytest.approx((0.954, 1.0), abs=1e-3)
    assert nobody["f1_samples"] == (1.0, 1.0)
    monkeypatch.setattr("featx.metrics.intervals._MOST_RANKED", truth.size - 1)
    some = intervals(truth, chances)
    assert (some["roc_auc_macro"], some["average_precision_macro"]) == (None, None)
    assert some["f1_samples"] is not None


# --- reliability -------------------------------------------------------------------------------------------------


# Six images by hand, four bins. Confidences .6 .7 | .8 .9 1. and .5 (at an edge: of the bin below it).
LABELS = np.array([0, 1, 0, 0, 1, 0])
CHANCES = np.array([[0.6, 0.4], [0.7, 0.3], [0.8, 0.2], [0.9, 0.1], [0.0, 1.0], [0.5, 0.5]])


def test_reliability_is_what_one_counts() -> None:
    found = reliability(LABELS, CHANCES, bins=4)
    assert found.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.images.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(found.confidence, [np.nan, 0.5, 0.65, 0.9])
    np.testing.assert_allclose(found.accuracy, [np.nan, 1.0, 0.5, 1.0])
    expected = (1 * 0.5 + 2 * 0.15 + 3 * 0.1) / 6
    assert found.expected_calibration_error == pytest.approx(expected)


def test_measure_tells_the_calibration_error_of_fifteen_bins() -> None:
    labels, chances = draw(1000)
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == labels
    expected = 0.0
    for number in range(15):
        held = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if held.any():
            expected += held.sum() / 1000 * abs(confidence[held].mean() - right[held].mean())
    found = measured(labels, chances, K).values
    assert found["expected_calibration_error"] == pytest.approx(expected)


def test_multilabel_reliability_counts_every_pair() -> None:
    labels = np.array([[True, False], [True, True], [False, False]])
    chances = np.array([[0.9, 0.2], [0.6, 0.8], [0.4, 0.1]])
    found = reliability(labels, chances, bins=2)
    assert found.images.tolist() == [3, 3]
    np.testing.assert_allclose(found.confidence, [0.7 / 3, 2.3 / 3])
    np.testing.assert_allclose(found.accuracy, [0.0, 1.0])


def test_reliability_of_no_images_and_of_unknown_classes() -> None:
    assert reliability(np.empty(0, np.int64), np.empty((0, 2))).expected_calibration_error is None
    found = reliability(np.array([2, 2]), np.array([[0.9, 0.1], [0.1, 0.9]]))
    assert found.expected_calibration_error == pytest.approx(0.9)


@pytest.mark.parametrize("images", [100, 5000])
def test_the_range_of_the_calibration_error_holds_what_true_confidences_give(images: int) -> None:
    """Labels are drawn by the probabilities themselves, so that every confidence is true, and the error is not 0."""
    random, inside, errors = np.random.default_rng(1), [], []
    for _ in range(100):
        logits = 2 * random.normal(size=(images, 4))
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        labels = (random.random((images, 1)) > chances.cumsum(axis=1)).sum(axis=1)
        error = reliability(labels, chances).expected_calibration_error
        low, high = chance_range(labels, chances) or (1, 0)
        inside.append(error is not None and low <= error <= high)
        errors.append(error)
    assert np.mean(inside) >= 0.88  # 95 in 100, but for what chance leaves out
    if images == 100:
        assert np.mean(errors) > 0.08
    wrong = np.zeros_like(labels)  # the same confidences, most of them not true
    assert (reliability(wrong, chances).expected_calibration_error or 0) > high
    assert measured(labels, chances, 4).as_json()["calibration_error_by_chance"] == [low, high]
    assert chance_range(np.empty(0, int), np.empty((0, 4))) is None


@pytest.mark.parametrize("together", ["groups", "labels", "neither"])
def test_the_range_of_the_calibration_error_holds_where_answers_go_together(together: str) -> None:
    """True confidences, of ten near-copies that are right or wrong as one, or of labels that follow from another."""
    random, above, high = np.random.default_rng(1), 0, 0.0
    for _ in range(150):
        chances = random.uniform(0.05, 0.95, (40 if together == "groups" else 300, 3))
        there = random.random(chances.shape) < chances
        if together == "groups":
            chances, there = (np.repeat(one, 10, axis=0) for one in (chances, there))
            groups = np.repeat(np.arange(40), 10)
            both = np.column_stack([1 - chances[:, 0], chances[:, 0]])
            found = LabelledPredictions(there[:, 0].astype(np.int64), both, ("a", "b"), groups=groups)
        else:
            copies = 3 if together == "labels" else 1
            chances, there = (np.repeat(one, copies, axis=1) for one in (chances, there))
            found = LabelledPredictions(there, chances, tuple(map(str, range(chances.shape[1]))))
        given = found.predicted if together == "groups" else None
        error = reliability(found.labels, found.probabilities, predicted=given).expected_calibration_error
        _, high = chance_range(found.labels, found.probabilities, predicted=given, groups=found.groups) or (1, 0)
        above += (error or 0) > high
    assert above <= 15  # 2.5 % of 150 are 4
    assert measure(found).error_by_chance == chance_range(
        found.labels, found.probabilities, predicted=found.predicted, groups=found.groups
    )
    wrong = 1 - found.labels if together == "groups" else ~found.labels
    overconfident = np.where(found.labels, 0.02, 0.98) if together != "groups" else np.eye(2)[wrong] * 0.96 + 0.02
    error = reliability(found.labels, overconfident).expected_calibration_error or 0
    assert error > (chance_range(found.labels, overconfident, groups=found.groups) or (0, 1))[1]


# --- classes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
def test_precision_and_recall_of_a_class_have_wilsons_intervals(several: bool) -> None:
    """SciPy's, class by class."""
    random = np.random.default_rng(3)
    truth = random.integers(0, 3, 120)
    given = np.where(random.random(120) < 0.85, truth, random.integers(0, 3, 120))
    chances = np.eye(3)[given] * 0.8 + 0.1
    labels = np.eye(3, dtype=bool)[truth] if several else truth
    judged = LabelledPredictions(labels, chances, ("a", "b", "c"), np.full(3, 0.5) if several else None, part="test")
    for code, one in enumerate(measure(judged).per_class):
        hits = int(((truth == code) & (given == code)).sum())
        for name, whole in (("recall", (truth == code).sum()), ("precision", (given == code).sum())):
            expected = binomtest(hits, int(whole)).proportion_ci(0.95, "wilson")
            assert one.intervals[name] == pytest.approx((expected.low, expected.high), abs=1e-9)
            assert (name in one.bounds.narrow) == (whole - hits < 5)
        content = one.as_json()
        assert content["intervals"]["recall"] == list(one.intervals["recall"] or ())
        assert content["too_narrow"] == list(one.bounds.narrow)


def test_a_class_that_nothing_is_measured_of_has_no_interval() -> None:
    judged = LabelledPredictions(np.zeros(6, int), np.tile([0.9, 0.1], (6, 1)), ("a", "b"), part="test")
    a, b = measure(judged).per_class
    assert b.intervals == {"precision": None, "recall": None}
    assert b.bounds.narrow == ()
    assert a.bounds.narrow == ("precision", "recall")
    assert a.intervals["recall"] == pytest.approx((0.6097, 1.0), abs=1e-4)  # 6 / (6 + 1.96 ** 2)


def test_groups_of_a_class_count_as_wholes() -> None:
    truth = np.repeat([0, 1], 40)
    groups = np.arange(80) // 8
    given = np.where(groups % 5 == 0, 1 - truth, truth)  # whole groups are wrong
    judged = LabelledPredictions(truth, np.eye(2)[given] * 0.8 + 0.1, ("a", "b"), part="test", groups=groups)
    alone = LabelledPredictions(truth, np.eye(2)[given] * 0.8 + 0.1, ("a", "b"), part="test")
    for one, other in zip(measure(judged).per_class, measure(alone).per_class, strict=True):
        (low, high), (least, most) = one.intervals["recall"] or (0, 0), other.intervals["recall"] or (0, 0)
        assert high - low > 1.5 * (most - least)
