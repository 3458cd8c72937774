"""Weights of classes: the decision follows them, and the confidence is that of images in their real proportions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fitted import Lab
from scipy.stats import multivariate_normal

from featx.config import HeadOptions
from featx.dataset import TRAIN, VAL
from featx.features import as_features
from featx.inference.judge import judge
from featx.inference.predict import AnswerOptions, Prediction, predict
from featx.metrics.predictions import LabelledPredictions, decide
from featx.metrics.probabilities import fit_corrected, softmax
from featx.runs.prepared import Prepared
from featx.selection.choice import Choice
from featx.selection.heads import choose_head
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings
from featx.workflow.publish import publish_finetuned, publish_head

SHARES = np.array([0.72, 0.25, 0.03])  # the last class is rare
MEANS = np.array([[0.0, 0, 0, 0], [1.4, 0.6, 0, 0], [0.3, 1.5, 0.8, 0]])


def draw(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = random.choice(3, n, p=SHARES)
    return (MEANS[y] + random.normal(size=(n, 4))).astype(np.float32), y


def true_posterior(x: np.ndarray) -> np.ndarray:
    """Bayes' theorem with the densities that `draw` draws from."""
    joint = np.stack([s * multivariate_normal(m).pdf(x) for s, m in zip(SHARES, MEANS, strict=True)], axis=1)
    return np.asarray(joint / joint.sum(axis=1, keepdims=True))


def fit(y_as_labels: bool = False, **options: object) -> Choice:
    x, y = draw(5000, 0)
    target = y[:, None] == np.arange(3) if y_as_labels else y
    split = np.where(np.arange(5000) % 5 == 0, VAL, TRAIN).astype(np.uint8)
    settings = SearchSettings(HeadOptions(**options))  # type: ignore[arg-type]
    return choose_head(Problem(as_features(x), target, split, ("a", "b", "rare")), settings)


@pytest.mark.parametrize("weight", ["balanced", "rare=20,b=2"])
@pytest.mark.parametrize("clf", ["logreg", "svm", "ridge"])
def test_confidence_is_true_and_the_decision_is_that_of_the_weighed_head(clf: str, weight: str) -> None:
    found, (x, y) = fit(clf=clf, class_weight=weight, strength=0.01), draw(40_000, 1)
    logits = found.head.logits(x)
    probabilities = found.calibration.probabilities(logits)
    given = decide(probabilities, found.calibration.emphasis)
    np.testing.assert_array_equal(given, logits.argmax(axis=1))
    rare = given == 2
    right, confidence = (y[rare] == 2).mean(), probabilities[rare, 2].mean()
    assert rare.sum() > 2_000
    assert right < 0.35  # it is given more often than it is true, as was asked for
    assert confidence == pytest.approx(right, abs=0.04)
    overall = probabilities[np.arange(len(y)), given].mean()
    assert overall == pytest.approx((given == y).mean(), abs=0.03)


def test_the_confidence_of_weighed_logistic_regression_is_the_posterior() -> None:
    found, (x, _) = fit(clf="logreg", class_weight="balanced"), draw(5_000, 2)
    probabilities = found.calibration.probabilities(found.head.logits(x))
    assert np.abs(probabilities - true_posterior(x)).mean() < 0.02


@pytest.mark.parametrize("calibrate", ["sigmoid", "isotonic"])
def test_curves_leave_the_decision_to_the_weights(calibrate: str) -> None:
    x, y = draw(20_000, 3)
    rates = []
    for weight in ("none", "balanced"):
        found = fit(clf="logreg", class_weight=weight, calibrate=calibrate, strength=0.1)
        probabilities = found.calibration.probabilities(found.head.logits(x))
        given = decide(probabilities, found.calibration.emphasis)
        rates.append((given[y == 2] == 2).mean())
        assert probabilities[:, 2].mean() == pytest.approx(SHARES[2], abs=0.012)
    assert rates[0] < 0.2
    assert rates[1] > 0.6


@pytest.mark.parametrize("mode", ["none", "global", "per_class"])
def test_weighed_labels_are_given_as_before_and_their_confidence_is_true(mode: str) -> None:
    options = {"clf": "logreg", "class_weight": "balanced", "strength": 0.1, "thresholds": mode}
    found, (x, y) = fit(True, **options), draw(20_000, 4)
    logits = found.head.logits(x)
    probabilities = found.calibration.probabilities(logits)
    np.testing.assert_allclose(probabilities.mean(axis=0), SHARES, atol=0.015)
    assert found.thresholds is not None
    given = probabilities >= found.thresholds
    if mode == "none":
        np.testing.assert_array_equal(given, logits >= 0)
        assert (given[y == 2, 2]).mean() > 0.6


