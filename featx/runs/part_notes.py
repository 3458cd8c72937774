"""Notes on the parts of a split that affect what the figures mean, a sentence each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.config import DataOptions
from featx.dataset import NONE, SPLITS, TEST, TRAIN, VAL, ImageSet, conflicts
from featx.errors import DataError
from featx.io.counting import agreeing, counted, counted_of, enumerated
from featx.io.digest_arrays import has_digest

if TYPE_CHECKING:
    from featx.extraction.sample import Sample

_NAMED = 5  # classes that a sentence names
_WITHOUT = {
    "val": "choices are made by folds of train, and fine-tuning has nothing to choose an epoch by",
    "test": "nothing is measured but what the choices were made by",
}


def describe_moved(moved: int, images: ImageSet, run: str) -> list[str]:
    """A sentence where images, so many, are in another part than in earlier runs."""
    if not moved:
        return []
    why = "since the data declares it" if images.groups is None else "so that no group is torn apart"
    text = f"{counted(moved, 'image is', 'images are')} in another part than in earlier runs of {run}, {why}"
    return [f"{text}: the bundles there were measured on other images."]


def describe_strange(strange: bool, run: Path) -> list[str]:
    """A sentence where a run has results of other images alone: of another data set that has the same name."""
    if not strange:
        return []
    text = f"None of these images is among those of earlier runs in {run}"
    return [f"{text}: if they are another data set of the same name, keep the results apart with --name."]


def describe_conflicts(images: ImageSet, digests: np.ndarray, sample: Sample) -> list[str]:
    """A sentence where equal files have different labels and are left out.

    digests : V32 (n,) of the images, `NO_DIGEST` where they cannot be read

    Raises
    ------
    DataError
        Nothing else is there.
    """
    count = sum(map(len, conflicts(images, digests)))
    if not count:
        return []
    what = (
        f"{counted_of(count, len(images), 'file')} {agreeing(count, 'has', 'have')} the bytes of another one under a "
        "different label"
    )
    if not len(sample.rows):
        raise DataError(f"{what}, so no image is left to train on. featx check {images.source} lists them.")
    return [f"{what}, and {agreeing(count, 'is', 'are')} left out. See featx check."]


def describe_unlabelled(images: ImageSet) -> list[str]:
    """A sentence where images have no label, and are left out; of a set with several labels an image may have none."""
    if images.labels is None or images.multilabel or not (count := int((images.labels < 0).sum())):
        return []
    have = agreeing(count, "has no label and is", "have no label and are")
    return [f"{counted_of(count, len(images), 'image')} {have} left out."]


def describe_lost(images: ImageSet, digests: np.ndarray, sample: Sample) -> list[str]:
    """A sentence for val and for test where fewer images are measured than the data declares.

    digests : V32 (n,) of the images, `NO_DIGEST` where they cannot be read
    """
    if images.declared is None:
        return []
    found, trained = [], sample.digests[sample.split == TRAIN]
    for code in (VAL, TEST):
        declared = np.unique(digests[(images.declared == code) & has_digest(digests)])
        lost = np.setdiff1d(declared, sample.digests[sample.split == code])
        if len(lost):
            also = int(np.isin(lost, trained).sum())
            reasons = [
                f"{counted(also, 'is', 'are')} in train as well" if also else "",
                f"{counted(len(lost) - also, 'has', 'have')} another label elsewhere, or none"
                if len(lost) > also
                else "",
            ]
            left = (
                f"{counted_of(len(declared) - len(lost), len(declared), 'different image')} declared as {SPLITS[code]}"
            )
            found.append(
                f"Only {left} {agreeing(len(declared) - len(lost), 'is', 'are')} measured: "
                f"{' and '.join(filter(None, reasons))}. See featx check."
            )
    return found


def describe_torn(images: ImageSet, sample: Sample) -> list[str]:
    """A sentence where the data itself declares images of a group in several parts."""
    if images.declared is None or sample.groups is None:
        return []
    pairs = np.unique(np.stack([sample.groups, sample.split.astype(np.int64)]), axis=1)[0]
    torn = int((np.unique(pairs, return_counts=True)[1] > 1).sum())
    if not torn:
        return []
    return [
        (
            f"{counted(torn, 'group has', 'groups have')} images in several parts that the data declares: val and test "
            "flatter what is fitted."
        )
    ]


def describe_unused_shares(sample: Sample, options: DataOptions) -> list[str]:
    """A sentence where shares of the split were asked for, and the data declares the part of every image."""
    declared = sample.images.declared
    if declared is None or options.split == DataOptions.split or not _declares_all(sample):
        return []
    if not all((declared[sample.rows] == code).any() for code in (VAL, TEST)):
        return []
    return ["--split changes nothing: the data declares the part of every image."]


def _declares_all(sample: Sample) -> bool:
    """Whether the data declares the part of every image of a sample, so that none can be drawn."""
    declared = sample.images.declared
    return declared is not None and not (declared[sample.rows] == NONE).any()


def describe_missing(sample: Sample, options: DataOptions) -> list[str]:
    """A sentence where there is nothing to measure on val or on test, though there should be."""
    counts, wanted = sample.counts(), dict(zip(SPLITS, options.split, strict=True))
    declared = _declares_all(sample)
    if not counts["val"] and not counts["test"]:
        meaning = (
            "only folds of train measure it"
            if _has_folds(sample)
            else "nothing is measured, and confidence means nothing"
        )
        text = f"There is no val and no test image, so {meaning}"
        if declared:
            return [f"{text}. The data declares the part of every image: declare val and test."]
        return [f"{text}. Add images (a class has one in test from 2 on, in val from 3 on), or see --split."]
    return [
        f"There is no {part} image, so {meaning}. "
        + (f"Declare some images as {part}." if declared else "Add images, or see --split.")
        for part, meaning in _WITHOUT.items()
        if not counts[part] and wanted[part]
    ]


def describe_unmeasured(sample: Sample) -> list[str]:
    """A sentence where classes are trained on, and test has no image of them; without a test part, val."""
    parts = [code for code in (VAL, TEST) if (sample.split == code).any()]
    if not parts:
        return []
    there = {code: _classes_in(sample, code) for code in (TRAIN, *parts)}
    lost = np.flatnonzero(there[TRAIN] & ~there[parts[-1]])
    if not len(lost):
        return []
    nowhere = not any(there[code][lost].any() for code in parts)
    where = " or ".join(SPLITS[code] for code in (parts if nowhere else parts[-1:]))
    names = [sample.images.classes[code] for code in lost.tolist()]
    have = agreeing(len(lost), "class {} has", "classes {} have").format(enumerated(names, _NAMED))
    they = agreeing(len(lost), "it is", "they are")
    return [f"The {have} no image in {where}: {they} not measured{'' if nowhere else ' there'}."]


def _classes_in(sample: Sample, code: int) -> np.ndarray:
    """Which classes have an image in a part: bool (classes,)."""
    labels = sample.y[sample.split == code]
    return labels.any(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=len(sample.images.classes)) > 0


def _has_folds(sample: Sample) -> bool:
    """Whether a class has two images to train on, one of which can be left out of a fit."""
    trained = sample.y[sample.split == TRAIN]
    counts = trained.sum(axis=0) if trained.ndim == 2 else np.bincount(trained)
    return len(trained) > 1 and bool(counts.max() > 1)
