"""Images, their labels and everything else declared about them, in one order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from featx.errors import DataError
from featx.io.compact import Paths
from featx.io.counting import agreeing

TRAIN, VAL, TEST, NONE = 0, 1, 2, 3
SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "validate": VAL,
    "dev": VAL,
    "test": TEST,
    "testing": TEST,
}


@dataclass(frozen=True)
class ImageSet:
    """Images and what is known of each, in one order.

    Attributes
    ----------
    source : as the user gave it
    name : of the data: the folder's name or the stem of the CSV
    paths : absolute paths, or URLs; a tuple, or the same in less memory
    labels : int64 (n,), positions in `classes`, -1 where there is no label; bool (n, classes) for a multi-label set;
        None where nothing has a label
    classes : names
    declared : uint8 (n,), the split that the data itself declares, TRAIN, VAL, TEST or NONE; None if it declares none
    groups : of each image, "" for none; images of a group are never split apart; grouped_by : what they are, in a word
    weights : float64 (n,), of samples in fitting
    notes : what was left aside, and why
    contents : of images in memory: the files that they would be (`featx.dataset.memory`); `paths` then only name them
    """

    source: str
    name: str
    paths: Sequence[str]
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    declared: np.ndarray | None = None
    groups: tuple[str, ...] | None = None
    weights: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    contents: Sequence[bytes] | None = None
    grouped_by: str | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def multilabel(self) -> bool:
        """Whether an image can have several labels."""
        return self.labels is not None and self.labels.ndim == 2

    @property
    def can_be_split(self) -> bool:
        """Whether there are labels to split by: of two classes or more."""
        return self.labels is not None and len(self.classes) > 1

    @property
    def sources(self) -> Sequence[str | Path | bytes]:
        """What to decode of each image: its path, or its content where it is in memory."""
        return self.paths if self.contents is None else self.contents

    def take(self, rows: np.ndarray) -> ImageSet:
        """The images at these positions (or, where `rows` is bool, the marked ones), in this order."""
        rows = np.arange(len(self))[rows]
        return replace(
            self,
            paths=self.paths.take(rows) if isinstance(self.paths, Paths) else tuple(self.paths[row] for row in rows),
            labels=None if self.labels is None else self.labels[rows],
            declared=None if self.declared is None else self.declared[rows],
            groups=None if self.groups is None else tuple(self.groups[row] for row in rows),
            weights=None if self.weights is None else self.weights[rows],
            contents=None if self.contents is None else [self.contents[row] for row in rows],
        )

    def label_names(self, row: int) -> tuple[str, ...]:
        """The labels of one image: one, none, or, in a multi-label set, several."""
        if self.labels is None:
            return ()
        if self.multilabel:
            return tuple(self.classes[code] for code in np.flatnonzero(self.labels[row]))
        return (self.classes[self.labels[row]],) if self.labels[row] >= 0 else ()


def choose_classes(found: Iterable[str], wanted: Sequence[str] | None, source: str) -> tuple[str, ...]:
    """The classes in their order: as wanted where that is given, else alphanumeric as in Keras."""
    names = sorted(set(found))
    if wanted is None:
        return tuple(names)
    unknown = [name for name in names if name not in set(wanted)]
    if unknown:
        raise DataError(
            f"{source} has the label {unknown[0]!r}, which is not among the classes given: {', '.join(wanted)}."
            + (
                f" Nor {agreeing(len(unknown) - 1, 'is another label', f'are {len(unknown) - 1:,} others')}."
                if len(unknown) > 1
                else ""
            )
        )
    if len(set(wanted)) != len(wanted):
        raise DataError(f"The classes given name one twice: {', '.join(wanted)}.")
    return tuple(wanted)
