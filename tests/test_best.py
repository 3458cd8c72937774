"""The best bundle of a run is chosen by what overfits least, and figures that chose something say so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import Lab, call
from manifests import changed, manifest_of
from scipy import stats

from featx.bundle.bundle import Bundle
from featx.bundle.choices import choices_of, describe_choices
from featx.bundle.manifest import Manifest
from featx.card.card import model_card
from featx.finetune.result import describe_other_figures
from featx.metrics.comparison import compare
from featx.metrics.verdict import Comparison, Difference
from featx.runs.best import choose_best, is_tie, replaces_origin


def head(val: float, folds: float | None = None, metric: str = "accuracy") -> Manifest:
    tried = [{"clf": "logreg", "score": folds, "metric": metric, "where": "cv"}] if folds is not None else []
    return manifest_of(score={"metric": metric, "value": val}, search={"last@avg": tried})


def tuned(val: float, comparison: Comparison, metric: str = "accuracy") -> Manifest:
    made = manifest_of(
        score={"metric": metric, "value": val},
        finetune={"epochs": 5},
        **{"from": {"bundle": "1-logreg", "metrics": {}}},
    )
    return replace(made, comparison={"val": comparison})


def best(*manifests: Manifest) -> int:
    """Which of them, counted from 1."""
    bundles = [Bundle(Path(f"run/{number}-x"), one) for number, one in enumerate(manifests, 1)]
    return int(choose_best(bundles).path.name.split("-")[0])


def counted(gained: int, lost: int, images: int = 100, right: int = 80) -> Comparison:
    """A network that gets so many right that its origin gets wrong, and the reverse."""
    after, before = np.zeros(images, bool), np.zeros(images, bool)
    before[:right] = after[:right] = True
    after[:lost] = False
    after[right : right + gained] = True
    return compare(after, before)


def test_the_standard_error_is_that_of_the_paired_differences() -> None:
    for gained, lost in ((10, 4), (6, 5), (9, 9)):
        difference = np.repeat([1.0, -1.0, 0.0], [gained, lost, 100 - gained - lost])
        expected = difference.std() / 10
        found = counted(gained, lost).standard_error
        assert expected <= found < 1.15 * expected
    other = Difference("log_loss", (0.5, 0.6), 0.01, (-0.19600, 0.0))
    assert replace(counted(1, 1), chosen=other).standard_error == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize(
    ("gained", "lost", "ahead", "tie"),
    [(10, 4, True, False), (6, 4, False, True), (5, 5, False, True), (4, 6, False, False)],
)
def test_a_fine_tune_takes_the_place_of_its_head_from_one_standard_error_on(
    gained: int, lost: int, ahead: bool, tie: bool
) -> None:
    made = tuned(0.8 + (gained - lost) / 100, counted(gained, lost))
    assert (replaces_origin(made), is_tie(made)) == (ahead, tie)
    assert best(head(0.8, 0.79), made) == (2 if ahead else 1)


def test_less_log_loss_is_ahead() -> None:
    for low, high, ahead in ((-0.11, -0.01, True), (-0.2, 0.08, False)):
        lead = (low + high) / 2
        judged = Difference("log_loss", (0.5 + lead, 0.5), 0.5, (low, high))
        made = tuned(0.5 + lead, replace(counted(4, 6), chosen=judged), "log_loss")
        assert replaces_origin(made) == ahead
        assert best(head(0.5, 0.55, "log_loss"), made) == (2 if ahead else 1)


def test_few_worthless_fine_tunes_take_the_place_of_their_head() -> None:
    """Ten of 100 val images change for no reason, the best of five epochs is kept; by any gain, most would be taken."""
    random, taken, gains = np.random.default_rng(0), 0, 0
    for _ in range(400):
        gained = random.binomial(10, 0.5, size=5).max()  # the best of five epochs
        comparison = counted(int(gained), 10 - int(gained))
        gains += gained > 5
        taken += replaces_origin(tuned(0.8, comparison))
    assert gains / 400 > 0.75
    one_epoch = [replaces_origin(tuned(0.8, counted(int(g), 10 - int(g)))) for g in random.binomial(10, 0.5, 400)]
    assert np.mean(one_epoch) < 0.2
    assert taken < 0.85 * gains


def test_heads_are_ranked_by_folds_where_all_have_them() -> None:
    assert best(head(0.90, 0.81), head(0.86, 0.88)) == 2
    assert best(head(0.90, 0.81), head(0.86)) == 1  # one was compared on val alone
    assert best(head(0.5, 0.7, "log_loss"), head(0.6, 0.4, "log_loss")) == 2
    assert best(head(0.9, 0.88), head(0.9, 0.88)) == 1
    made = tuned(0.9, counted(10, 4))
    assert best(head(0.88, 0.81), head(0.91, 0.88), made) == 2  # it beats its own head, not the other


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])
def test_a_network_from_scratch_takes_the_lead_from_one_standard_error_on(metric: str) -> None:
    """Any lead on val was enough, which half of worthless ones have."""

    def on_val(made: Manifest, right: int) -> Manifest:
        wilson = stats.binomtest(right, 100).proportion_ci(method="wilson")
        intervals = {"accuracy": [wilson.low, wilson.high]} if metric == "accuracy" else {}
        measured = {
            "val": {"images": 100, "accuracy": right / 100, "roc_auc_macro": right / 100, "intervals": intervals}
        }
        return changed(made, metrics=measured)

    def scratch(right: int) -> Manifest:
        made = manifest_of(score={"metric": metric, "value": right / 100}, baseline={"net": "conv3", "epochs": 9})
        return on_val(made, right)

    first = on_val(head(0.8, metric=metric), 80)
    error = np.hypot(np.sqrt(0.8 * 0.2 / 100), np.sqrt(0.85 * 0.15 / 100))  # 0.054
    assert [best(first, scratch(right)) for right in (79, 81, 85, 86)] == [1, 1, 1, 2]
    assert 0.05 < error < 0.06
    assert best(scratch(81), scratch(84)) == 2  # among equals the better one
    one = scratch(83)
    assert best(first, one, tuned(0.86, counted(8, 2))) == 3


def test_what_was_chosen_is_listed_with_what_it_was_chosen_among() -> None:
    def one(clf: str, where: str, **params: Any) -> dict[str, Any]:
        return {"clf": clf, "params": params, "score": 0.5, "metric": "accuracy", "where": where}

    tried = {"a@avg": [one("logreg", "cv", C=1.0), one("logreg", "cv", C=2.0)], "b@avg": [one("svm", "cv", C=1.0)]}
    found = manifest_of(search=tried, split={"digest": "s", "images": {"train": 50, "val": 10}})
    (choice,) = choices_of(found)
    assert choice.as_json() == {"what": "layers, head and strength", "among": 3, "by": "cv"}
    epochs = [{"epoch": number, "loss": 1.0} for number in (1, 2, 3)]
    dense = manifest_of(
        search={"a@avg": [one("dense", "val")]}, history=epochs, split={"digest": "s", "images": {"val": 10}}
    )
    assert [one.as_json() for one in choices_of(dense)] == [{"what": "epoch", "among": 3, "by": "val"}]
    (sentence,) = describe_choices(dense)
    assert sentence == "Val has chosen the epoch among 3, so its figures are somewhat better than new images will be."
    assert sentence in model_card(dense, "m")
    assert describe_choices(dense, by="cv") == ()


def test_the_optimism_of_val_stands_wherever_it_was_used(lab: Lab, tmp_path: Path) -> None:
    common = ("--backbone", lab.root / "tiny.keras", "--set", "data.split=[0.5,0.25,0.25]", "--search", "val")
    pictures = lab.root / "pictures"
    made = call("fit-head", pictures, *common, "--json", cwd=tmp_path)
    assert made.status == 0, made.err
    (chosen,) = made.json["chosen"]
    assert (chosen["what"], chosen["by"]) == ("strength", "val")
    assert chosen["among"] > 5
    sentence = f"Val has chosen the strength among {chosen['among']}, so its figures are somewhat better"
    page = (tmp_path / made.json["report"]).read_text()
    assert sentence in page
    again = call("fit-head", pictures, *common, cwd=tmp_path)
    assert sentence in again.out
    measured = call("evaluate", made.json["bundle"], "--data", pictures, "--split", "val", "--json", cwd=tmp_path)
    assert any(sentence in note for note in measured.json["notes"])
    tested = call("evaluate", made.json["bundle"], "--data", pictures, "--split", "test", "--json", cwd=tmp_path)
    assert not any("Val has chosen" in note for note in tested.json["notes"])
    shown = call("predict", lab.pictures[0], cwd=tmp_path)
    assert "(among 2, by accuracy on val)" in shown.err


def test_a_figure_that_differs_from_the_record_is_explained(lab: Lab) -> None:
    bundle = lab.bundle("logreg")
    manifest = bundle.manifest
    test = manifest.metrics_on("test")
    same = describe_other_figures(bundle, manifest.metrics, manifest.split.digest)
    assert same == []
    other = replace(test, values={**test.values, "accuracy": (test.get("accuracy") or 0) - 0.2})
    (note,) = describe_other_figures(bundle, {"test": other}, manifest.split.digest)
    assert f"accuracy {test.get('accuracy'):.2f} on test in its record and {other.get('accuracy'):.2f} here" in note
    assert "features from the cache, computed in float32; here the network itself predicts, in float32" in note
    assert describe_other_figures(bundle, {"test": other}, "another split") == []
    assert describe_other_figures(bundle, {"test": replace(other, images=3)}, manifest.split.digest) == []


def test_a_fine_tune_of_the_best_head_is_judged_by_their_comparison_alone() -> None:
    """The head's record may be of features in bfloat16, and so better than what the network itself reaches."""
    start = replace(head(0.95, 0.95), digest="d" * 64)
    made = tuned(0.86, counted(10, 4))
    assert made.origin is not None
    assert best(start, replace(made, origin=replace(made.origin, digest="d" * 64))) == 2
