"""Label errors, near-duplicates and outliers: planted ones are found, and every figure is that of a plain reference."""

from __future__ import annotations

import csv
import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import median_abs_deviation
from sklearn.datasets import load_digits, load_sample_images
from sklearn.metrics import log_loss
from sklearn.metrics.pairwise import cosine_distances, cosine_similarity

from featx.features import ArrayFeatures, FeaturesError
from featx.heads.linear import LogisticRegression
from featx.metrics import similarity
from featx.metrics.probabilities import softmax
from featx.metrics.similarity import close_pairs, nearest
from featx.quality.inspection import inspect
from featx.quality.label_errors import are_labels_learned, find_label_errors, out_of_fold_probabilities
from featx.quality.near_duplicates import find_near_duplicates
from featx.quality.outliers import find_outliers, robust_scores


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 64 rows, of which 70 or 128 are kept: every border between blocks is met."""
    monkeypatch.setattr(similarity, "_BLOCK", 1)
    monkeypatch.setattr(similarity, "_KEPT", 4 * 5 * 128)
    monkeypatch.setattr(similarity, "_TILE", 70)


def rows(n: int, d: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


# --- label errors ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Digits with one label in twenty made wrong: pixels, labels, which are wrong, the true ones."""
    x, truth = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    wrong = random.choice(len(truth), len(truth) // 20, replace=False)
    labels = truth.copy()
    labels[wrong] = (truth[wrong] + random.integers(1, 10, len(wrong))) % 10
    return x.astype(np.float32), labels, wrong, truth


@pytest.fixture(scope="module")
def probabilities(planted: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    return out_of_fold_probabilities(ArrayFeatures(planted[0]), planted[1])


def test_labels_by_chance_are_not_learned_and_others_are(
    planted: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], probabilities: np.ndarray
) -> None:
    assert are_labels_learned(planted[1], probabilities)
    wrong, learned = 0, 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        y = random.choice(3, 300, p=[0.8, 0.15, 0.05] if seed % 2 else None)
        x = random.normal(size=(300, 8)).astype(np.float32)
        wrong += are_labels_learned(y, out_of_fold_probabilities(ArrayFeatures(x), y))
        x[:, 0] += 1.5 * y
        learned += are_labels_learned(y, out_of_fold_probabilities(ArrayFeatures(x), y))
    assert wrong <= 1
    assert learned >= 19


def test_planted_label_errors_are_found(
    planted: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], probabilities: np.ndarray
) -> None:
    x, labels, wrong, truth = planted
    found = find_label_errors(labels, probabilities)
    first = np.isin(found.rows[: len(wrong)], wrong).mean()
    overfitted = LogisticRegression(C=1.0).fit(x, labels)  # judges the rows that it was fitted on
    given = softmax(overfitted.logits(x))[np.arange(len(x)), labels]
    baseline = np.isin(np.argsort(given)[: len(wrong)], wrong).mean()
    assert first >= 0.9
    assert first > baseline
    assert np.isin(wrong, found.rows).mean() >= 0.9
    right = np.isin(found.rows, wrong)
    assert (found.suggested[right] == truth[found.rows[right]]).mean() > 0.9
    assert len(found) < 1.5 * len(wrong)


def test_probabilities_are_out_of_fold_and_calibrated(
    planted: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], probabilities: np.ndarray
) -> None:
    _, labels, _, _ = planted
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    # Of labels one in twenty is wrong: a head that is never sure of more than it knows loses about this much.
    assert 0.2 < log_loss(labels, probabilities) < 0.75
    assert (probabilities[np.arange(len(labels)), labels] > 0.5).mean() == pytest.approx(0.9, abs=0.06)


def test_a_row_that_cannot_be_left_out_is_not_judged() -> None:
    x, y = rows(41), np.repeat([0, 1, 2], [20, 20, 1])
    probabilities = out_of_fold_probabilities(ArrayFeatures(x), y)
    assert np.isnan(probabilities[-1]).all()
    assert np.isfinite(probabilities[:-1]).all()
    assert 40 not in find_label_errors(y, probabilities).rows
    alone = out_of_fold_probabilities(ArrayFeatures(x), y, groups=y)
    assert np.isnan(alone).all()
    assert len(find_label_errors(y, alone)) == 0


def test_features_that_are_not_finite_are_refused() -> None:
    x = rows(20)
    x[7, 1] = np.nan
    with pytest.raises(FeaturesError) as error:
        inspect(ArrayFeatures(x), np.repeat([0, 1], 10), np.zeros(20, np.uint8))
    assert error.value.rows.tolist() == [7]


