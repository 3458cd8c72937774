"""Verdicts on two models: the p-value against SciPy's, and the interval that agrees with it."""

from __future__ import annotations

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
