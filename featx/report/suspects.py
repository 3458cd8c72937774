"""Label errors, near-duplicates and outliers for people: paths and labels instead of rows."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.dataset import NONE, SPLITS, data_folder
from featx.dataset.table import relative_path
from featx.images.grid import GridImage
from featx.io.shown import as_line
from featx.quality.label_errors import LabelErrors
from featx.quality.near_duplicates import NearDuplicates
from featx.quality.outliers import Outliers
from featx.report.findings import SHOWN, Finding
from featx.report.typed import typed_to_relabel
from featx.report.words import first_of
from featx.runs.prepared import Prepared


@dataclass(frozen=True)
class ReviewedImages:
    """The images of a sample under the names that people know them by; a row is one of the sample.

    command : that was typed, for the advice
    """

    prepared: Prepared
    command: str = ""

    def relabelling(self, table: Path) -> str:
        """The command that keeps the labels in a table, with the options by which the images are read."""
        words = typed_to_relabel(self.prepared.pipeline, self.prepared.sample.images.source, self.command)
        return as_line(f"featx relabel apply {shlex.quote(str(table))} {words}")

    @property
    def multilabel(self) -> bool:
        """Whether an image can have several labels."""
        return self.prepared.sample.images.multilabel

    def class_name(self, code: int) -> str:
        """The name of a class."""
        return self.prepared.sample.images.classes[code]

    @property
    def labelled(self) -> bool:
        """Whether any image has a label."""
        return bool(self.prepared.sample.images.classes)

    def describe(self, row: int) -> tuple[str, str, str]:
        """Path, label and part of a row; empty where it has none."""
        sample = self.prepared.sample
        image = int(sample.rows[row])
        separator = self.prepared.pipeline.data.label_separator or ""  # one label has none
        label = separator.join(sample.images.label_names(image))
        part = "" if sample.split[row] == NONE else SPLITS[sample.split[row]]
        return self.relative(sample.images.paths[image]), label, part

    def relative(self, path: str) -> str:
        """A path as the data's own table has it."""
        data = self.prepared.pipeline.data
        return relative_path(path, data_folder(self.prepared.sample.images.source, data))

    def picture(self, row: int, *caption: str, good: bool | None = None) -> GridImage:
        """A cell of an image grid."""
        sample = self.prepared.sample
        path = sample.images.paths[sample.rows[row]]
        levels = self.prepared.pipeline.features.levels
        return GridImage(path, (Path(path).name, *caption), good, levels=levels)

    def copies(self, rows: np.ndarray) -> dict[int, list[str]]:
        """The paths of all files of the same bytes as each of these rows."""
        digests, sample = self.prepared.extraction.digests, self.prepared.sample
        row_of = dict(zip(sample.digests[rows].tolist(), rows.tolist(), strict=True))
        paths: dict[int, list[str]] = {row: [] for row in rows.tolist()}
        for place in np.flatnonzero(np.isin(digests, sample.digests[rows])).tolist():
            paths[row_of[digests[place].tobytes()]].append(sample.images.paths[place])
        return paths


def list_label_errors(errors: LabelErrors, images: ReviewedImages, folder: Path) -> Finding:
    """Images whose label is likely wrong. folder : where the CSV will be, for the advice

    Every file of the same bytes has its own line: changing the label of one of them alone would make a conflict, which
    leaves all of them out of fitting.
    """
    lines, pictures = [], []
    copies = images.copies(errors.rows)
    for row, code, confidence, given in zip(
        errors.rows.tolist(), errors.suggested.tolist(), errors.confidence, errors.given, strict=True
    ):
        suggested = images.class_name(code)
        _, label, part = images.describe(row)
        rest = (suggested, f"{confidence:.4f}", f"{given:.4f}", part)
        lines += [(images.relative(path), label, *rest, "") for path in copies[row]]
        pictures.append(images.picture(row, f"{label}: {given:.0%}", f"{suggested}: {confidence:.0%}"))
    table = folder / "label_errors.csv"
    advice = (
        f"Correct the column 'label' of {table} by hand, and write yes into 'right' where a label is right. Then: "
        + images.relabelling(table)
    )
    return Finding(
        name="label_errors",
        heading="Likely label errors",
        text="Images whose label looks wrong to a logistic regression that was fitted without them, the least likely "
        "label first. A rare but correct label is listed as well: look before you change one.",
        found=len(errors),
        header=("path", "label", "suggested", "confidence", "label_confidence", "split", "right"),
        rows=lines,
        pictures=pictures,
        shown=first_of(errors, SHOWN),
        caption="Under each image: its label and the predicted class, with their probabilities.",
        advice=advice if len(errors) else "",
    )


def list_near_duplicates(pairs: NearDuplicates, images: ReviewedImages, near: float) -> Finding:
    """Pairs of nearly equal images. near : their least similarity"""
    lines, pictures = [], []
    for one, other, similarity, across in zip(
        pairs.first.tolist(), pairs.second.tolist(), pairs.similarity, pairs.across.tolist(), strict=True
    ):
        first, second = images.describe(one), images.describe(other)
        lines.append((*first, *second, f"{similarity:.4f}", "yes" if across else "no"))
        good = False if across or first[1] != second[1] else None
        for row, (_, label, part) in ((one, first), (other, second)):
            pictures.append(images.picture(row, f"{label} ({part})" if part else label, f"{similarity:.4f}", good=good))
    more = len(pairs) and not pairs.complete
    return Finding(
        name="near_duplicates",
        heading="Near-duplicates",
        text=f"Pairs of images whose features have a cosine similarity of at least {near:g}. A pair that "
        "crosses two parts of the split makes val and test look better than they are: keep its images together with "
        f"--group-column, or with --group-duplicates {near:g}.",
        found=len(pairs),
        header=("path", "label", "split", "path_2", "label_2", "split_2", "similarity", "across_parts"),
        rows=lines,
        pictures=pictures,
        shown=f"in pairs: the first {min(len(pairs), SHOWN // 2)} of {len(pairs)}",
        caption="Two by two. Red frames: in different parts of the split, or under different labels.",
        advice="There are more pairs than are listed. Raise --near." if more else "",
    )


def list_outliers(outliers: Outliers, images: ReviewedImages) -> Finding:
    """Images that are unlike the others of their class."""
    lines, pictures = [], []
    for row, score, distance in zip(outliers.rows.tolist(), outliers.score, outliers.distance, strict=True):
        path, label, part = images.describe(row)
        lines.append((path, label, part, f"{score:.2f}", f"{distance:.4f}"))
        pictures.append(images.picture(row, label, f"{score:.1f} deviations"))
    of = " of each of their labels" if images.multilabel else " of their class" if images.labelled else ""
    return Finding(
        name="outliers",
        heading="Outliers of their class" if images.labelled else "Outliers",
        text=f"Images far from the nearest others{of}, in robust standard deviations above what is usual there.",
        found=len(outliers),
        header=("path", "label", "split", "deviations", "distance"),
        rows=lines,
        pictures=pictures,
        shown=first_of(outliers, SHOWN),
        caption="The farthest first.",
    )
