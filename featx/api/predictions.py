"""The images that a model is asked about, and its answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, overload

import numpy as np
from PIL import Image

from featx.dataset.memory import images_in_memory, several
from featx.inference.predict import Prediction, Unread, find_files

Images = str | Path | Sequence[str | Path | bytes | np.ndarray | Image.Image] | np.ndarray
"""A file or folder; files; an array uint8 (n, height, width, 3) of RGB; such arrays or Pillow's images"""


class SetKeywords(TypedDict, total=False):
    """The keywords of sets of classes.

    coverage : the share of images whose set holds the truth, in (0, 1); per_class : whether it holds for each class
    """

    coverage: float | None
    per_class: bool


@dataclass(frozen=True)
class Predictions(Sequence[Prediction | Unread]):
    """An answer for every image, in the order of the images.

    answers : a `Prediction` (path, label, confidence, top) each, or an `Unread` (path, reason)
    """

    answers: tuple[Prediction | Unread, ...]

    def __len__(self) -> int:
        return len(self.answers)

    @overload
    def __getitem__(self, row: int) -> Prediction | Unread: ...

    @overload
    def __getitem__(self, row: slice) -> tuple[Prediction | Unread, ...]: ...

    def __getitem__(self, row: int | slice) -> Prediction | Unread | tuple[Prediction | Unread, ...]:
        return self.answers[row]

    def __iter__(self) -> Iterator[Prediction | Unread]:
        return iter(self.answers)

    @property
    def labels(self) -> np.ndarray:
        """The likeliest class of each image: object (n,), None where it cannot be read.

        Of a model that gives several labels, a tuple of them.
        """
        found = np.empty(len(self), dtype=object)
        for row, one in enumerate(self.answers):
            if isinstance(one, Prediction):
                found[row] = one.label if one.labels is None else one.labels
        return found

    @property
    def confidence(self) -> np.ndarray:
        """That of the likeliest class of each image: float64 (n,), in [0, 1]; NaN where it cannot be read."""
        return np.array([one.confidence if isinstance(one, Prediction) else np.nan for one in self.answers])

    @property
    def bad(self) -> list[Unread]:
        """The images that cannot be read, with the reason."""
        return [one for one in self.answers if isinstance(one, Unread)]


def sources_of(images: Images) -> Sequence[str | Path | bytes]:
    """What to decode, one source for each answer."""
    if isinstance(images, str | Path):
        return find_files([images])
    given = several(images)
    if isinstance(given, list) and given and all(isinstance(one, str | Path | bytes) for one in given):
        return given
    return images_in_memory(given).sources
