"""A model's mistakes explained: each photo, the regions behind each class, and similar training images."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from featx.bundle.bundle import Bundle
from featx.images.decoder import decode
from featx.images.fault import BadImage
from featx.images.resize import ResizeRule
from featx.images.sources import held, taken
from featx.inference.explain import ClassMap, Explainer
from featx.inference.overlays import draw_map
from featx.inference.predict import Unread
from featx.io.commands import short_path
from featx.io.files import make_folder, write_atomic
from featx.io.progress import Progress, no_progress
from featx.metrics.digits import confidence_text
from featx.metrics.predictions import LabelledPredictions
from featx.quality.similar import Neighbour
from featx.report.mistakes import TABLE, Mistake, list_mistakes, write_mistakes
from featx.report.page import render
from featx.report.report import INDEX
from featx.report.verdict import Verdict

MOST = 60  # pictures; the table has the rest
_MAPS = 3  # of an image
_PHOTO, _SMALL = 320, 112  # pixels of the longer side
_QUALITY = 82  # of JPEG


@dataclass(frozen=True)
class Nearness:
    """The training images that are most like each of some images, by the path of the image.

    notes : what was left out, or why there are none
    """

    found: Mapping[str, Sequence[Neighbour]] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class MistakesPage:
    """What the page shows.

    title, command : of the page; verdict : on the images
    keep_paths, linked : as in `Content`
    """

    title: str
    command: str
    verdict: Verdict
    keep_paths: bool = False
    linked: bool = False


@dataclass(frozen=True)
class WrittenMistakes:
    """The files that were written. count : all mistakes; shown : those with a picture"""

    page: Path
    csv: Path
    count: int
    shown: int

    def as_json(self) -> dict[str, str | int]:
        """What `featx evaluate --mistakes DIR --json` prints under `mistakes`."""
        return {"page": str(self.page), "csv": str(self.csv), "images": self.count, "shown": self.shown}


@dataclass(frozen=True)
class _Thumbnail:
    """A picture in the page: its bytes as a data: URI, its size in CSS pixels, and the lines under it."""

    source: str
    width: int
    height: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Card:
    """A mistake on the page. views : the photo and its maps; near : training images; likeness : their classes"""

    mistake: Mistake
    confidence: str
    views: Sequence[_Thumbnail]
    near: Sequence[_Thumbnail]
    likeness: str
    fault: str = ""


def write_explained(
    folder: Path,
    bundle: Bundle,
    judged: LabelledPredictions,
    nearness: Nearness,
    page: MistakesPage,
    progress: Progress = no_progress,
) -> WrittenMistakes:
    """Write `index.html`, which holds its pictures, and `mistakes.csv` with every mistake.

    Raises
    ------
    StoreError
        A full disk, or a folder that cannot be written to.
    """
    make_folder(folder)
    mistakes = list_mistakes(judged, folder, page.keep_paths, page.linked)
    shown = mistakes[:MOST]
    cards, method = _make_cards(bundle, judged, shown, nearness, page, progress) if shown else ([], "")
    write_mistakes(folder, judged, mistakes)
    html = render(
        "mistakes.html",
        plots={},
        page=page,
        images=len(judged),
        mistaken=len(mistakes),
        cards=cards,
        method=method,
        notes=nearness.notes if shown else (),
    )
    write_atomic(folder / INDEX, html)
    return WrittenMistakes(folder / INDEX, folder / TABLE, len(mistakes), len(shown))


def worst_paths(judged: LabelledPredictions) -> list[str]:
    """The files of the mistakes that the page shows, the worst first."""
    return [judged.paths[one.row] for one in list_mistakes(judged, Path(), keep_paths=True, linked=False)[:MOST]]


def _make_cards(
    bundle: Bundle,
    judged: LabelledPredictions,
    shown: Sequence[Mistake],
    nearness: Nearness,
    page: MistakesPage,
    progress: Progress,
) -> tuple[list[_Card], str]:
    """The cards, and the method by which their maps were made."""
    concerned = {one.row: _concerned(judged, one.row) for one in shown}
    named = sorted({code for codes in concerned.values() for code in codes if code < len(bundle.classes)})
    explainer = Explainer(bundle, labels=[bundle.classes[code] for code in named])
    paths = [judged.paths[one.row] for one in shown]
    cards = []
    once = list(map(held, paths))
    answers = explainer.explain(once, progress=progress)
    for mistake, path, source, answer in zip(shown, paths, once, answers, strict=True):
        maps = {} if isinstance(answer, Unread) else {one.label: one for one in answer.classes}
        wanted = [judged.classes[code] for code in concerned[mistake.row]][:_MAPS]
        confidence = _wrongness(judged, mistake)
        near = nearness.found.get(path, ())
        try:
            views = _views(taken(source), bundle, [maps[label] for label in wanted if label in maps])
            fault = ""
        except BadImage as error:  # the file has gone since it was judged
            views, fault = [], f"The image cannot be read any more: {error.reason}."
        small = [_neighbour(one, bundle, page.keep_paths) for one in near]
        cards.append(_Card(mistake, confidence, views, [one for one in small if one], _likeness(near), fault))
    return cards, explainer.method


def _concerned(judged: LabelledPredictions, row: int) -> list[int]:
    """The classes by which a mistake is explained: the predicted and the actual one, or the labels that are wrong."""
    predicted, actual = np.asarray(judged.predicted)[row], judged.labels[row]
    if judged.target != "labels":
        return [int(predicted), int(actual)]
    wrong = np.flatnonzero(predicted != actual)
    return sorted(wrong.tolist(), key=lambda code: (not predicted[code], -judged.probabilities[row, code]))


def _wrongness(judged: LabelledPredictions, mistake: Mistake) -> str:
    if judged.target == "labels":
        return f"log loss {mistake.confidence:.3f}"
    return confidence_text(mistake.confidence, len(judged))


def _views(source: str | Path | bytes, bundle: Bundle, maps: Sequence[ClassMap]) -> list[_Thumbnail]:
    """The photo, and over it what supports each class."""
    calibrated = bundle.manifest.calibrated_on
    views = [_embed(_photo(source, bundle, _PHOTO), _PHOTO, ("the photo",))]
    for one in maps:
        lines = (f"supports {one.label}", confidence_text(one.confidence, calibrated))
        views.append(_embed(draw_map(one, source, bundle)[0], _PHOTO, lines))
    return views


def _neighbour(one: Neighbour, bundle: Bundle, keep_paths: bool) -> _Thumbnail | None:
    path = one.path if keep_paths else short_path(one.path)
    try:
        lines = (
            one.label or "no label",
            f"similarity {one.similarity:.3f}",
            path.replace("\\", "/").rpartition("/")[2],
        )
        return _embed(_photo(one.path, bundle, _SMALL), _SMALL, lines)
    except BadImage:
        return None


def _photo(source: str | Path | bytes, bundle: Bundle, side: int) -> Image.Image:
    levels = ResizeRule.parse(bundle.manifest.backbone.resize).levels
    return decode(source, (side, side), levels=levels)


def _embed(image: Image.Image, side: int, lines: tuple[str, ...]) -> _Thumbnail:
    """A picture whose longer side is `side`; small ones keep their pixels as squares."""
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    drawn = image.resize((width, height), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
    file = io.BytesIO()
    drawn.convert("RGB").save(file, "JPEG", quality=_QUALITY)
    return _Thumbnail("data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode(), width, height, lines)


def _likeness(near: Sequence[Neighbour]) -> str:
    """`Its 5 nearest training images: 4 are cat, 1 is dog.`"""
    if not near:
        return ""
    counts = Counter(one.label or "without a label" for one in near).most_common()
    listed = ", ".join(f"{count} {'is' if count == 1 else 'are'} {label}" for label, count in counts)
    return f"Its {len(near)} nearest training images: {listed}." if len(near) > 1 else f"The nearest {listed}."
