"""Labels that a person has reviewed, kept in a run by content: corrected ones and confirmed ones.

They hold for every command on the data, wherever the files lie. A label that the data themselves have changed since
then is the newer word: the judgement of such an image rests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from featx.config import Pipeline
from featx.dataset import ImageSet, digest_images, read_data
from featx.dataset.read import data_folder
from featx.dataset.relabel import Judgement, relabel
from featx.errors import DataError
from featx.io.digest_arrays import has_digest
from featx.io.files import write_json
from featx.io.index import StatIndex
from featx.io.jsontypes import Json, parse_json
from featx.runs.run import Run


@dataclass(frozen=True)
class KeptLabel:
    """What a person has said of an image. given : the label that the data had then; path : of the file, for people"""

    label: str
    given: str
    path: str


@dataclass(frozen=True)
class AppliedLabels:
    """What kept labels do to images.

    labels : codes int64 (n,); corrected, confirmed : bool (n,), whose label is another one, or is known to be right
    """

    labels: np.ndarray
    corrected: np.ndarray
    confirmed: np.ndarray


@dataclass(frozen=True)
class KeptLabels:
    """The judged labels in the folder of a run: digest, as hexadecimal text -> label."""

    folder: Path

    @property
    def file(self) -> Path:
        """Where they are."""
        return self.folder / "labels.json"

    def known(self) -> dict[str, KeptLabel]:
        """All of them; none where there is no file.

        Raises
        ------
        DataError
            A file that was damaged.
        """
        return self._read()[0]

    def taken(self, journal: str) -> int:
        """How many bytes of a journal of `featx label` are in them already. journal : its absolute path"""
        return self._read()[1].get(journal, 0)

    def take(self, changes: Mapping[str, KeptLabel | None], journal: str, length: int) -> None:
        """Take in what a journal has up to a length: new judgements, by digest, and None where one was taken back.

        Written at once with the length, so that whatever happens nothing is taken in twice.
        """
        known, journals = self._read()
        known |= {digest: one for digest, one in changes.items() if one is not None}
        left = {digest: one for digest, one in known.items() if changes.get(digest, one) is not None}
        self._write(left, journals | {journal: length})

    def _read(self) -> tuple[dict[str, KeptLabel], dict[str, int]]:
        """The judgements, and how far each journal has been taken in."""
        try:
            content = parse_json(self.file.read_bytes())
            known = {
                digest: KeptLabel(str(one["label"]), str(one["given"]), str(one["path"]))
                for digest, one in content["labels"].items()
            }
            return known, {str(path): int(length) for path, length in content.get("journals", {}).items()}
        except FileNotFoundError:
            return {}, {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{self.file} cannot be read: corrected labels are in it. Restore it from a copy, or delete it and "
                "apply the corrections again: featx relabel apply FILE."
            ) from error

    def keep(self, images: ImageSet, index: StatIndex, judgements: Sequence[Judgement]) -> tuple[int, int]:
        """Remember judgements on images as the data have them; return how many correct a label, how many confirm one.

        Raises
        ------
        DataError
            An image that cannot be read, or one that gets two labels.
        """
        rows = [one.row for one in judgements]
        digests = digest_images([images.paths[row] for row in rows], index).digest
        for row, readable in zip(rows, has_digest(digests).tolist(), strict=True):
            if not readable:
                raise DataError(f"{images.paths[row]} cannot be read, so its label cannot be kept by its content.")
        new = dict[str, KeptLabel]()
        for digest, one in zip(digests.tolist(), judgements, strict=True):
            kept = KeptLabel(one.label, images.label_names(one.row)[0], images.paths[one.row])
            other = new.setdefault(digest.hex(), kept)
            if other.label != kept.label:
                names = f"{other.path} and {kept.path} are the same image"
                raise DataError(f"{names}, and get the labels {other.label!r} and {kept.label!r}. Give them one.")
        known, journals = self._read()
        self._write(known | new, journals)
        corrected = sum(one.label != one.given for one in new.values())
        return corrected, len(new) - corrected

    def forget(self, digests: Iterable[str]) -> int:
        """Forget what is known of some images; return of how many that was."""
        (known, journals), gone = self._read(), set(digests)
        left = {digest: one for digest, one in known.items() if digest not in gone}
        if len(left) < len(known):
            self._write(left, journals)
        return len(known) - len(left)

    def _write(self, known: Mapping[str, KeptLabel], journals: Mapping[str, int]) -> None:
        content: dict[str, Json] = {"labels": {digest: asdict(one) for digest, one in sorted(known.items())}}
        if journals:
            content["journals"] = dict(journals)
        write_json(self.file, content)

    def of(self, images: ImageSet, index: StatIndex) -> AppliedLabels | None:
        """What is known of images with one label each; None where nothing is."""
        known = self.known()
        if not known or images.labels is None or images.multilabel:
            return None
        code_of = {name: code for code, name in enumerate(images.classes)}
        labels = images.labels.copy()
        corrected, confirmed = np.zeros(len(images), bool), np.zeros(len(images), bool)
        for row, digest in enumerate(digest_images(images.paths, index).digest.tolist()):
            kept = known.get(digest.hex())
            if kept is None or kept.label not in code_of or labels[row] < 0:
                continue
            now = images.classes[labels[row]]
            corrected[row] = kept.label != now == kept.given
            confirmed[row] = kept.label == now
            labels[row] = code_of[kept.label] if corrected[row] else labels[row]
        return AppliedLabels(labels, corrected, confirmed) if (corrected | confirmed).any() else None


def kept_labels(pipeline: Pipeline, images: ImageSet) -> list[KeptLabels]:
    """Where judged labels of images may be: in the run of the pipeline, then in that of the data's own name."""
    own, usual = Run.of(pipeline, images).path, Path(pipeline.report.runs) / images.name
    return [KeptLabels(folder) for folder in dict.fromkeys((own, usual))]


