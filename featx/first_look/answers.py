"""ImageNet's classes of a sample: plotted, and counted per class of the user."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from featx.first_look.imagenet import ImageNetAnswers, class_names
from featx.first_look.separation import Separation, count_pairs, measure_separation
from featx.first_look.study import Study, different_rows
from featx.images.grid import GridImage
from featx.inference.predict import ClassConfidence
from featx.io.jsontypes import Json
from featx.report.figure_folder import FigureFolder

_ANSWERED = 24  # images in the grid of ImageNet's answers
_COMMONEST = 3  # ImageNet classes that are named of each class


@dataclass(frozen=True)
class ClassShare:
    """An ImageNet class, and the share of the images that are taken for it."""

    label: str
    share: float


@dataclass(frozen=True)
class ClassAnswers:
    """What the images of one class are taken for. commonest : the commonest ImageNet classes, the commonest first"""

    label: str
    images: int
    commonest: tuple[ClassShare, ...]


@dataclass(frozen=True)
class ImageAnswer:
    """What one image is taken for. label : its own, None where there are none; top : the likeliest classes"""

    path: str
    label: str | None
    top: tuple[ClassConfidence, ...]


@dataclass(frozen=True)
class ImageNetResult:
    """What a network with its ImageNet top calls a sample of the images.

    picture : the image grid; images : different ones that could be read; separation : None without two classes
    classes : of images with labels; predictions : one for each image
    """

    picture: str
    backbone: str
    preprocessing: str
    images: int
    separation: Separation | None
    classes: tuple[ClassAnswers, ...]
    predictions: tuple[ImageAnswer, ...]

    def as_json(self) -> dict[str, Json]:
        """What `featx look --json` prints of it."""
        return {**asdict(self), "separation": None if self.separation is None else self.separation.as_json()}


def describe_answers(study: Study, answers: ImageNetAnswers, folder: FigureFolder) -> ImageNetResult:
    """Draw some of the answers and count all of them, equal images once."""
    rows = different_rows(answers.extraction)
    place = np.searchsorted(answers.rows, rows)
    first, codes = answers.first[place], study.codes(rows)
    shown = sorted(_alternate(codes, len(rows))[:_ANSWERED].tolist(), key=lambda i: (study.name(int(rows[i])), i))
    cells = [_draw_answer(study, int(rows[i]), answers.top(int(place[i]))) for i in shown]
    return ImageNetResult(
        picture=folder.grid("imagenet", cells),
        backbone=answers.spec.label,
        preprocessing=answers.spec.preprocessing,
        images=len(rows),
        separation=None if codes is None else measure_separation(first, codes),
        classes=() if codes is None else _count_by_class(study, rows, first, codes),
        predictions=tuple(
            ImageAnswer(study.sample.paths[row], None if codes is None else study.name(row), answers.top(at))
            for row, at in zip(rows.tolist(), place.tolist(), strict=True)
        ),
    )


def _draw_answer(study: Study, row: int, top: tuple[ClassConfidence, ...]) -> GridImage:
    path = study.sample.paths[row]
    title = Path(path).name if study.sample.labels is None else study.name(row)
    return GridImage(path, (title, *(f"{one.confidence:.0%} {one.label}" for one in top)))


def _count_by_class(study: Study, rows: np.ndarray, first: np.ndarray, codes: np.ndarray) -> tuple[ClassAnswers, ...]:
    """The ImageNet classes that most of the images of each class are taken for."""
    table, seen, names = count_pairs(first, codes), np.unique(first), class_names()
    found = []
    for counts, code in zip(table, np.unique(codes), strict=True):
        order = [column for column in np.argsort(-counts, kind="stable")[:_COMMONEST].tolist() if counts[column]]
        shares = tuple(ClassShare(names[seen[column]], float(counts[column] / counts.sum())) for column in order)
        found.append(ClassAnswers(study.name(int(rows[codes == code][0])), int(counts.sum()), shares))
    return tuple(found)


def _alternate(codes: np.ndarray | None, count: int) -> np.ndarray:
    """Positions in turns: the first of every class, then the second of every class, and so on."""
    if codes is None:
        return np.arange(count)
    turn = np.zeros(count, np.int64)
    for code in np.unique(codes):
        turn[codes == code] = np.arange((codes == code).sum())
    return np.lexsort((codes, turn))
