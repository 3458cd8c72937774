"""Check a data set: decode every file in full, find duplicates, conflicting labels and copies across the split."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from featx.dataset.class_names import describe_alike
from featx.dataset.digests import conflicts, digest_images, ignore_progress, list_equal
from featx.dataset.imageset import NONE, SPLITS, ImageSet
from featx.errors import DataError
from featx.images.batches import decoding_threads
from featx.images.decoder import decode, decoder_version
from featx.images.depth import bits_used, describe_dark, describe_levels
from featx.images.fault import BadImage, DamagedScan
from featx.images.levels import FULL
from featx.io.counting import enumerated, none_of
from featx.io.digest_arrays import NO_DIGEST, has_digest
from featx.io.index import StatIndex
from featx.io.urls import is_url

_SCANS = " scans"  # under which damaged scans are remembered, which other stages read as far as they go
_NAMED = 5  # classes that a sentence names
_CHUNK = 256  # images decoded before what is known of them is written down


@dataclass(frozen=True)
class Check:
    """What was found in a set.

    Attributes
    ----------
    images : how many there are
    readable : how many of them could be decoded in full
    unreadable : {"path", "reason"} of the others
    duplicates : paths of the same bytes, one list for each such image
    conflicts : {"paths", "labels"} of the same bytes under different labels; left out of fitting and evaluation
    straddling : {"paths", "splits"} of the same bytes, or of one group, in different declared splits
    classes : readable images of every class
    notes : what was left aside when the set was read
    judged : how many images have a label that was corrected, or confirmed by a person: {"corrected", "confirmed"}
    """

    images: int
    readable: int
    unreadable: list[dict[str, str]]
    duplicates: list[list[str]]
    conflicts: list[dict[str, list[str]]]
    straddling: list[dict[str, list[str]]]
    classes: dict[str, int]
    notes: tuple[str, ...]
    judged: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The same as a JSON object, as `featx check --json` prints it."""
        return {{"unreadable": "bad"}.get(name, name): value for name, value in asdict(self).items()} | {
            "notes": list(self.notes)
        }


def check_images(
    images: ImageSet,
    index: StatIndex,
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
    levels: str = FULL,
) -> Check:
    """Decode every image in full, in threads, and compare contents, labels and declared splits.

    Equal files are decoded once, and those that this decoder is known to fail on not again.

    Parameters
    ----------
    images : the set
    index : what is remembered of files
    workers : decoding threads; 0: one per core, and more where images lie on URLs
    progress : called with the number of images done so far
    levels : which values of deep files are black and white, for the notes
    """
    found = digest_images(images.paths, index)
    digests, unreadable = found.digest, dict(found.bad)
    reasons, used = _decode_all(images, digests, index, workers, progress)
    for row, digest in enumerate(digests.tolist()):
        if row not in unreadable and digest in reasons:
            unreadable[row] = reasons[digest]
    readable = np.ones(len(images), bool)
    readable[list(unreadable)] = False
    good = np.flatnonzero(readable)
    paths = images.paths
    return Check(
        images=len(images),
        readable=len(good),
        unreadable=[{"path": paths[row], "reason": unreadable[row]} for row in sorted(unreadable)],
        duplicates=[[paths[row] for row in rows] for rows in list_equal(digests, good)],
        conflicts=[
            {"paths": [paths[row] for row in rows], "labels": ["; ".join(images.label_names(row)) for row in rows]}
            for rows in conflicts(images, np.where(readable, digests, NO_DIGEST))
        ],
        straddling=_straddling(images, digests, good),
        classes=count_classes(images, readable),
        notes=(
            *images.notes,
            *describe_alike(images.classes),
            *filter(None, [describe_dark(used) if levels == FULL else describe_levels(levels)]),
        ),
    )


def require_readable(images: ImageSet, readable: np.ndarray) -> None:
    """Refuse a set of which no image can be read. readable : bool (n,), which images could be"""
    if not readable.any():
        raise DataError(
            f"{none_of(len(images), 'image')} of {images.source} can be read. featx check {images.source} says why of "
            "each."
        )


