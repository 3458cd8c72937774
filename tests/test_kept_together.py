"""Groups are kept together in every part and every fold, and an image without a group stands alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import call, write_pictures

from featx.config import DataOptions
from featx.dataset import NONE, TEST, TRAIN, VAL, ImageSet, read_images
from featx.dataset.class_names import describe_alike
from featx.dataset.split import split_in_order
from featx.errors import DataError, UsageError
from featx.extraction.sample import Sample
from featx.features import ArrayFeatures
from featx.io.digests import digest_bytes
from featx.quality.label_errors import out_of_fold_probabilities
from featx.runs.split import KeptSplit
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


# --- a split that was kept before its groups were known ----------------------------------------------------------


def objects(count: int = 150, shots: int = 4) -> tuple[ImageSet, np.ndarray]:
    """Objects with several images of each, and labels by chance."""
    labels = np.random.default_rng(0).integers(0, 2, count).repeat(shots)
    return make_set(labels, tuple(f"object {row // shots}" for row in range(count * shots)))


def torn(images: ImageSet, split: np.ndarray) -> set[str]:
    """By hand: the groups with images in more than one part."""
    parts: dict[str, set[int]] = {}
    for name, part in zip(images.groups or (), split.tolist(), strict=True):
        parts.setdefault(name, set()).add(part)
    return {name for name, found in parts.items() if len(found) > 1}


def test_a_kept_split_does_not_tear_groups_that_are_known_later(tmp_path: Path) -> None:
    images, digests = objects()
    readable, kept = np.ones(len(images), bool), KeptSplit(tmp_path / "run" / "split")
    before = kept.sample(replace(images, groups=None), digests, readable, DataOptions())
    apart = torn(images, before.split)
    assert len(apart) > 50
    now = kept.sample(images, digests, readable, DataOptions())
    assert torn(images, now.split) == set()
    whole = np.array([name not in apart for name in images.groups or ()])
    np.testing.assert_array_equal(now.split[whole], before.split[whole])
    shares = np.bincount(now.split, minlength=3) / len(images)
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.02)
    moved = int((now.split != before.split).sum())
    (note,) = now.notes
    assert note == (
        f"{moved} images are in another part than in earlier runs of run, so that no group is torn apart: the bundles "
        "there were measured on other images."
    )
    again = kept.sample(images, digests, readable, DataOptions())
    np.testing.assert_array_equal(again.split, now.split)
    assert again.notes == ()


def test_a_run_whose_split_holds_none_of_the_images_is_named(tmp_path: Path) -> None:
    images, digests = make_set(np.arange(40) % 2, None)
    kept, readable = KeptSplit(tmp_path / "flowers" / "split"), np.ones(40, bool)
    assert kept.sample(images, digests, readable, DataOptions()).notes == ()
    others = digests.copy()
    others[:39] = make_set(np.arange(100) % 2, None)[1][60:99]
    assert set(digests.tolist()) & set(others.tolist()) == {digests[39].tobytes()}
    assert kept.sample(images, others, readable, DataOptions()).notes == ()  # one of them is known
    strangers = make_set(np.arange(200) % 2, None)[1][120:160]
    (note,) = kept.sample(images, strangers, readable, DataOptions()).notes
    assert note == (
        f"None of these images is among those of earlier runs in {tmp_path / 'flowers'}: if they are another data set "
        "of the same name, keep the results apart with --name."
    )


def test_where_test_is_declared_only_val_is_placed_anew(tmp_path: Path) -> None:
    images, digests = objects()
    declared = np.where(np.arange(600) // 4 < 120, TRAIN, TEST).astype(np.uint8)
    images, readable, kept = replace(images, declared=declared), np.ones(600, bool), KeptSplit(tmp_path / "split")
    before = kept.sample(replace(images, groups=None), digests, readable, DataOptions()).split
    assert torn(images, before)
    now = kept.sample(images, digests, readable, DataOptions()).split
    assert torn(images, now) == set()
    np.testing.assert_array_equal(now == TEST, declared == TEST)
    assert 0.08 < (now == VAL).sum() / 480 < 0.14


def test_a_group_that_the_data_itself_declares_apart_stays(tmp_path: Path) -> None:
    images, digests = objects(30)
    declared = np.resize(np.array([TRAIN, TRAIN, VAL, TEST], np.uint8), 120)
    images = replace(images, declared=declared)
    found = KeptSplit(tmp_path / "split").sample(images, digests, np.ones(120, bool), DataOptions())
    np.testing.assert_array_equal(found.split, declared)


# --- what is measured on less than one thinks --------------------------------------------------------------------


def notes_of(tmp_path: Path, images: ImageSet, digests: np.ndarray, **options: Any) -> tuple[str, ...]:
    kept = KeptSplit(tmp_path / "split")
    return kept.sample(images, digests, np.ones(len(images), bool), DataOptions(**options)).notes


def test_a_declared_part_that_shrinks_is_reported(tmp_path: Path) -> None:
    images, digests = make_set(np.arange(44) % 2, None)
    declared = np.array([TRAIN] * 20 + [TEST] * 20 + [VAL] * 4, np.uint8)
    digests[20:36] = digests[:16]  # in test as well
    digests[40:] = digests[:4]
    *lost, missing = notes_of(tmp_path, replace(images, declared=declared), digests)
    assert lost == [
        "Only 0 of 4 different images declared as val are measured: 4 are in train as well. See featx check.",
        "Only 4 of 20 different images declared as test are measured: 16 are in train as well. See featx check.",
    ]
    assert missing.startswith("There is no val image, so choices are made by folds of train")


def test_where_the_data_declares_every_part_no_other_share_is_advised(tmp_path: Path) -> None:
    images, digests = make_set(np.arange(40) % 2, None)
    (note,) = notes_of(tmp_path / "none", replace(images, declared=np.full(40, TRAIN, np.uint8)), digests)
    assert note.endswith("folds of train measure it. The data declares the part of every image: declare val and test.")
    declared = np.array([TRAIN] * 30 + [VAL] * 10, np.uint8)
    (note,) = notes_of(tmp_path / "test", replace(images, declared=declared), digests)
    assert note.endswith("Declare some images as test.")


def test_where_nothing_is_measured_that_is_said(tmp_path: Path) -> None:
    (note,) = notes_of(tmp_path, *make_set(np.arange(5), None))
    assert note.startswith("There is no val and no test image, so nothing is measured, and confidence means nothing.")
    (note,) = notes_of(tmp_path / "folds", *make_set(np.arange(40) % 2, None), split=(1.0, 0.0, 0.0))
    assert note.startswith("There is no val and no test image, so only folds of train measure it.")
    (note,) = notes_of(tmp_path / "two", *make_set(np.arange(10) % 5, None))
    assert note.startswith("There is no val image")
    assert notes_of(tmp_path / "none", *make_set(np.arange(40) % 2, None), split=(0.5, 0.5, 0.0)) == ()


def test_classes_that_no_part_measures_are_named(tmp_path: Path) -> None:
    labels = np.repeat([0, 1], 30)
    images, digests = make_set(np.append(labels, 2), None)
    name = images.classes[2]
    alone = f"The class {name} has no image in val or test: it is not measured."
    assert notes_of(tmp_path, images, digests) == (alone,)
    many, more = make_set(np.concatenate([labels, np.arange(2, 9)]), None)
    (note,) = notes_of(tmp_path / "many", many, more)
    names = ", ".join(many.classes[2:7])
    assert note == f"The classes {names} and 2 more have no image in val or test: they are not measured."
    declared = np.append(np.tile([TRAIN, VAL, TEST], 20), TRAIN).astype(np.uint8)
    images, digests = make_set(np.append(labels, [2, 2]), None)
    images = replace(images, declared=np.append(declared, VAL).astype(np.uint8))
    assert notes_of(tmp_path / "declared", images, digests) == (
        f"The class {name} has no image in test: it is not measured there.",
    )
    marked = replace(images, labels=np.eye(3, dtype=bool)[images.labels])
    assert notes_of(tmp_path / "marked", marked, digests) == notes_of(tmp_path / "declared", images, digests)
    images, digests = make_set(np.append(labels, 2), None)
    (note,) = notes_of(tmp_path / "val", images, digests, split=(0.5, 0.5, 0.0))
    assert note == f"The class {name} has no image in val: it is not measured."


def test_images_without_a_label_are_counted(tmp_path: Path) -> None:
    images, digests = make_set(np.append(np.arange(60) % 2, [-1, -1, -1]), None)
    assert notes_of(tmp_path, images, digests) == ("3 of 63 images have no label and are left out.",)
    one = images.take(np.arange(61))
    assert notes_of(tmp_path / "one", one, digests[:61]) == ("1 of 61 images has no label and is left out.",)
    several = replace(images, labels=np.eye(3, dtype=bool)[:, :2][images.labels])  # an image may have none of several
    assert notes_of(tmp_path / "several", several, digests) == ()


def test_classes_of_nearly_the_same_name_are_reported(tmp_path: Path) -> None:
    images, digests = make_set(np.arange(60) % 3, None)
    images = replace(images, classes=("Rose", "rose", "tulip"))
    (note,) = notes_of(tmp_path, images, digests)
    assert note == "The classes 'Rose' and 'rose' have nearly the same name. If they are one class, give it one name."
    assert describe_alike(["1", "-1", "2", "10", "1a", "a", "b", "x.y", "xy"]) == []
    (several,) = describe_alike(["01", "1", "1.0", "red oak", "red_oak", "Red  Oak", "A", "a", "B", "b"])
    assert several.startswith(
        "Several classes have nearly the same name ('01', '1' and '1.0'; 'red oak', 'red_oak' and 'Red  Oak'; 'A' and "
        "'a'; and 1 set more)."
    )


def test_equal_files_under_two_labels_are_reported(tmp_path: Path) -> None:
    images, digests = make_set(np.arange(60) % 2, None)
    digests[:6] = digests[[1, 0, 3, 2, 5, 4]]
    digests[1:6:2] = digests[0:6:2]
    (note,) = notes_of(tmp_path, images, digests)
    assert (
        note
        == "6 of 60 files have the bytes of another one under a different label, and are left out. See featx check."
    )
    digests[1::2] = digests[0::2]
    with pytest.raises(
        DataError, match=r"60 of 60 files .* so no image is left to train on\. featx check x lists them"
    ):
        notes_of(tmp_path / "all", images, digests)


def test_a_split_without_shuffling_keeps_the_order(tmp_path: Path) -> None:
    images, digests = make_set(np.arange(20) % 2, None)
    usable = np.ones(20, bool)
    parts = split_in_order(images, digests, usable, DataOptions(split=(0.6, 0.2, 0.2)))
    assert parts.tolist() == [TRAIN] * 12 + [VAL] * 4 + [TEST] * 4
    usable[0] = False
    parts = split_in_order(images, digests, usable, DataOptions(split=(0.5, 0.0, 0.5)))
    assert parts.tolist() == [NONE] + [TRAIN] * 10 + [TEST] * 9
    grouped, digests = make_set(np.arange(10) % 2, ("a", *[""] * 8, "a"))
    parts = split_in_order(grouped, digests, np.ones(10, bool), DataOptions(split=(0.5, 0.0, 0.5)))
    assert parts.tolist() == [TRAIN] * 5 + [TEST] * 4 + [TRAIN]
    with pytest.raises(UsageError, match=r"draws training images by chance"):
        split_in_order(images, digests, usable, DataOptions(max_train=3))
    with pytest.raises(UsageError, match=r"declares its parts"):
        split_in_order(replace(images, declared=np.full(20, TRAIN, np.uint8)), digests, usable, DataOptions())


def test_the_command_splits_a_csv_in_its_order(tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 4)
    files = sorted((tmp_path / "p").rglob("*.png"), key=lambda path: path.name)
    lines = ["path,label", *(f"{path.relative_to(tmp_path)},{path.parent.name}" for path in files)]
    (tmp_path / "index.csv").write_text("\n".join(lines) + "\n")
    done = call("split", "index.csv", "--split", "0.5,0.25,0.25", "--no-shuffle", "--out", "split.csv", cwd=tmp_path)
    assert done.status == 0, done.err
    found = [line.rsplit(",", 1)[1] for line in (tmp_path / "split.csv").read_text().splitlines()[1:]]
    assert found == ["train"] * 6 + ["val"] * 3 + ["test"] * 3
