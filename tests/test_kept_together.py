"""Groups are kept together in every part and every fold, and an image without a group stands alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featx.config import DataOptions
from featx.dataset import NONE, TEST, TRAIN, VAL, ImageSet, read_images
from featx.extraction.sample import Sample
from featx.features import ArrayFeatures
from featx.io.digests import digest_bytes
from featx.quality.label_errors import out_of_fold_probabilities
from featx.selection.folds import make_folds


def make_set(labels: np.ndarray, groups: tuple[str, ...] | None) -> tuple[ImageSet, np.ndarray]:
    names = tuple(f"c{code}" for code in range(int(labels.max()) + 1))
    paths = tuple(f"/{row}.png" for row in range(len(labels)))
    digests = np.array([digest_bytes(path.encode()) for path in paths], "V32")
    return ImageSet("x", "x", paths, labels, names, groups=groups), digests


def together(codes: np.ndarray) -> set[frozenset[int]]:
    """Which rows are of one group."""
    return {frozenset(np.flatnonzero(codes == code).tolist()) for code in codes.tolist()}


def test_a_row_without_a_group_is_one_of_its_own() -> None:
    images, digests = make_set(np.array([0, 1, 0, 1, 0, 1]), ("", "a", "", "a", "b", ""))
    sample = Sample.of(images, digests, np.zeros(6, np.uint8))
    assert sample.groups is not None
    assert together(sample.groups) == {
        frozenset({0}),
        frozenset({2}),
        frozenset({5}),
        frozenset({1, 3}),
        frozenset({4}),
    }


def test_groups_that_share_an_image_are_one() -> None:
    images, digests = make_set(np.array([0, 0, 0, 0, 1, 1]), ("", "a", "b", "a", "b", "c"))
    digests[0] = digests[1]  # a copy without a group, listed first
    digests[2] = digests[3]  # in a and in b
    sample = Sample.of(images, digests, np.zeros(6, np.uint8))
    assert sample.rows.tolist() == [0, 2, 4, 5]
    assert sample.groups is not None
    assert together(sample.groups) == {frozenset({0, 1, 2}), frozenset({3})}


def test_groups_that_all_images_have_keep_their_numbers() -> None:
    """They are part of the fingerprint of bundles that were made before."""
    names = ("w", "u", "u", "v", "w", "v")
    images, digests = make_set(np.array([0, 1, 0, 1, 0, 1]), names)
    sample = Sample.of(images, digests, np.array([TRAIN, NONE, VAL, TEST, TRAIN, TRAIN], np.uint8))
    assert sample.groups is not None
    assert sample.groups.tolist() == [2, 0, 1, 2, 1]


def test_images_without_a_group_are_spread_over_the_folds() -> None:
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 100)
    x = (np.eye(3)[y] * 3 + random.normal(size=(300, 3))).astype(np.float32)
    groups = tuple("" if row % 3 else f"g{row // 6}" for row in range(300))
    images, digests = make_set(y, groups)
    sample = Sample.of(images, digests, np.zeros(300, np.uint8))
    test_fold = make_folds(sample.y, sample.groups, 5, 0)
    assert np.bincount(test_fold).min() > 50
    found, alone = (out_of_fold_probabilities(ArrayFeatures(x), y, some) for some in (sample.groups, None))
    right, expected = ((p.argmax(axis=1) == y).mean() for p in (found, alone))
    assert abs(right - expected) < 0.02


def test_an_empty_column_of_groups_is_none_at_all(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("path,label,patient\na.png,x,\nb.png,y, \n")
    images = read_images(tmp_path / "index.csv", DataOptions(group_column="patient"))
    assert images.groups is None
    assert images.notes == ("The column 'patient' is empty, so no images are kept together",)
