"""Images -> classes with confidence, through a bundle alone."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featx.bundle import Bundle
from featx.dataset.folders import read_files
from featx.errors import DataError
from featx.files import atomic_path
from featx.images import iter_batches
from featx.novelty import Reference, load_reference

UNKNOWN, UNSURE = "unknown", "unsure"


@dataclass(frozen=True)
class Choice:
    """A class and how sure the model is of it, in [0, 1]."""

    label: str
    confidence: float


@dataclass(frozen=True)
class Prediction:
    """The most likely classes of one image, the likeliest first.

    label : the likeliest; "unsure" where it has less than the least confidence asked for, "unknown" where that is true
    confidence : of the likeliest class, in any case
    labels : of a model that gives several, those at or above their thresholds, the likeliest first; else None
    unknown, distance : whether the image is unlike all training images, and how far from the nearest, in units within
        which 99 % of the images of known classes lie; None where it was not asked for
    """

    path: str
    label: str
    confidence: float
    top: tuple[Choice, ...]
    labels: tuple[str, ...] | None = None
    unknown: bool | None = None
    distance: float | None = None


@dataclass(frozen=True)
class Unread:
    """An image that could not be read, and why."""

    path: str
    reason: str


def predict(
    bundle: Bundle,
    paths: Sequence[str | Path | bytes],
    top: int = 1,
    workers: int = 0,
    min_confidence: float = 0.0,
    max_distance: float | None = None,
) -> Iterator[Prediction | Unread]:
    """Yield one answer per image in the order of `paths`, batch by batch; memory stays flat however many there are.

    paths : files, or the bytes of files; top : how many classes to tell
    min_confidence : in [0, 1]; where the likeliest class has less, the answer is "unsure"
    max_distance : images farther from all training images are answered "unknown"; 1: as far as 1 % of the known are

    Raises
    ------
    BundleError
        `max_distance` with a bundle that does not keep what it takes.
    """
    reference = None if max_distance is None else load_reference(bundle.path)
    return _predict(bundle, paths, top, workers, min_confidence, reference, max_distance or 0.0)


def _predict(
    bundle: Bundle,
    paths: Sequence[str | Path | bytes],
    top: int,
    workers: int,
    min_confidence: float,
    reference: Reference | None,
    max_distance: float,
) -> Iterator[Prediction | Unread]:
    for rows, features, bad in iter_features(bundle, paths, workers):
        answers: dict[int, Prediction | Unread] = {row: Unread(_name(paths[row], row), reason) for row, reason in bad}
        probabilities = bundle.probabilities(features) if len(rows) else features
        for row, chances in zip(rows.tolist(), probabilities, strict=True):
            answers[row] = _answer(_name(paths[row], row), chances, bundle, top, min_confidence)
        if reference is not None and len(rows):
            for row, distance in zip(rows.tolist(), reference.distances(features), strict=True):
                answers[row] = _judge(answers[row], float(distance), max_distance)
        yield from (answers[row] for row in sorted(answers))


def _judge(answer: Prediction | Unread, distance: float, most: float) -> Prediction | Unread:
    assert isinstance(answer, Prediction)
    unknown = distance > most
    return replace(answer, label=UNKNOWN if unknown else answer.label, unknown=unknown, distance=round(distance, 6))


def iter_probabilities(
    bundle: Bundle, paths: Sequence[str | Path | bytes], workers: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]]:
    """Yield (positions in `paths`, probabilities float64 (n, classes), [(position, why it cannot be read)])."""
    for rows, features, bad in iter_features(bundle, paths, workers):
        yield rows, bundle.probabilities(features) if len(rows) else np.empty((0, len(bundle.classes))), bad


def iter_features(
    bundle: Bundle, paths: Sequence[str | Path | bytes], workers: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]]:
    """Yield (positions in `paths`, features float32 (n, d), [(position, why it cannot be read)])."""
    resize = str(bundle.about["backbone"]["resize"])
    for batch in iter_batches(paths, range(len(paths)), bundle.input_size, resize, bundle.engine.handover, workers):
        features = bundle.features(batch.images) if len(batch.rows) else np.empty((0, 0), np.float32)
        yield batch.rows, features, batch.bad


def find_files(sources: Sequence[str | Path]) -> tuple[str, ...]:
    """Every file that is named or lies in a named folder, at any depth; labels do not matter."""
    missing = [str(source) for source in sources if not Path(source).expanduser().exists()]
    if missing and len(missing) == len(sources):
        raise DataError(f"No such file or folder: {', '.join(missing[:3])}. Check the name, or the folder you are in.")
    return read_files(sources).paths


def _name(path: str | Path | bytes, row: int) -> str:
    return f"image {row + 1}" if isinstance(path, bytes) else str(path)


def _answer(path: str, chances: np.ndarray, bundle: Bundle, top: int, min_confidence: float) -> Prediction:
    order = np.argsort(-chances, kind="stable")
    best = tuple(Choice(bundle.classes[i], round(float(chances[i]), 6)) for i in order[: max(1, top)])
    label = best[0].label if chances[order[0]] >= min_confidence else UNSURE
    given = tuple(bundle.classes[i] for i in order if chances[i] >= bundle.thresholds[i]) if bundle.multilabel else None
    return Prediction(path, label, best[0].confidence, best, given)


def as_json_object(answers: Iterable[Prediction | Unread]) -> dict[str, list[Any]]:
    """What `featx predict --json` prints; `unknown` and `distance` are there where distances were asked for."""
    found: dict[str, list[Any]] = {"predictions": [], "bad": []}
    for answer in answers:
        if isinstance(answer, Prediction):
            found["predictions"].append({name: value for name, value in asdict(answer).items() if value is not None})
        else:
            found["bad"].append(asdict(answer))
    return found


def write_csv(out: Path, answers: Iterable[Prediction | Unread], measured: bool = False) -> tuple[int, list[Unread]]:
    """Write `path,label,confidence,reason` while the answers come; return how many were read, and the others.

    Several labels are separated by `|`.

    measured : whether there are distances, which are one more column, `distance`
    """
    read, unread = 0, []
    with atomic_path(out) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "confidence", *(["distance"] if measured else []), "reason"])
        for answer in answers:
            if isinstance(answer, Prediction):
                label = answer.label if answer.labels is None or answer.unknown else "|".join(answer.labels)
                distance = [f"{answer.distance:.6f}"] if answer.distance is not None else []
                rows.writerow([answer.path, label, f"{answer.confidence:.6f}", *distance, ""])
                read += 1
            else:
                rows.writerow([answer.path, "", "", *([""] if measured else []), answer.reason])
                unread.append(answer)
    return read, unread
