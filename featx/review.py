"""What is suspicious in a data set, as files to look through: a CSV and a grid of pictures of each kind."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.backbones import Output
from featx.dataset import SPLITS, data_folder
from featx.dataset.table import relative_path
from featx.errors import DataError, HeadError
from featx.files import write_atomic
from featx.heads import FeaturesError
from featx.pictures import Picture, draw_grid
from featx.quality import NEAR, Quality, inspect
from featx.run import Prepared

_SHOWN = 36  # pictures in a grid


def review(prepared: Prepared, out: Path, near: float = NEAR) -> dict[str, Any]:
    """Look for label errors, near-duplicates and outliers, and write `<kind>.csv` and `<kind>.png` into `out`.

    near : least cosine similarity of near-duplicates

    Returns
    -------
    dict
        output: whose features were compared; label_errors, outliers {found, csv, grid}, near_duplicates {found,
        across, complete, csv, grid}; a grid is None where there is nothing to draw

    Raises
    ------
    DataError
        Several labels per image.
    HeadError
        Features that are not finite; the images are named.
    """
    sample = prepared.sample
    if sample.images.multilabel:
        raise DataError(
            f"{sample.images.source} has several labels per image, and featx check --features judges one. "
            "Without --features it finds bad images and duplicates."
        )
    output = _choose_output(prepared.extraction.outputs)
    features = prepared.extraction.features(output, sample.rows)
    try:
        found = inspect(features, sample.y, sample.split, sample.groups, near, seed=prepared.pipeline.data.seed)
    except FeaturesError as error:
        names = ", ".join(sample.images.paths[sample.rows[row]] for row in error.rows[:3])
        raise HeadError(f"{output.name} gives NaN or infinity for {len(error.rows)} images: {names}.") from error
    return {"output": output.name, **_Writer(prepared, out).write(found)}


def _choose_output(outputs: Sequence[Output]) -> Output:
    """The first that is a row of features and no map."""
    for output in outputs:
        if output.pooling != "none":
            return output
    raise HeadError("There are only maps (pooling none) to compare. Add --pooling avg or flatten.")


@dataclass(frozen=True)
class _Writer:
    """Writes lists of rows of the sample with their paths and labels.

    In label_errors.csv every file of the same bytes has its own line: changing the label of one of them alone would
    make a conflict, which leaves all of them out of fitting.
    """

    prepared: Prepared
    out: Path

    def write(self, found: Quality) -> dict[str, Any]:
        return {
            "label_errors": self._label_errors(found),
            "near_duplicates": self._near_duplicates(found),
            "outliers": self._outliers(found),
        }

    def _label_errors(self, found: Quality) -> dict[str, Any]:
        errors, lines, pictures = found.errors, [], []
        classes, copies = self.prepared.sample.images.classes, self._copies(errors.rows)
        for row, code, confidence, given in zip(
            errors.rows.tolist(), errors.suggested.tolist(), errors.confidence, errors.given, strict=True
        ):
            _, label, part = self._named(row)
            told = (classes[code], f"{confidence:.4f}", f"{given:.4f}", part)
            lines += [(self._relative(path), label, *told) for path in copies[row]]
            pictures.append(self._picture(row, f"{label}: {given:.0%}", f"{classes[code]}: {confidence:.0%}"))
        header = ("path", "label", "suggested", "confidence", "label_confidence", "split")
        title = f"Likely label errors: the first {min(len(errors), _SHOWN)} of {len(errors)}"
        return self._finish("label_errors", len(errors), header, lines, pictures, title)

    def _near_duplicates(self, found: Quality) -> dict[str, Any]:
        pairs, lines, pictures = found.duplicates, [], []
        for one, other, similarity, across in zip(
            pairs.first.tolist(), pairs.second.tolist(), pairs.similarity, pairs.across.tolist(), strict=True
        ):
            first, second = self._named(one), self._named(other)
            lines.append((*first, *second, f"{similarity:.4f}", "yes" if across else "no"))
            good = False if across or first[1] != second[1] else None
            for row, (_, label, part) in ((one, first), (other, second)):
                pictures.append(self._picture(row, f"{label} ({part})", f"{similarity:.4f}", good=good))
        header = ("path", "label", "split", "path_2", "label_2", "split_2", "similarity", "across_parts")
        title = f"Near-duplicates in pairs: the first {min(len(pairs), _SHOWN // 2)} of {len(pairs)}"
        told = self._finish("near_duplicates", len(pairs), header, lines, pictures, title)
        return told | {"across": int(pairs.across.sum()), "complete": pairs.complete}

    def _outliers(self, found: Quality) -> dict[str, Any]:
        outliers, lines, pictures = found.outliers, [], []
        for row, score, distance in zip(outliers.rows.tolist(), outliers.score, outliers.distance, strict=True):
            path, label, part = self._named(row)
            lines.append((path, label, part, f"{score:.2f}", f"{distance:.4f}"))
            pictures.append(self._picture(row, label, f"{score:.1f} deviations"))
        title = f"Outliers of their class: the first {min(len(outliers), _SHOWN)} of {len(outliers)}"
        header = ("path", "label", "split", "deviations", "distance")
        return self._finish("outliers", len(outliers), header, lines, pictures, title)

    def _named(self, row: int) -> tuple[str, str, str]:
        """Path, label and part of a row of the sample."""
        sample = self.prepared.sample
        path = self._relative(sample.images.paths[sample.rows[row]])
        return path, sample.images.classes[sample.y[row]], SPLITS[sample.split[row]]

    def _relative(self, path: str) -> str:
        data = self.prepared.pipeline.data
        return relative_path(path, data_folder(self.prepared.sample.images.source, data))

    def _picture(self, row: int, *caption: str, good: bool | None = None) -> Picture:
        sample = self.prepared.sample
        path = sample.images.paths[sample.rows[row]]
        return Picture(path, (Path(path).name, *caption), good)

    def _copies(self, rows: np.ndarray) -> dict[int, list[str]]:
        """The paths of all files of the same bytes as each of these rows of the sample."""
        digests, sample = self.prepared.extraction.digests, self.prepared.sample
        row_of = dict(zip(sample.digests[rows].tolist(), rows.tolist(), strict=True))
        paths: dict[int, list[str]] = {row: [] for row in rows.tolist()}
        for place in np.flatnonzero(np.isin(digests, sample.digests[rows])).tolist():
            paths[row_of[bytes(digests[place])]].append(sample.images.paths[place])
        return paths

    def _finish(
        self,
        kind: str,
        found: int,
        header: Sequence[str],
        lines: Iterable[Sequence[str]],
        pictures: Sequence[Picture],
        title: str,
    ) -> dict[str, Any]:
        table, grid = self.out / f"{kind}.csv", self.out / f"{kind}.png"
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *lines])
        write_atomic(table, text.getvalue())
        if pictures:
            draw_grid(pictures[:_SHOWN], grid, title=title)
        else:
            grid.unlink(missing_ok=True)  # of an earlier run
        return {"found": found, "csv": str(table), "grid": str(grid) if pictures else None}
