"""Verdicts on two models: the p-value against SciPy's, and the interval that agrees with it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from featx.metrics.comparison import compare, compare_predictions
from featx.metrics.formulas import log_losses
from featx.metrics.predictions import LabelledPredictions

CLASSES = ("a", "b", "c")


def draw(seed: int, n: int = 120, skill: float = 1.5, groups: int = 0) -> tuple[LabelledPredictions, np.ndarray]:
    """A model of three classes; images of a group share how hard they are."""
    generator = np.random.default_rng(seed)
    labels = np.random.default_rng(99).integers(3, size=n)
    odds = np.exp(generator.normal(size=(n, 3)) + skill * np.eye(3)[labels])
    paths = tuple(map(str, range(n)))
    codes = np.arange(n) % groups if groups else None
    return LabelledPredictions(
        labels, odds / odds.sum(axis=1, keepdims=True), CLASSES, paths=paths, groups=codes
    ), labels


@pytest.mark.parametrize("images", [20, 100, 1000])
def test_p_and_interval_never_contradict_each_other(images: int) -> None:
    for better in range(13):
        for worse in range(7):
            first = np.arange(images) < better
            second = (np.arange(images) >= better) & (np.arange(images) < better + worse)
            found = compare(first, second)
            together = better + worse
            assert found.p_value == (stats.binomtest(better, together).pvalue if together else 1.0)
            low, high = found.interval
            assert (low <= 0 <= high) == (found.p_value >= 0.05)
            assert low <= (better - worse) / images <= high
            assert high - low > 0  # also where no image differs


def test_five_to_none_is_within_noise_and_its_interval_says_so() -> None:
    first, second = np.ones(100, bool), np.arange(100) >= 5
    found = compare(first, second)
    assert found.p_value == pytest.approx(0.0625)
    assert found.interval == pytest.approx((0.0, 0.1))
    assert "within noise" in found.verdict


def test_the_interval_of_a_difference_holds_the_truth() -> None:
    generator = np.random.default_rng(0)
    for n, shares in ((50, (0.1, 0.1)), (100, (0.02, 0.05)), (300, (0.15, 0.05))):
        counts = generator.multinomial(n, [*shares, 1 - sum(shares)], size=400)
        held = []
        for only, other, _ in counts:
            first, second = np.zeros((2, n), bool)
            first[:only] = second[only : only + other] = True
            low, high = compare(first, second).interval
            held.append(low <= shares[0] - shares[1] <= high)
        assert np.mean(held) > 0.93


def test_a_difference_in_log_loss_has_the_p_of_scipys_exchanges() -> None:
    (first, _), (second, _) = draw(0, skill=1.6), draw(1, skill=1.2)
    losses = log_losses(first), log_losses(second)
    expected = stats.permutation_test(
        losses,
        lambda one, other: np.mean(one) - np.mean(other),
        permutation_type="samples",
        n_resamples=9999,
        random_state=np.random.default_rng(0),
    )
    found = compare_predictions(first, second, "log_loss").chosen
    assert found is not None
    assert found.values == pytest.approx([one.mean() for one in losses])
    assert found.p_value == pytest.approx(expected.pvalue, abs=0.015)
    resampled = stats.bootstrap(
        (losses[0] - losses[1],), np.mean, method="percentile", random_state=np.random.default_rng(0)
    ).confidence_interval
    assert found.interval == pytest.approx((resampled.low, resampled.high), abs=0.15 * (resampled.high - resampled.low))


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1", "roc_auc"])
def test_a_difference_in_another_metric_has_the_interval_of_a_paired_bootstrap(metric: str) -> None:
    (first, labels), (second, _) = draw(2, 300, 1.8), draw(3, 300, 1.2)

    def value(one: LabelledPredictions, rows: np.ndarray) -> float:
        if metric == "roc_auc":
            return float(roc_auc_score(labels[rows], one.probabilities[rows], multi_class="ovr"))
        if metric == "macro_f1":
            return float(f1_score(labels[rows], one.predicted[rows], average="macro"))
        return float(balanced_accuracy_score(labels[rows], one.predicted[rows]))

    generator = np.random.default_rng(0)
    drawn = [generator.integers(300, size=300) for _ in range(400)]
    low, high = np.quantile([value(first, rows) - value(second, rows) for rows in drawn], [0.025, 0.975])
    found = compare_predictions(first, second, metric).chosen
    assert found is not None
    assert found.values == pytest.approx((value(first, np.arange(300)), value(second, np.arange(300))))
    assert found.interval == pytest.approx((low, high), abs=0.2 * (high - low))
    assert (found.interval[0] <= 0 <= found.interval[1]) == (found.p_value >= 0.05)


def test_the_verdict_is_of_the_metric_that_was_asked_for() -> None:
    """Accuracy is significantly worse and log loss better: the verdict by log loss must not take accuracy's p."""
    labels = np.zeros(200, np.int64)
    sure, unsure = np.tile([0.99, 0.01], (200, 1)), np.tile([0.51, 0.49], (200, 1))
    first = sure.copy()
    first[:20] = [0.45, 0.55]  # wrong, but hardly
    paths = tuple(map(str, range(200)))
    one, other = (LabelledPredictions(labels, chances, ("a", "b"), paths=paths) for chances in (first, unsure))
    found = compare_predictions(one, other, "log_loss")
    assert (found.accuracy, found.p_value < 1e-4) == ((0.9, 1.0), True)
    assert found.judged.values[0] < found.judged.values[1]
    assert found.judged.interval[1] < 0
    assert found.verdict.startswith("The first is better in log loss by more than noise")
    assert compare_predictions(one, other).verdict.startswith("The second is better by more than noise")


