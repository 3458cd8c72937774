"""New images against those of a model: the tests against SciPy and plain loops, their level, and pictures."""

from __future__ import annotations

import csv
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fitted import Lab, call, write_pictures, write_squares
from PIL import Image
from scipy.spatial.distance import cdist
from scipy.stats import chi2_contingency, false_discovery_control, ks_2samp

import featx
from featx.active.comparison import Side, compare_sides, components
from featx.bundle.bundle import pack
from featx.errors import BundleError, DataError
from featx.metrics.labelshift import estimate_mix
from featx.metrics.probabilities import softmax
from featx.metrics.twosample import Divisions, compare_rows, compare_values, compare_votes, holm


def divisions(n: int, m: int, count: int = 199, seed: int = 0) -> Divisions:
    return Divisions.of(n, m, count, np.random.default_rng(seed))


def test_the_statistics_are_those_of_their_definitions() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(30, 5)), random.normal(0.4, 1, size=(50, 5))
    some = divisions(30, 50)
    energy = 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()
    assert compare_rows(np.concatenate([x, y]), some).statistic == pytest.approx(energy, rel=1e-4)
    a, b = random.normal(size=40).round(1), random.normal(0.5, 1, size=60).round(1)
    found = compare_values(np.concatenate([a, b]), divisions(40, 60, 1999))
    reference = ks_2samp(a, b)
    assert found.statistic == pytest.approx(reference.statistic)
    assert found.p == pytest.approx(reference.pvalue, abs=0.03)
    votes = np.eye(3, dtype=bool)[np.concatenate([random.integers(0, 3, 40), random.choice(3, 60, p=[0.6, 0.2, 0.2])])]
    table = chi2_contingency([votes[:40].sum(axis=0), votes[40:].sum(axis=0)])
    found = compare_votes(votes, divisions(40, 60, 1999))
    assert found.statistic == pytest.approx(table.statistic)
    assert found.p == pytest.approx(table.pvalue, abs=0.03)


def test_p_is_the_share_of_divisions_that_differ_as_much() -> None:
    random = np.random.default_rng(1)
    rows, some = random.normal(size=(20, 3)), divisions(8, 12, 60)
    statistics = []
    for first in some.first:
        x, y = rows[first], rows[~first]
        statistics.append(2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean())
    assert some.first[0].tolist() == [True] * 8 + [False] * 12
    assert (some.first.sum(axis=1) == 8).all()
    assert compare_rows(rows, some).p == pytest.approx(np.mean(np.array(statistics) >= statistics[0] - 1e-6))
    assert compare_rows(np.zeros((20, 3)), some).p == 1
    assert compare_votes(np.ones((20, 1), bool), some).p == 1


def test_holm_is_by_steps() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])).tolist() == [1, 1]
    assert (holm(np.array([0.02, 0.03])) >= false_discovery_control([0.02, 0.03])).all()


def test_components_keep_distances_of_standardised_directions() -> None:
    random = np.random.default_rng(0)
    wide = random.normal(size=(60, 3000)) + 4
    few = components(wide.astype(np.float16))
    assert few.shape == (60, 16)
    assert few.std(axis=0) == pytest.approx(np.ones(16), abs=1e-3)
    tall = random.normal(size=(400, 6)) * [5, 4, 3, 2, 1, 0.5] + 1
    unit = tall / np.linalg.norm(tall, axis=1, keepdims=True)
    left, _, _ = np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
    assert (
        np.abs(np.corrcoef(left[:, :5].T, components(tall)[:, 5:0:-1].T)[:5, 5:]).round(3).tolist()
        == np.eye(5).tolist()
    )


def sides(random: np.random.Generator, n: int, shift: float) -> Side:
    rows = random.normal(size=(n, 12)) + shift * np.eye(12)[0]
    probabilities = softmax(2 * rows[:, :3])
    votes = np.eye(3, dtype=bool)[probabilities.argmax(axis=1)]
    return Side(rows.astype(np.float32), probabilities, votes, probabilities.max(axis=1), np.abs(rows).max(axis=1))


def test_five_in_a_hundred_are_false_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.active.comparison.DIVISIONS", 119)
    alarms, seen = 0, 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        alike = compare_sides(sides(random, 40, 0), sides(random, 60, 0), answers=True, seed=seed)
        alarms += min(one.adjusted for one in alike.values()) <= 0.05
        if seed < 20:
            moved = compare_sides(sides(random, 40, 1.5), sides(random, 60, 0), answers=True, seed=seed)
            seen += min(one.adjusted for one in moved.values()) <= 0.05
    assert alarms <= 16
    assert seen >= 18


