"""A metric is one row of the table: with it, it is measured, chosen by and shown everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from manifests import manifest_of
from sklearn.metrics import matthews_corrcoef

from featx.card.facts import metric_names as card_names
from featx.card.figures import describe_metrics
from featx.cli.render import metric_names as terminal_names
from featx.config import HeadOptions, Metric
from featx.dataset import TRAIN
from featx.errors import HeadError
from featx.features import as_features
from featx.metrics.measures import measure
from featx.metrics.predictions import TARGETS, LabelledPredictions, MetricInput
from featx.metrics.scores import resolve_metric, score
from featx.metrics.shares import Shares, of_images
from featx.metrics.specs import MetricForm, MetricSpec
from featx.metrics.table import METRICS, forms_of, is_better, metric_label, metric_of, shown_keys, signed_score
from featx.report.report import Content, write_report
from featx.selection.heads import choose_head
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings

CLASSES = ("ant", "bee", "cow")


def matthews(outcome: MetricInput) -> float:
    return float(matthews_corrcoef(outcome.labels, outcome.predicted))


def errors(outcome: MetricInput) -> float:
    return float((outcome.labels != outcome.predicted).mean())


def wrong_images(outcome: MetricInput) -> Shares:
    return of_images(outcome.labels != outcome.predicted)


@pytest.fixture
def more_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of which more is better, and one of which less is, with an interval."""
    correlation = MetricForm("class", "mcc", "Matthews correlation", "agreement beyond chance", matthews)
    monkeypatch.setitem(METRICS, "matthews", MetricSpec("Matthews correlation", (correlation,), choosable=True))
    rate = MetricForm(
        "class", "error_rate", "error rate", "share of images that are wrong", errors, shares=wrong_images
    )
    spec = MetricSpec("error rate", (rate,), lower_is_better=True, choosable=True)
    monkeypatch.setitem(METRICS, "errors", spec)


def draw(n: int = 200) -> LabelledPredictions:
    random = np.random.default_rng(0)
    labels = random.integers(3, size=n)
    odds = np.exp(random.normal(size=(n, 3)) + 1.5 * np.eye(3)[labels])
    return LabelledPredictions(labels, odds / odds.sum(axis=1, keepdims=True), CLASSES, part="test", paths=("x",) * n)


@pytest.mark.usefixtures("more_metrics")
def test_a_metric_of_one_row_is_measured() -> None:
    found = measure(draw())
    assert found.value("matthews") == found.values["mcc"] == pytest.approx(matthews(draw()))
    assert "mcc" not in found.intervals
    low, high = found.intervals["error_rate"] or (1, 0)
    assert low < (found.values["error_rate"] or 0) < high
    assert (1 - high, 1 - low) == pytest.approx(found.intervals["accuracy"])
    json = found.as_json()
    assert [key for key in json if key in {"mcc", "error_rate", "intervals"}] == ["mcc", "error_rate", "intervals"]
    assert metric_of(json, "errors") == found.summary()["error_rate"]
    assert measure(LabelledPredictions(np.empty(0, np.int64), np.empty((0, 3)), CLASSES)).as_json()["mcc"] is None


@pytest.mark.usefixtures("more_metrics")
@pytest.mark.parametrize(("metric", "best"), [("matthews", max), ("errors", min)])
def test_a_metric_of_one_row_is_chosen_by(metric: Any, best: Any) -> None:
    random = np.random.default_rng(0)
    y = random.integers(3, size=150)
    x = (random.normal(size=(3, 6))[y] + 2 * random.normal(size=(150, 6))).astype(np.float32)
    problem = Problem(as_features(x), y, np.full(150, TRAIN, np.uint8), CLASSES)
    lines: list[str] = []
    choice = choose_head(problem, SearchSettings(HeadOptions(metric=metric, clf="ridge"), show=lines.append))
    scores = [one.score for one in choice.candidates]
    assert len(set(scores)) > 1
    assert choice.best is not None
    assert (choice.best.metric, choice.best.score) == (metric, best(scores))
    assert choice.params == choice.best.params
    assert metric in lines[0]
    with pytest.raises(HeadError, match=f"--metric {metric} is of one class per image. For several labels choose"):
        resolve_metric(metric, "labels")
    assert is_better("errors", 0.1, 0.2)
    assert signed_score("error_rate", 0.1) == -0.1


@pytest.mark.usefixtures("more_metrics")
def test_a_metric_of_one_row_is_shown(tmp_path: Path) -> None:
    predictions = draw()
    figures = measure(predictions).summary()
    manifest = manifest_of(classes=list(CLASSES), score={"metric": "errors", "where": "val"})
    page = write_report(tmp_path, Content("a title", manifest, (predictions,), counts={})).read_text()
    assert metric_label("mcc") == metric_label("matthews") == "Matthews correlation"
    assert "Matthews correlation" in page
    assert f"{figures['error_rate']:.2f}" in page
    assert {"mcc", "error_rate"} <= set(terminal_names(figures))
    assert {"mcc", "error_rate"} <= set(card_names(manifest))
    assert "error rate: share of images that are wrong" in describe_metrics(manifest)


def test_the_options_are_the_metrics_that_can_be_chosen() -> None:
    assert set(get_args(Metric)) - {"auto"} == {name for name, spec in METRICS.items() if spec.choosable}


def test_a_row_is_of_each_kind_of_target_once_and_its_keys_are_its_own() -> None:
    for target in TARGETS:
        keys = [form.key for form in forms_of(target)]
        assert len(keys) == len(set(keys))
        assert shown_keys(target, brief=True) == [
            key for key in shown_keys(target) if key in shown_keys(target, brief=True)
        ]
    for spec in METRICS.values():
        assert len({form.target for form in spec.forms}) == len(spec.forms)
    assert "top5_accuracy" not in shown_keys("class", classes=5)
    assert "top5_accuracy" in shown_keys("class", classes=6)


def test_what_auto_stands_for_and_what_is_not_defined() -> None:
    assert (resolve_metric("auto", "class"), resolve_metric("auto", "labels")) == ("accuracy", "average_precision")
    with pytest.raises(
        HeadError, match=r"For several labels choose accuracy \(all labels of an image right\), macro_f1, "
    ):
        resolve_metric("balanced_accuracy", "labels")
    with pytest.raises(HeadError, match="The metric balanced_accuracy is not defined"):
        score("balanced_accuracy", np.zeros((2, 2)), np.ones((2, 2), bool))