def likely(seed: int, n: int = 400, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, k, n)
    probabilities = random.dirichlet(np.ones(k), n) + 1.5 * np.eye(k)[truth]
    labels = np.where(random.random(n) < 0.15, random.integers(0, k, n), truth)
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(4))
def test_confident_learning_is_that_of_the_paper(seed: int) -> None:
    y, p = likely(seed)
    k = p.shape[1]
    threshold = [np.mean([p[i, c] for i in range(len(y)) if y[i] == c]) for c in range(k)]
    joint = np.zeros((k, k))
    for i, label in enumerate(y):
        confident = [c for c in range(k) if p[i, c] >= threshold[c]]
        if confident:
            joint[label, max(confident, key=lambda c: p[i, c])] += 1
    errors = round(sum((y == c).sum() * (1 - joint[c, c] / joint[c].sum()) for c in range(k)))
    errors = max(errors, sum(p[i, y[i]] < 0.05 for i in range(len(y))))
    expected = [i for i in sorted(range(len(y)), key=lambda i: p[i, y[i]])[:errors] if p[i].argmax() != y[i]]
    found = find_label_errors(y, p)
    assert found.rows.tolist() == expected
    assert len(expected) > 20
    given = p[found.rows, y[found.rows]]
    np.testing.assert_array_equal(found.given, given)
    np.testing.assert_array_equal(found.suggested, p[found.rows].argmax(axis=1))
    np.testing.assert_array_equal(found.confidence, p[found.rows].max(axis=1))


def test_confident_learning_is_that_of_cleanlab() -> None:
    filters = pytest.importorskip("cleanlab.filter")
    y, p = likely(9)
    theirs = filters.find_label_issues(
        y, p, filter_by="low_self_confidence", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    mine = find_label_errors(y, p).rows
    both = min(len(mine), len(theirs))  # they count those that are confidently wrong and do not scale up to all
    assert mine[:both].tolist() == theirs[:both].tolist()
    assert len(theirs) <= len(mine) <= 1.6 * len(theirs)


def test_a_single_error_among_sure_labels_is_listed() -> None:
    y = np.repeat([0, 1], 50)
    p = np.where(np.eye(2)[y] > 0, 0.99, 0.01)
    p[7] = (0.3, 0.7)  # less sure than the class that it is taken for is on average
    assert find_label_errors(y, p).rows.tolist() == []
    p[7] = (0.04, 0.96)
    assert find_label_errors(y, p).rows.tolist() == [7]


def test_codes_need_not_be_consecutive() -> None:
    y, p = likely(3)
    found, spread = find_label_errors(y, p), find_label_errors(10 + 3 * y, p)
    np.testing.assert_array_equal(found.rows, spread.rows)
    np.testing.assert_array_equal(10 + 3 * found.suggested, spread.suggested)


# --- near-duplicates ---------------------------------------------------------------------------------------------


def test_block_by_block_equals_all_at_once(small_blocks: None) -> None:
    x, split = rows(331), np.arange(331) % 3
    cosine = cosine_similarity(x.astype(np.float64))
    expected = {(i, j): cosine[i, j] for i, j in itertools.combinations(range(331), 2) if cosine[i, j] >= 0.9}
    across, within = close_pairs(ArrayFeatures(x), 0.9, split, most=10_000)
    for pairs, same in ((across, False), (within, True)):
        wanted = {
            pair: value for pair, value in expected.items() if (split[pair[0]] == split[pair[1]]) is np.bool_(same)
        }
        found = dict(zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), pairs.similarity, strict=True))
        assert found.keys() == wanted.keys()
        assert all(abs(found[pair] - wanted[pair]) < 1e-5 for pair in wanted)
        assert (np.diff(pairs.similarity) <= 0).all()
    assert len(expected) > 100


def test_of_too_many_pairs_the_closest_are_kept(small_blocks: None) -> None:
    x, split = rows(300), np.arange(300) % 2
    everything = find_near_duplicates(ArrayFeatures(x), split, 0.8)
    some = find_near_duplicates(ArrayFeatures(x), split, 0.8, most=20)
    assert everything.complete
    assert not some.complete
    assert some.across.tolist() == [True] * 20 + [False] * 20  # across parts first
    for kind in (True, False):
        pairs = list(
            zip(everything.first[everything.across == kind], everything.second[everything.across == kind], strict=True)
        )
        kept = list(zip(some.first[some.across == kind], some.second[some.across == kind], strict=True))
        assert kept == pairs[:20]


def test_rows_of_zeros_are_like_nothing() -> None:
    x = np.zeros((4, 3), np.float32)
    x[3] = 1
    assert len(find_near_duplicates(ArrayFeatures(x), np.zeros(4), 0.5)) == 0