def test_the_mix_of_classes_is_found_where_the_model_errs() -> None:
    random = np.random.default_rng(0)
    y = random.choice(3, 3000, p=[0.7, 0.2, 0.1])
    x = random.normal(size=3000) * 1.2 + y
    density = np.exp(-((x[:, None] - np.arange(3)) ** 2) / (2 * 1.2**2))
    usual = np.array([1 / 3, 1 / 3, 1 / 3])
    probabilities = density * usual / (density * usual).sum(axis=1, keepdims=True)
    found = estimate_mix(probabilities, usual, random)
    counted = np.bincount(probabilities.argmax(axis=1), minlength=3) / 3000
    assert np.abs(counted - [0.7, 0.2, 0.1]).max() > 0.08
    assert found.shares == pytest.approx([0.7, 0.2, 0.1], abs=0.05)
    assert found.low is not None
    assert found.high is not None
    assert (found.low <= found.shares).all()
    assert (found.shares <= found.high).all()
    assert found.shares.sum() == pytest.approx(1)
    many = estimate_mix(np.full((30, 60), 1 / 60), np.full(60, 1 / 60), random)
    assert many.low is None
    assert many.shares == pytest.approx(np.full(60, 1 / 60))


# --- pictures ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of 90 pictures, a third of them to train, and `new/`: 45 more of the same source."""
    from fitted import make_lab

    root = tmp_path_factory.mktemp("drift")
    lab = make_lab(tmp_path_factory.getbasetemp() / "lab")
    data = write_pictures(root / "pictures", per_class=30, seed=8)
    write_pictures(root / "new", per_class=15, seed=9)
    features = {"backbone": str(lab.root / "tiny.keras"), "cache": str(root / "cache")}
    featx.fit_head(data, split=(0.4, 0.6, 0), runs=str(root / "runs"), html=False, **features)  # type: ignore[arg-type]
    return root


def run(model: Path, new: Path, tmp_path: Path, *more: str) -> tuple[int, dict[str, object]]:
    options = ("--cache", str(model / "cache"), "--runs", str(tmp_path / "runs"), "--json", *more)
    done = call("drift", new, "--model", str(model / "runs" / "pictures"), *options, cwd=tmp_path)
    return done.status, done.json if done.out else {"error": done.sentence}


@pytest.fixture(scope="module")
def alike(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, object]]:
    """What is found of `new/`."""
    return run(model, model / "new", tmp_path_factory.mktemp("alike"), "--fail")


def test_pictures_of_the_same_source_do_not_differ(alike: tuple[int, dict[str, object]]) -> None:
    status, found = alike
    assert status == 0
    assert found["drifted"] is False
    assert (found["images"], found["held"]) == (45, 54)
    assert found["p"] == min(one["adjusted"] for one in found["tests"].values())  # type: ignore[attr-defined]
    assert set(found["tests"]) == {"features", "distance", "confidence", "classes"}  # type: ignore[call-overload]
    assert [one["label"] for one in found["mix"]] == ["blue", "green", "red"]  # type: ignore[attr-defined]
    assert "look like" in str(found["verdict"])


def test_classes_without_images_change_nothing(
    model: Path, alike: tuple[int, dict[str, object]], tmp_path: Path
) -> None:
    new = tmp_path / "new"
    shutil.copytree(model / "new", new)
    (new / "purple").mkdir()
    status, found = run(model, new, tmp_path)
    assert status == 0, found
    assert (found["images"], found["p"]) == (45, alike[1]["p"])