def _applied(pipeline: Pipeline, images: ImageSet, index: StatIndex) -> tuple[KeptLabels, AppliedLabels] | None:
    """The first labels that are known of any of the images, and where they are."""
    for kept in kept_labels(pipeline, images):
        found = kept.of(images, index)
        if found is not None:
            return kept, found
    return None


def with_kept_labels(images: ImageSet, pipeline: Pipeline, index: StatIndex) -> ImageSet:
    """The images with the labels that a person has judged; a note says how many."""
    there = _applied(pipeline, images, index)
    if there is None:
        return images
    kept, found = there
    counts = f"{_labels(found.corrected)} corrected, {_labels(found.confirmed)} known to be right"
    note = f"{counts}, by {kept.file}. featx relabel list shows them."
    return replace(images, labels=found.labels, notes=(*images.notes, note))


def _labels(rows: np.ndarray) -> str:
    number = int(rows.sum())
    return f"{number:,} label{'' if number == 1 else 's'}"


def read_labelled(pipeline: Pipeline, index: StatIndex) -> ImageSet:
    """The images of a pipeline with the labels that a person has judged, and over these what `data.relabel` has.

    Raises
    ------
    DataError
        What `read_data` raises, and a file of labels that was damaged.
    """
    file, path = pipeline.data.relabel, pipeline.data.path
    if file is None or path is None:
        return with_kept_labels(read_data(pipeline), pipeline, index)
    plain = replace(pipeline.data, relabel=None)
    images = with_kept_labels(read_data(replace(pipeline, data=plain)), pipeline, index)
    return relabel(images, file, data_folder(path, plain))


def count_judged(pipeline: Pipeline, index: StatIndex) -> dict[str, int]:
    """How many images have a corrected label, and how many one that is known to be right."""
    there = _applied(pipeline, read_data(pipeline), index)
    rows = {} if there is None else {"corrected": there[1].corrected, "confirmed": there[1].confirmed}
    return {name: int(rows[name].sum()) if name in rows else 0 for name in ("corrected", "confirmed")}


def judged_right(pipeline: Pipeline, images: ImageSet, index: StatIndex) -> np.ndarray:
    """Whether a person has said that the label which an image has now is right: bool (n,)."""
    there = _applied(pipeline, images, index)
    return np.zeros(len(images), bool) if there is None else there[1].confirmed