@pytest.mark.parametrize("k", [1, 4, 500])
def test_the_nearest_are_those_of_scikit_learn(small_blocks: None, k: int) -> None:
    x, queries = rows(331), rows(150, seed=1)
    position, value = nearest(ArrayFeatures(x), queries, k)
    cosine = cosine_similarity(queries.astype(np.float64), x.astype(np.float64))
    order = np.argsort(-cosine, axis=1)[:, :k]
    assert position.shape == (150, min(k, 331))
    np.testing.assert_allclose(value, np.take_along_axis(cosine, order, axis=1), atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(cosine, position, axis=1), value, atol=1e-5)


def test_a_row_is_not_its_own_neighbour(small_blocks: None) -> None:
    x = rows(331)
    position, value = nearest(ArrayFeatures(x), x, 2, skip=np.arange(331))
    cosine = cosine_similarity(x.astype(np.float64))
    np.fill_diagonal(cosine, -2)
    np.testing.assert_allclose(value[:, 0], cosine.max(axis=1), atol=1e-5)
    assert not (position == np.arange(331)[:, None]).any()
    lonely, nothing = nearest(ArrayFeatures(x[:1]), x[:1], 3, skip=np.array([0]))
    assert (lonely.tolist(), nothing.tolist()) == ([[-1]], [[-np.inf]])


def reencoded(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue()))


@pytest.mark.slow
def test_a_copy_saved_again_and_a_shifted_crop_are_near_duplicates(tmp_path: Path) -> None:
    from cached import extract

    from featx.config import DataOptions, FeaturesOptions
    from featx.dataset import read_images

    folder = tmp_path / "images"
    folder.mkdir()
    china, flower = (Image.fromarray(one) for one in load_sample_images().images)
    for number, (left, top) in enumerate(itertools.product((0, 200, 400), (0, 200))):
        china.crop((left, top, left + 200, top + 200)).save(folder / f"c{number}.png")
        flower.crop((left, top, left + 200, top + 200)).save(folder / f"f{number}.png")
    reencoded(Image.open(folder / "c3.png"), 95).save(folder / "c3-again.png")
    flower.crop((203, 202, 403, 402)).save(folder / "f3-shifted.png")
    images = read_images(str(folder), DataOptions())
    done = extract(images, FeaturesOptions(cache=str(tmp_path / "cache")))
    found = find_near_duplicates(done.features(done.outputs[0], np.arange(len(images))), np.zeros(len(images)))
    names = [Path(path).stem for path in images.paths]
    pairs = {frozenset((names[i], names[j])) for i, j in zip(found.first, found.second, strict=True)}
    assert pairs == {frozenset(("c3", "c3-again")), frozenset(("f3", "f3-shifted"))}


# --- outliers ----------------------------------------------------------------------------------------------------


def test_what_is_unlike_its_class_is_an_outlier() -> None:
    random = np.random.default_rng(0)
    centres = np.eye(4, dtype=np.float32)
    y = np.repeat([0, 1], [60, 40])
    x = random.normal(0, 0.1, (100, 4)).astype(np.float32)
    x[:60] += np.repeat(centres[:2], 30, axis=0)  # a class of two kinds of image
    x[60:] += centres[2]
    x[70] = centres[3]
    x[5] = centres[2]  # which is where the other class is
    found = find_outliers(ArrayFeatures(x), y)
    assert set(found.rows.tolist()) == {5, 70}
    assert (np.diff(found.score) <= 0).all()
    for row, distance, score in zip(found.rows, found.distance, found.score, strict=True):
        mine = x[y == y[row]].astype(np.float64)
        distances = np.sort(cosine_distances(mine), axis=1)[:, 1:6].mean(axis=1)
        values = np.log(distances)
        place = np.flatnonzero(np.flatnonzero(y == y[row]) == row)[0]
        assert distance == pytest.approx(distances[place], abs=1e-5)
        expected = (values[place] - np.median(values)) / median_abs_deviation(values, scale="normal")
        assert score == pytest.approx(expected, rel=1e-2)


def test_small_classes_and_equal_images_have_no_outliers() -> None:
    x = rows(9)
    x[8] = -100 * x[:8].mean(axis=0)
    assert len(find_outliers(ArrayFeatures(x), np.zeros(9, np.int64))) == 0
    assert len(find_outliers(ArrayFeatures(np.ones((30, 3), np.float32)), np.zeros(30, np.int64))) == 0
    assert robust_scores(np.array([1.0, 1, 1, 9])).tolist() == [0, 0, 0, 0]


def test_columns_of_the_csv_are_read_back(tmp_path: Path) -> None:
    from featx.dataset.label_rows import LabelRow, read_labels

    with open(tmp_path / "a.csv", "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=";").writerows([["label", "path"], ["cat", "x, y.png"], ["dog", ""]])
    assert read_labels(str(tmp_path / "a.csv")) == [LabelRow(2, "x, y.png", "cat")]