def test_a_colour_cast_is_seen_and_the_strangest_are_shown(model: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted((model / "new").rglob("*.png"))):
        pixels = np.asarray(Image.open(path)) * np.array([1.7, 1.0, 0.3])
        (tmp_path / "cast").mkdir(exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(tmp_path / "cast" / f"{number}.png")
    Image.fromarray(np.full((24, 32, 3), (255, 255, 0), np.uint8)).save(tmp_path / "cast" / "yellow.png")
    (tmp_path / "cast" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    status, found = run(model, tmp_path / "cast", tmp_path, "--strangest", "5")
    assert (status, found["drifted"]) == (0, True)
    assert run(model, tmp_path / "cast", tmp_path, "--strangest", "5", "--fail")[0] == 1
    with open(str(found["csv"]), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    distances = [float(row["distance"]) for row in rows]
    assert distances == sorted(distances, reverse=True)
    answers = featx.load(model / "runs" / "pictures").predict([row["path"] for row in rows], max_distance=1.0)
    assert [row["prediction"] for row in rows] == [one.top[0].label for one in answers]
    assert distances == pytest.approx([one.distance for one in answers], abs=0.02)
    assert [Path(one["path"]).name for one in found["bad"]] == ["broken.png"]  # type: ignore[attr-defined]
    page = Path(str(found["report"])).read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 1
    assert "they look different to the network" in page


def test_another_mix_is_estimated(model: Path, tmp_path: Path) -> None:
    new = tmp_path / "mostly red"
    write_pictures(tmp_path / "more", per_class=40, seed=11)
    new.mkdir()
    for name, count in (("red", 40), ("blue", 4), ("green", 3)):
        for path in sorted((tmp_path / "more" / name).glob("*.png"))[:count]:
            path.rename(new / f"{name}-{path.name}")
    status, found = run(model, new, tmp_path)
    assert status == 0
    assert found["drifted"] is True
    assert found["tests"]["classes"]["adjusted"] <= 0.05  # type: ignore[index]
    now = {one["label"]: one["now"] for one in found["mix"]}  # type: ignore[attr-defined]
    assert now["red"] == pytest.approx(0.8, abs=0.12)
    assert "red most of all" in str(found["verdict"])


def test_a_packed_model_compares_with_what_it_keeps(model: Path, tmp_path: Path) -> None:
    bundle = featx.load(model / "runs" / "pictures").bundle
    pack(bundle, tmp_path / "packed.featx")
    assert bundle.reference().held.shape[0] == 54
    here = featx.load(model / "runs" / "pictures").drift(model / "new", out=tmp_path / "a", cache=str(model / "cache"))
    there = featx.load(tmp_path / "packed.featx").drift(model / "new", out=tmp_path / "b", cache=str(tmp_path / "none"))
    assert there.tests["classes"].statistic == pytest.approx(here.tests["classes"].statistic, abs=0.5)
    assert there.tests["features"].statistic == pytest.approx(here.tests["features"].statistic, rel=0.05)


def test_several_labels(lab: Lab, tmp_path: Path) -> None:
    table = write_squares(tmp_path, 80)
    features = {"backbone": str(lab.root / "tiny.keras"), "cache": str(tmp_path / "cache"), "runs": str(tmp_path / "r")}
    model = featx.fit_head(table, label_separator="$", split=(0.5, 0.5, 0), html=False, **features)  # type: ignore[arg-type]
    write_pictures(tmp_path / "new", per_class=10)
    found = model.drift(tmp_path / "new", out=tmp_path / "out", cache=features["cache"], html=False)
    assert found.drifted
    assert found.mix is None
    assert found.report is None
    assert any("several labels" in note for note in found.notes)


def test_groups_are_named_since_other_groups_always_differ(model: Path, lab: Lab, tmp_path: Path) -> None:
    """Groups of five that are alike, drawn from one source: the tests, for independent images, differ in nearly all."""
    features = {"backbone": str(lab.root / "tiny.keras"), "cache": str(model / "cache"), "runs": str(tmp_path / "r")}
    split = (0.4, 0.6, 0)
    grouped = featx.fit_head(model / "pictures", group_duplicates=0.9999, split=split, html=False, **features)  # type: ignore[arg-type]
    found = grouped.drift(model / "new", out=tmp_path / "o", cache=features["cache"], html=False)
    assert any("Compare one image of each group." in note for note in found.notes)
    alone = featx.load(model / "runs" / "pictures").drift(model / "new", out=tmp_path / "p", cache=features["cache"])
    assert not any("group" in note for note in alone.notes)
    random = np.random.default_rng(0)
    centres = random.normal(size=(2, 12, 12))
    few = [np.repeat(some, 5, axis=0) + 0.3 * random.normal(size=(60, 12)) for some in centres]
    both = [replace(sides(random, 60, 0), rows=rows.astype(np.float32)) for rows in few]
    assert compare_sides(both[0], both[1], answers=True, seed=0)["features"].p < 0.01


def test_refused_with_one_sentence(model: Path, lab: Lab, tmp_path: Path) -> None:
    write_pictures(tmp_path / "few", per_class=2)
    assert "there are 6." in str(run(model, tmp_path / "few", tmp_path)[1]["error"])
    shutil.copytree(model / "pictures" / "red", tmp_path / "few" / "known")
    left_out = str(run(model, tmp_path / "few", tmp_path)[1]["error"])
    assert re.search(r"there are 6\. \d+ images are left out: the model was made with them", left_out), left_out
    known = featx.load(model / "runs" / "pictures")
    with pytest.raises(DataError, match="have a label in the model already"):
        known.drift(model / "pictures", out=tmp_path / "o", cache=str(model / "cache"))
    old = Path(__file__).parent / "old_0_1_0" / "1-logreg.featx"
    with pytest.raises(BundleError, match="keeps no images that it was not fitted on"):
        featx.load(old).drift(model / "new", out=tmp_path / "o", cache=str(tmp_path / "c"))
    features = {"backbone": str(lab.root / "tiny.keras"), "cache": str(model / "cache"), "runs": str(tmp_path / "r")}
    again = featx.fit_head(model / "pictures", split=(0.5, 0.5, 0), refit=True, html=False, **features)  # type: ignore[arg-type]
    found = again.drift(model / "new", out=tmp_path / "o", cache=features["cache"], html=False)
    assert set(found.tests) == {"features", "distance"}
    assert any("--refit" in note for note in found.notes)
    write_pictures(tmp_path / "small", per_class=5)
    small = featx.fit_head(tmp_path / "small", strength=0.1, html=False, **features)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"at least 20\. Make it again with more images, 100 at least, and more for"):
        small.drift(model / "new", out=tmp_path / "o", cache=features["cache"], html=False)
