"""Accuracy against the number of images, and what is forecast: on known curves, and on pictures."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from fitted import Lab, call, write_pictures, write_squares
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.metrics import average_precision_score
from sklearn.model_selection import KFold, StratifiedGroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import featx
from featx.cli.active import enough_text
from featx.errors import DataError, UsageError
from featx.features import ArrayFeatures
from featx.io.progress import no_progress
from featx.quality.curve import _deal, _strength, measure_curve
from featx.quality.powerlaw import PowerLaws

SIZES = np.array([30, 60, 120, 240, 480, 960])


def noisy(rest: float, scale: float, slope: float, generator: np.random.Generator, noise: float = 0.01) -> np.ndarray:
    """Errors of eight repeats of a known law."""
    return rest + scale * SIZES**-slope + noise * generator.normal(size=(8, len(SIZES)))


def test_known_laws_are_found_again() -> None:
    inside, widths = [], []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        rest, slope = generator.uniform(0, 0.15), generator.uniform(0.3, 1.0)
        scale = generator.uniform(0.2, 0.5) * 30**slope
        laws = PowerLaws.fit(SIZES, noisy(rest, scale, slope, generator))
        for images in (1920, 3840):
            forecast = laws.forecast(images)
            inside.append(forecast.interval[0] <= rest + scale * images**-slope <= forecast.interval[1])
            widths.append(forecast.interval[1] - forecast.interval[0])
            assert forecast.interval[0] <= forecast.error <= forecast.interval[1]
    assert np.mean(inside) >= 0.85
    assert np.median(widths) <= 0.04


def test_the_bands_are_those_of_what_is_measured() -> None:
    """Of laws whose repeats are each easier or harder as a whole, which moves a curve and bends none."""
    sizes, inside, gained, widths = np.array([*SIZES, 1920, 3840]), [], [], []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        law = generator.uniform(0, 0.05) + 0.5 * (sizes / 30) ** -generator.uniform(0.3, 0.6)
        errors = law + 0.01 * generator.normal(size=(8, 8)) + 0.02 * generator.normal(size=(8, 1))
        laws, mean = PowerLaws.fit(SIZES, errors[:, :6]), errors.mean(axis=0)
        for place in (6, 7):
            low, high = laws.forecast(int(sizes[place])).interval
            _, least, most = laws.gain(960, int(sizes[place]))
            inside.append(low <= mean[place] <= high)
            gained.append(least <= mean[5] - mean[place] <= most)
            widths.append(high - low)
    assert np.mean(inside) >= 0.85
    assert np.mean(gained) >= 0.85
    assert np.median(widths) <= 0.03


def test_a_curve_that_has_only_begun_to_fall_is_followed_by_its_last_points() -> None:
    inside, widths = [], []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        sizes = np.array([*SIZES, 1920, 3840])
        true = 0.5 * (1 + sizes / generator.uniform(20, 40)) ** -generator.uniform(0.4, 0.7)
        errors = true + 0.01 * generator.normal(size=(8, 8)) + 0.02 * generator.normal(size=(8, 1))
        laws = PowerLaws.fit(SIZES, errors[:, :6])
        for place in (6, 7):
            low, high = laws.forecast(int(sizes[place])).interval
            inside.append(low <= errors[:, place].mean() <= high)
            widths.append(high - low)
    assert np.mean(inside) >= 0.8
    assert np.median(widths) <= 0.025


def test_a_flat_curve_promises_nothing() -> None:
    laws = PowerLaws.fit(SIZES, 0.2 + 0.005 * np.random.default_rng(0).normal(size=(8, len(SIZES))))
    gain, low, high = laws.gain(960, 1920)
    assert low < 0 <= gain < 0.01
    assert gain < high < 0.02


def test_a_steep_curve_without_noise_goes_on() -> None:
    errors = np.repeat((2 * SIZES**-0.5)[None], 3, axis=0)
    laws = PowerLaws.fit(SIZES, errors)
    assert laws.forecast(3840).error == pytest.approx(2 * 3840**-0.5, abs=0.004)
    assert laws.gain(960, 3840)[0] == pytest.approx(2 * 960**-0.5 - 2 * 3840**-0.5, abs=0.005)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    return x[:600].astype(np.float32), y[:600]


def test_the_curve_is_that_of_scikit_learn(
    digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = digits
    searched = []
    monkeypatch.setattr("featx.quality.curve._strength", lambda *of: searched.append(of) or _strength(*of))
    found = measure_curve(ArrayFeatures(x), y, None, 3, 0, no_progress)
    assert len(searched) == len(found.sizes)  # in the first repeat alone
    assert found.sizes[-1] == pytest.approx(450, abs=5)
    assert (np.diff(found.right.mean(axis=0)) > -0.02).all()
    right = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(600)
        some, others = order[:450], order[450:]
        mean, spread = x[some].mean(axis=0), x[some].std(axis=0) + 1e-6
        head = Reference(C=0.1, max_iter=300).fit((x[some] - mean) / spread, y[some])
        right.append(head.score((x[others] - mean) / spread, y[others]))
    assert found.right[:, -1].mean() == pytest.approx(np.mean(right), abs=0.03)
    weights = np.bincount(y) / len(y)
    assert found.recall[:, -1].mean(axis=0) @ weights == pytest.approx(found.right[:, -1].mean(), abs=0.01)


def test_groups_stay_on_one_side_and_every_class_is_there_from_the_start(digits: tuple[np.ndarray, np.ndarray]) -> None:
    y = digits[1]
    groups = np.arange(600) // 3
    order, measured = _deal(y, groups, 0, np.random.default_rng(0))
    assert not set(groups[order].tolist()) & set(groups[measured].tolist())
    assert sorted([*order.tolist(), *measured.tolist()]) == list(range(600))
    assert set(y[order[:10]]) == set(range(10))
    shares = np.bincount(y[order[:200]], minlength=10) / 200
    assert np.abs(shares - np.bincount(y[order]) / len(order)).max() < 0.02


# --- pictures ----------------------------------------------------------------------------------------------------


def keys(lab: Lab, tmp_path: Path) -> dict[str, str]:
    return {"backbone": str(lab.root / "tiny.keras"), "cache": str(tmp_path / "cache"), "runs": str(tmp_path / "runs")}


def test_the_command_writes_what_it_prints(lab: Lab, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "pictures", per_class=30, seed=4)
    options = [text for name, value in keys(lab, tmp_path).items() for text in (f"--{name}", value)]
    done = call("enough", data, *options, "--repeats", "4", "--more", "100,1000", "--json", cwd=tmp_path)
    found = done.json
    assert found["now"] == 72
    assert [one["more"] for one in found["forecast"]] == [100, 1000]
    assert [one["images"] for one in found["forecast"]] == [172, 1072]
    sizes = [one["images"] for one in found["curve"]]
    assert sizes == sorted(set(sizes))
    assert all(one["interval"][0] <= one["accuracy"] <= one["interval"][1] for one in found["curve"])
    assert set(found["curve"][-1]["per_class"]) == {"blue", "green", "red"}
    with open(found["csv"], newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in rows] == [one["accuracy"] for one in found["curve"] + found["forecast"]]
    page = Path(found["report"]).read_text(encoding="utf-8")
    assert "1,000 more images would bring" in page
    assert page.count("data:image/png;base64,") == 1
    again = featx.enough(data, repeats=4, more=(100, 1000), html=False, **keys(lab, tmp_path))  # type: ignore[arg-type]
    assert [one.accuracy for one in again.forecast] == [one["accuracy"] for one in found["forecast"]]
    assert not Path(found["report"]).exists()


def test_test_images_are_left_alone(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_pictures(tmp_path / "pictures", per_class=30, seed=4)
    seen = []

    def watch(features: ArrayFeatures, y: np.ndarray, *more: object) -> object:
        seen.append(len(y))
        return measure_curve(features, y, *more)  # type: ignore[arg-type]

    monkeypatch.setattr("featx.active.enough.measure_curve", watch)
    featx.enough(data, repeats=2, split=(0.5, 0.2, 0.3), html=False, **keys(lab, tmp_path))  # type: ignore[arg-type]
    assert seen == [63]


def test_what_has_no_curve_is_refused(lab: Lab, tmp_path: Path) -> None:
    few = write_pictures(tmp_path / "few", per_class=4)
    with pytest.raises(DataError, match="too few for a curve"):
        featx.enough(few, html=False, **keys(lab, tmp_path))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"enough\.repeats must be at least 2, got 1"):
        featx.enough(few, repeats=1, **keys(lab, tmp_path))  # type: ignore[arg-type]


def test_several_labels_are_measured_by_average_precision(lab: Lab, tmp_path: Path) -> None:
    table = write_squares(tmp_path / "squares", 120)
    found = featx.enough(table, label_separator="$", repeats=2, **keys(lab, tmp_path))  # type: ignore[arg-type]
    assert found.report is not None
    page, text = found.report.read_text(), enough_text(found)
    assert "accuracy" not in text.partition("Measured with")[0]
    assert text.startswith("images  mean average precision  95 % over repeats")
    assert '<th scope="col" class="number">mean average precision</th>' in page
    assert "The average precision of each label, by the number" in page
    assert 'alt="Mean average precision against the number of training images.' in page
    assert set(found.curve[-1].per_class) == {"blue", "green", "red"}
    assert found.curve[-1].accuracy == pytest.approx(np.mean(list(found.curve[-1].per_class.values())), abs=1e-5)
    assert "a mean average precision of" in found.forecast[0].sentence()
    assert any("mean average precision" in note for note in found.notes)


def test_the_curve_of_several_labels_is_that_of_scikit_learn(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits[0], np.stack([digits[1] % 2 == 0, digits[1] < 3, digits[1] > 6], axis=1)
    found = measure_curve(ArrayFeatures(x), y, None, 2, 0, no_progress)
    reached = []
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(600)
        some, others = order[:450], order[450:]
        mean, spread = x[some].mean(axis=0), x[some].std(axis=0) + 1e-6
        for column in range(3):
            head = Reference(C=0.1, max_iter=300).fit((x[some] - mean) / spread, y[some, column])
            scores = head.decision_function((x[others] - mean) / spread)
            reached.append(average_precision_score(y[others, column], scores))
    assert found.right[:, -1].mean() == pytest.approx(np.mean(reached), abs=0.03)


def test_the_report_of_a_fit_says_what_more_images_bring(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featx.report.report.draw_figures", lambda *_: {})
    data = write_pictures(tmp_path / "pictures", per_class=75, seed=4)
    options = {"clf": "ridge", "split": (0.7, 0.2, 0.1), **keys(lab, tmp_path)}
    model = featx.fit_head(data, **options)  # type: ignore[arg-type]
    page = (model.path / "report" / "index.html").read_text(encoding="utf-8")
    assert 'id="growth"' in page
    found = re.findall(r"<p>([\d,]+) more images would bring ([+-][\d.]+) points \(([\d.-]+) to ([\d.-]+)\)", page)
    assert [one[0] for one in found] == ["79", "158", "474"]
    assert all(float(low) <= float(gain) <= float(high) for _, gain, low, high in found)


def test_of_many_images_some_are_drawn(
    digits: tuple[np.ndarray, np.ndarray], lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featx.quality.curve._MOST_ROWS", 60)
    assert measure_curve(ArrayFeatures(digits[0]), digits[1] % 2, None, 2, 0, no_progress).sizes[-1] == 45
    data = write_pictures(tmp_path / "pictures", per_class=30, seed=4)
    found = featx.enough(data, repeats=2, html=False, **keys(lab, tmp_path))  # type: ignore[arg-type]
    assert "The curve is of 60 of 81 train and val images, drawn at random." in found.notes
    assert found.now == 72


def test_the_strength_of_a_curve_is_chosen_with_groups_kept_together() -> None:
    """Images of a group are alike, so that folds that part them find less regularisation best."""
    generator = np.random.default_rng(2)
    groups = np.repeat(np.arange(60), 6)
    y, strengths = groups % 2, (0.001, 0.01, 0.1)
    x = generator.normal(size=(60, 80))[groups] + 0.05 * generator.normal(size=(360, 80))
    x[:, 0] += 0.5 * (2 * y - 1)

    def best(folds: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
        splits, losses = list(folds), []
        for strength in strengths:
            head = make_pipeline(StandardScaler(), Reference(C=strength))
            losses.append(-cross_val_score(head, x, y, cv=splits, scoring="neg_log_loss").mean())
        return strengths[int(np.argmin(losses))]

    features = ArrayFeatures(x.astype(np.float32), (80,))
    assert _strength(features, y, groups, 0) == best(StratifiedGroupKFold(3).split(x, y, groups)) == 0.001
    assert _strength(features, y, None, 0) == best(KFold(3, shuffle=True, random_state=0).split(x)) == 0.1