def test_groups_are_exchanged_as_wholes() -> None:
    """Six patients of twenty images, of which one differs in all: that is one difference, not twenty."""
    groups = np.repeat(np.arange(6), 20)
    first, second = np.ones(120, bool), groups != 0
    assert compare(first, second).p_value < 1e-5
    found = compare(first, second, groups)
    assert found.p_value == 1.0
    assert found.interval[0] <= 0 < found.interval[1]
    wrong = 0
    generator = np.random.default_rng(0)
    for _ in range(200):
        groups = np.repeat(np.arange(30), 8)
        one, other = (generator.random((2, 30)) < 0.7)[:, groups]
        wrong += compare(one, other, groups).p_value < 0.05
    assert wrong / 200 < 0.08


def predict(labels: np.ndarray, given: np.ndarray, groups: np.ndarray | None = None) -> LabelledPredictions:
    """A model that gives these classes."""
    paths = tuple(map(str, range(len(labels))))
    return LabelledPredictions(labels, np.eye(3)[given] * 0.7 + 0.1, CLASSES, paths=paths, groups=groups)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1"])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_difference_in_means_over_classes_has_the_p_of_all_exchanges(metric: str, grouped: bool) -> None:
    """Few images of one class, all exchanges tried one by one with scikit-learn's figures."""
    generator = np.random.default_rng(4)
    labels = np.repeat([0, 1, 2], [20, 12, 4])
    first, second = labels.copy(), labels.copy()
    differ = np.array([0, 1, 2, 20, 21, 22, 32, 33, 34])
    second[differ] = (labels[differ] + generator.integers(1, 3, len(differ))) % 3
    first[[0, 20]] = (labels[[0, 20]] + 1) % 3
    groups = np.arange(len(labels)) // 2 if grouped else None
    units = np.arange(len(labels)) if groups is None else groups

    def difference(one: np.ndarray, other: np.ndarray) -> float:
        if metric == "macro_f1":
            return float(f1_score(labels, one, average="macro") - f1_score(labels, other, average="macro"))
        return float(balanced_accuracy_score(labels, one) - balanced_accuracy_score(labels, other))

    seen, moved = difference(first, second), np.unique(units[first != second])
    reached = []
    for some in product([False, True], repeat=len(moved)):
        swapped = np.isin(units, moved[np.array(some)])
        one, other = np.where(swapped, second, first), np.where(swapped, first, second)
        reached.append(abs(difference(one, other)) >= abs(seen) - 1e-9)
    found = compare_predictions(predict(labels, first, groups), predict(labels, second, groups), metric).chosen
    assert found is not None
    assert found.values[0] - found.values[1] == pytest.approx(seen)
    assert found.p_value == pytest.approx(np.mean(reached), abs=0.015)
    assert (found.interval[0] <= 0 <= found.interval[1]) == (found.p_value >= 0.05)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1"])
def test_one_group_of_a_rare_class_is_no_proof(metric: str) -> None:
    """The only group of a class is right by one model and wrong by the other: one difference, which chance has made."""
    labels = np.repeat([0, 1, 2], [50, 50, 5])
    first, second = labels.copy(), np.where(labels == 2, 0, labels)
    groups = np.arange(len(labels)) // 5
    found = compare_predictions(predict(labels, first, groups), predict(labels, second, groups), metric).chosen
    assert found is not None
    assert found.p_value == 1.0
    assert found.interval[0] <= 0 < found.interval[1]


def test_a_rare_class_is_no_proof_among_many_differences() -> None:
    """Of 800 images that differ the four of a rare class decide: all four on one side are one exchange in eight.

    Half of these have a larger difference than the one seen, since the other images differ either way.
    """
    labels = np.repeat([0, 1, 2], [4000, 4000, 4])
    first, second = labels.copy(), labels.copy()
    first[:800:2] = 1
    second[1:800:2] = 1
    second[-4:] = 0
    found = compare_predictions(predict(labels, first), predict(labels, second), "balanced_accuracy").chosen
    assert found is not None
    assert found.p_value == pytest.approx(1 / 16, abs=0.008)
    assert found.interval[0] <= 0 <= found.interval[1]


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1"])
@pytest.mark.parametrize("size", [1, 5])
def test_equally_good_models_seldom_differ_where_a_class_is_rare(metric: str, size: int) -> None:
    """Two models of one kind on 60 images, ten of a class for one of another: at most one in twenty is an alarm."""
    generator, alarms = np.random.default_rng(0), 0
    for _ in range(100):
        labels = np.repeat((generator.random(60 // size) < 1 / 11).astype(np.int64), size)
        groups = np.repeat(np.arange(60 // size), size)
        given = []
        for _ in range(2):
            hard = np.repeat(generator.random(60 // size) < 0.15 + 0.25 * labels[::size], size)
            given.append(np.where(hard, 1 - labels, labels))
        one, other = (predict(labels, some, groups) for some in given)
        found = compare_predictions(one, other, metric).chosen
        alarms += found is not None and found.p_value < 0.05
    assert alarms <= 10