def require_usable(images: ImageSet, readable: np.ndarray) -> None:
    """Refuse a set that nothing can be fitted on: fitting needs images of every class.

    Parameters
    ----------
    images : the set
    readable : bool (n,), which images could be read

    Raises
    ------
    DataError
        When all images are bad, or when a class is left without a readable image; it is named.
    """
    require_readable(images, readable)
    empty = _empty_classes(images, readable)
    if empty:
        others = f" (and {len(empty) - 1} more: {', '.join(empty[1 : 1 + _NAMED])})" if len(empty) > 1 else ""
        raise DataError(
            f"In {images.source}, the class {empty[0]!r}{others} has no readable image. Add images, remove the class, "
            f"or see what is wrong with its files: featx check {images.source}"
        )


def note_empty_classes(images: ImageSet, readable: np.ndarray) -> tuple[str, ...]:
    """A sentence on the classes without a readable image, where there are any: only fitting needs every class."""
    empty = _empty_classes(images, readable)
    if not empty:
        return ()
    return (f"No readable image of {enumerated(empty, _NAMED)}. Fitting a head needs images of every class.",)


def _empty_classes(images: ImageSet, readable: np.ndarray) -> list[str]:
    return [name for name, count in count_classes(images, readable).items() if count == 0]


def count_classes(images: ImageSet, readable: np.ndarray) -> dict[str, int]:
    """Readable images of every class."""
    if images.labels is None:
        return {}
    labels = images.labels[readable]
    if images.multilabel:
        counts = labels.sum(axis=0)
    else:
        counts = np.bincount(labels[labels >= 0], minlength=len(images.classes))
    return {name: int(count) for name, count in zip(images.classes, counts, strict=True)}


def _decode_all(
    images: ImageSet, digests: np.ndarray, index: StatIndex, workers: int, progress: Callable[[int], None] | None
) -> tuple[dict[bytes, str], list[int]]:
    """Reason by digest of every image that cannot be decoded, and what `bits_used` finds of the others."""
    decoder = decoder_version()
    known = index.known_unreadable(f"{decoder}{_SCANS}") | index.known_unreadable(decoder)
    there = np.flatnonzero(has_digest(digests))
    first = dict(zip(digests[there[::-1]].tolist(), there[::-1].tolist(), strict=True))
    reasons = {digest: known[digest] for digest in first if digest in known}
    rows = sorted(row for digest, row in first.items() if digest not in known)
    report = progress or ignore_progress
    used: list[int] = []
    done = len(images) - len(rows)
    report(done)
    with ThreadPoolExecutor(workers or decoding_threads(images.paths), thread_name_prefix="featx-check") as pool:
        for start in range(0, len(rows), _CHUNK):
            some = rows[start : start + _CHUNK]
            found = list(pool.map(_try_to_decode, (images.paths[row] for row in some)))
            faults = [one if isinstance(one, BadImage) else None for one in found]
            used += [one for one in found if not isinstance(one, BadImage)]
            new = [
                (digests[row].tobytes(), fault) for row, fault in zip(some, faults, strict=True) if fault is not None
            ]
            reasons.update((digest, fault.reason) for digest, fault in new)
            lasting = [(digest, fault) for digest, fault in new if not fault.transient]
            for kind, ending in ((BadImage, ""), (DamagedScan, _SCANS)):
                index.remember_unreadable(
                    f"{decoder}{ending}", [(digest, fault.reason) for digest, fault in lasting if type(fault) is kind]
                )
            done += len(some)
            report(done)
    return reasons, used


def _try_to_decode(path: str) -> BadImage | int:
    """What `bits_used` finds of an image, or why it cannot be decoded."""
    try:
        image = decode(path)
    except BadImage as fault:
        return fault
    return 0 if is_url(path) else bits_used(path, image)


def _straddling(images: ImageSet, digests: np.ndarray, rows: np.ndarray) -> list[dict[str, list[str]]]:
    if images.declared is None:
        return []
    rows = rows[images.declared[rows] != NONE]
    together = list_equal(digests, rows)
    if images.groups is not None:
        groups = np.unique(np.array(images.groups, dtype=object), return_inverse=True)[1]
        grouped = np.array([bool(images.groups[row]) for row in rows], bool)
        together += list_equal(groups, rows[grouped])
    found = []
    for some in together:
        splits = images.declared[some]
        if splits.min() != splits.max():
            found.append({"paths": [images.paths[row] for row in some], "splits": [SPLITS[split] for split in splits]})
    return found