def test_without_weights_nothing_is_corrected() -> None:
    for options in ({}, {"class_weight": "a=2,b=2,rare=2"}):
        found = fit(clf="logreg", strength=0.1, **options)
        assert found.calibration.correction is None
        assert found.calibration.emphasis is None


def test_margins_find_their_correction_and_few_rows_leave_it_where_it_was() -> None:
    """The truth is a softmax of the margins at another scale and with other intercepts than the weights suggest."""
    random = np.random.default_rng(5)
    margins = random.normal(size=(20_000, 3)) * 2
    intercepts, expected = np.array([0.0, -1.0, -2.0]), np.array([0.0, -0.5, -3.0])
    chances = softmax(margins / 0.5 + intercepts)
    y = (chances.cumsum(axis=1) < random.random((len(margins), 1))).sum(axis=1)
    temperature, found = fit_corrected(margins, y, expected, margins=True)
    assert temperature == pytest.approx(0.5, rel=0.05)
    np.testing.assert_allclose(found - found[0], intercepts, atol=0.15)
    _, few = fit_corrected(margins[:3], y[:3], expected, margins=True)
    np.testing.assert_allclose(few - few[0], expected, atol=1.0)


@pytest.mark.parametrize("clf", ["logreg", "svm"])
def test_searches_by_log_loss_score_the_corrected_confidence(clf: str) -> None:
    """The score of a strength is scikit-learn's log loss of the confidence that the bundle would have."""
    from sklearn.metrics import log_loss

    options = {"clf": clf, "class_weight": "balanced", "metric": "log_loss", "search": "val"}
    found, (x, y) = fit(**options), draw(5000, 0)
    assert found.val_logits is not None
    expected = log_loss(y[np.arange(5000) % 5 == 0], found.calibration.probabilities(found.val_logits))
    assert found.best is not None
    assert found.best.score == pytest.approx(expected, rel=1e-3)
    posterior = true_posterior(x[np.arange(5000) % 5 == 0])
    assert found.best.score < log_loss(y[np.arange(5000) % 5 == 0], posterior) + 0.02


def test_a_part_is_decided_by_its_emphasis_and_some_of_it_too() -> None:
    probabilities = np.array([[0.7, 0.3], [0.9, 0.1]])
    whole = LabelledPredictions(np.array([1, 0]), probabilities, ("a", "b"), paths=("1", "2"))
    assert whole.predicted.tolist() == [0, 0]
    whole = replace(whole, emphasis=np.array([1.0, 4.0]))
    assert whole.predicted.tolist() == [1, 0]
    each = replace(whole, emphasis=np.array([[1.0, 4.0], [1.0, 20.0]]))
    assert each.take(np.array([1])).predicted.tolist() == [1]


# --- in a bundle --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clf", ["logreg", "dense"])
def test_a_bundle_and_its_fine_tune_decide_as_the_network_that_was_weighed(
    lab: Lab, prepared: Prepared, clf: str
) -> None:
    head = replace(lab.head(clf), class_weight="red=30", calibrate="temperature")
    pipeline = replace(prepared.pipeline, head=head, finetune=replace(lab.pipeline.finetune, epochs=1))
    weighed = replace(prepared, pipeline=pipeline)
    made = publish_head(weighed)
    for bundle in (made, publish_finetuned(made, weighed)):
        assert any("follow the weights" in note for note in bundle.manifest.notes)
        correction = np.array(bundle.manifest.head.correction)
        red = bundle.classes.index("red")
        assert correction.argmin() == red
        answers = [one for one in predict(bundle, lab.pictures, AnswerOptions(top=3)) if isinstance(one, Prediction)]
        of_each = [{c.label: c.confidence for c in one.top} for one in answers]
        chances = np.array([[named[name] for name in bundle.classes] for named in of_each])
        decision = (np.log(np.maximum(chances, 1e-9)) - correction).argmax(axis=1)
        assert [bundle.classes[k] for k in decision] == [one.label for one in answers]
        assert any(one.label != one.top[0].label for one in answers)
        for one, row in zip(answers, chances, strict=True):
            confidences = [c.confidence for c in one.top]
            assert confidences == sorted(confidences, reverse=True)
            assert one.confidence == row[bundle.classes.index(one.label)]
        judged, _ = judge(bundle, prepared.sample.images, "all")
        assert [judged.classes[k] for k in judged.predicted] == [one.label for one in predict(bundle, judged.paths)]
