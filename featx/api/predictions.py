"""The images given to a model, and its predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, overload

import numpy as np
from PIL import Image

from featx.api.frames import import_pandas
from featx.dataset.memory import images_in_memory, several
from featx.errors import DataError
from featx.inference.predict import Prediction, Unread, find_files
from featx.io.counting import counted
from featx.io.notebook import table_html

Images = str | Path | Sequence[str | Path | bytes | np.ndarray | Image.Image] | np.ndarray
"""A file or folder; files; an array uint8 (n, height, width, 3) of RGB; such arrays or Pillow's images"""


_HEADINGS = ("path", "label", "confidence", "likeliest classes")
Cell = str | float | bool | tuple[str, ...]
"""What stands in a column of `to_pandas`"""
_ASKED = ("labels", "unknown", "distance", "set")  # of a prediction, where they were asked for
_NAMED = 5  # classes, in the one line of a repr


class SetKeywords(TypedDict, total=False):
    """The keywords of prediction sets.

    coverage : the share of images whose set holds the truth, in (0, 1); per_class : whether it holds for each class
    """

    coverage: float | None
    per_class: bool


class PredictKeywords(SetKeywords, total=False):
    """Further keywords of `Model.predict`.

    cache : folder of a cache, from which the features of its images are read
    """

    cache: str | Path | None


@dataclass(frozen=True)
class Predictions(Sequence[Prediction | Unread]):
    """The predictions, one for every image, in the order of the images.

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
        """The most likely class of each image: object (n,), None for unreadable ones.

        A tuple for models with several labels per image.
        """
        found = np.empty(len(self), dtype=object)
        for row, one in enumerate(self.answers):
            if isinstance(one, Prediction):
                found[row] = one.label if one.labels is None else one.labels
        return found

    @property
    def confidence(self) -> np.ndarray:
        """The confidence of each label: float64 (n,), in [0, 1]; NaN for unreadable images."""
        return np.array([one.confidence if isinstance(one, Prediction) else np.nan for one in self.answers])

    def __repr__(self) -> str:
        return f"<featx.Predictions: {self._summary}>"

    def _repr_html_(self) -> str:
        return table_html(f"Predictions: {self._summary}", _HEADINGS, map(_cells, self.answers), len(self))

    @property
    def _summary(self) -> str:
        found = Counter(one.label for one in self.answers if isinstance(one, Prediction))
        parts = [f"{count:,} {label}" for label, count in found.most_common(_NAMED)]
        parts += [counted(len(found) - _NAMED, "more class", "more classes")] if len(found) > _NAMED else []
        parts += [f"{len(self.bad):,} that cannot be read"] if self.bad else []
        return counted(len(self), "image") + (f", {', '.join(parts)}" if parts else "")

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with a row for every image, in their order.

        Columns: path, label, confidence in [0, 1]; `top_1`, `top_1_confidence` and so on of the requested
        classes; labels (tuples) for models with several; unknown, distance and set if requested; reason for unreadable
        images, which have nothing else.

        Raises
        ------
        FeatxError
            pandas is not installed.
        """
        return import_pandas().DataFrame([_row(one) for one in self.answers])

    @property
    def bad(self) -> list[Unread]:
        """The unreadable images, with the reason."""
        return [one for one in self.answers if isinstance(one, Unread)]


def _row(answer: Prediction | Unread) -> Mapping[str, Cell]:
    """The columns of an answer in a table."""
    if isinstance(answer, Unread):
        return {"path": answer.path, "reason": answer.reason}
    top: dict[str, Cell] = {
        f"top_{place}{ending}": value
        for place, one in enumerate(answer.top, start=1)
        for ending, value in (("", one.label), ("_confidence", one.confidence))
    }
    more = {name: getattr(answer, name) for name in _ASKED if getattr(answer, name) is not None}
    return {"path": answer.path, "label": answer.label, "confidence": answer.confidence, **top, **more}


def _cells(answer: Prediction | Unread) -> tuple[str, ...]:
    """An answer in a notebook, below `_HEADINGS`."""
    if isinstance(answer, Unread):
        return answer.path, "cannot be read", "", answer.reason
    top = ", ".join(f"{one.label} {one.confidence:.1%}" for one in answer.top)
    label = answer.label if answer.labels is None else ", ".join(answer.labels)
    return answer.path, label, f"{answer.confidence:.1%}", top


def sources_of(images: Images) -> Sequence[str | Path | bytes]:
    """The images to decode, one source for each prediction."""
    if isinstance(images, str | Path):
        return find_files([images])
    given = several(images)
    if isinstance(given, list) and given and all(isinstance(one, str | Path | bytes) for one in given):
        return given
    _refuse_mixed(given)
    return images_in_memory(given).sources


def _refuse_mixed(given: Sequence[object] | np.ndarray) -> None:
    files = [isinstance(one, str | Path | bytes) for one in given] if isinstance(given, list) else []
    if any(files):
        odd = files.index(False)
        if given[odd] is None or isinstance(given[odd], float):  # NaN, as pandas has it
            raise DataError(f"Image {odd + 1} is missing: {given[odd]}. Leave it out.")
        raise DataError(
            f"Images are all files, or all arrays and Pillow images; image {files.index(True) + 1} is a file, and "
            f"image {odd + 1} is a {type(given[odd]).__name__}. Predict them apart."
        )
