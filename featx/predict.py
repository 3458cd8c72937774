"""Images -> classes with confidence, through a bundle alone."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.bundle import Bundle
from featx.dataset.folders import read_files
from featx.errors import DataError
from featx.files import atomic_path
from featx.images import iter_batches

UNSURE = "unsure"


@dataclass(frozen=True)
class Choice:
    """A class and how sure the model is of it, in [0, 1]."""

    label: str
    confidence: float


@dataclass(frozen=True)
class Prediction:
    """The most likely classes of one image, the likeliest first.

    label : the likeliest; "unsure" where it is below the least confidence that was asked for
    labels : of a model that gives several, those at or above their thresholds, the likeliest first; else None
    """

    path: str
    label: str
    confidence: float
    top: tuple[Choice, ...]
    labels: tuple[str, ...] | None = None


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
) -> Iterator[Prediction | Unread]:
    """Yield one answer per image in the order of `paths`, batch by batch; memory stays flat however many there are.

    paths : files, or the bytes of files; top : how many classes to tell
    min_confidence : in [0, 1]; where the likeliest class has less, the answer is "unsure"
    """
    for rows, probabilities, bad in iter_probabilities(bundle, paths, workers):
        answers: dict[int, Prediction | Unread] = {row: Unread(_name(paths[row], row), reason) for row, reason in bad}
        for row, chances in zip(rows.tolist(), probabilities, strict=True):
            answers[row] = _answer(_name(paths[row], row), chances, bundle, top, min_confidence)
        yield from (answers[row] for row in sorted(answers))


def iter_probabilities(
    bundle: Bundle, paths: Sequence[str | Path | bytes], workers: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]]:
    """Yield (positions in `paths`, probabilities float64 (n, classes), [(position, why it cannot be read)])."""
    resize = str(bundle.about["backbone"]["resize"])
    for batch in iter_batches(paths, range(len(paths)), bundle.input_size, resize, bundle.engine.handover, workers):
        if len(batch.rows):
            yield batch.rows, bundle.probabilities(bundle.features(batch.images)), batch.bad
        else:
            yield batch.rows, np.empty((0, len(bundle.classes))), batch.bad


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
    """What `featx predict --json` prints."""
    found: dict[str, list[Any]] = {"predictions": [], "bad": []}
    for answer in answers:
        entry = {name: value for name, value in asdict(answer).items() if value is not None}
        found["predictions" if isinstance(answer, Prediction) else "bad"].append(entry)
    return found


def write_csv(out: Path, answers: Iterable[Prediction | Unread]) -> tuple[int, list[Unread]]:
    """Write `path,label,confidence,reason` while the answers come; return how many were read, and the others.

    Several labels are separated by `|`.
    """
    read, unread = 0, []
    with atomic_path(out) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "confidence", "reason"])
        for answer in answers:
            if isinstance(answer, Prediction):
                label = answer.label if answer.labels is None else "|".join(answer.labels)
                rows.writerow([answer.path, label, f"{answer.confidence:.6f}", ""])
                read += 1
            else:
                rows.writerow([answer.path, "", "", answer.reason])
                unread.append(answer)
    return read, unread
