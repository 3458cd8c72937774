"""What is suspicious in a data set, as files to look through: a CSV and a grid of pictures of each kind, and a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.backbones import Output
from featx.dataset import SPLITS, data_folder
from featx.dataset.table import relative_path
from featx.errors import HeadError
from featx.features import FeaturesError
from featx.images.grid import Picture, draw_grid
from featx.io.files import write_atomic
from featx.quality.inspection import Quality, inspect
from featx.quality.label_errors import LabelErrors
from featx.quality.near_duplicates import NEAR, NearDuplicates
from featx.quality.outliers import Outliers
from featx.report.findings import Finding, write_findings
from featx.report.report import INDEX
from featx.runs.prepared import Prepared

_SHOWN = 36  # pictures in a grid
_KINDS = ("label_errors", "near_duplicates", "outliers")
_NO_LABEL_ERRORS = "Label errors were not looked for: these images have several labels, and the method judges one."


def review(prepared: Prepared, out: Path, near: float = NEAR, command: str = "") -> dict[str, Any]:
    """Look for label errors, near-duplicates and outliers; write `<kind>.csv` and `<kind>.png` of each into `out`.

    All of it is also one page, `index.html`, unless the pipeline says not to. Of images with several labels, label
    errors are not looked for.

    near : least cosine similarity of near-duplicates; command : for the page

    Returns
    -------
    dict
        output: whose features were compared; label_errors, outliers {found, csv, grid}, near_duplicates {found,
        across, complete, csv, grid}; a grid is None where there is nothing to draw, label_errors where they were not
        looked for; notes: what was left out; report: the page, None without one

    Raises
    ------
    HeadError
        Features that are not finite; the images are named.
    """
    sample = prepared.sample
    output = _choose_output(prepared.extraction.outputs)
    features = prepared.extraction.features(output, sample.rows)
    try:
        found = inspect(features, sample.y, sample.split, sample.groups, near, seed=prepared.pipeline.data.seed)
    except FeaturesError as error:
        names = ", ".join(sample.images.paths[sample.rows[row]] for row in error.rows[:3])
        raise HeadError(f"{output.name} gives NaN or infinity for {len(error.rows)} images: {names}.") from error
    notes = [] if found.errors is not None else [_NO_LABEL_ERRORS]
    written = _Writer(prepared, out, near).write(found)
    told: dict[str, Any] = {"output": output.name, **dict.fromkeys(_KINDS), **{one.name: _told(one) for one in written}}
    told["near_duplicates"] |= {"across": int(found.duplicates.across.sum()), "complete": found.duplicates.complete}
    index = out / INDEX
    if prepared.pipeline.report.html:
        summary = f"{len(sample.rows):,} different images, compared by {output.name}."
        write_findings(index, f"{prepared.run.name}: what to look at", summary, written, notes, command)
    else:
        index.unlink(missing_ok=True)  # of an earlier run
    return told | {"notes": notes, "report": str(index) if prepared.pipeline.report.html else None}


def _told(finding: Finding) -> dict[str, Any]:
    return {"found": finding.found, "csv": str(finding.csv), "grid": finding.grid and str(finding.grid)}


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
    near: float

    def write(self, found: Quality) -> list[Finding]:
        written = [] if found.errors is None else [self._label_errors(found.errors)]
        return [*written, self._near_duplicates(found.duplicates), self._outliers(found.outliers)]

    def _label_errors(self, errors: LabelErrors) -> Finding:
        lines, pictures = [], []
        classes, copies = self.prepared.sample.images.classes, self._copies(errors.rows)
        for row, code, confidence, given in zip(
            errors.rows.tolist(), errors.suggested.tolist(), errors.confidence, errors.given, strict=True
        ):
            _, label, part = self._named(row)
            told = (classes[code], f"{confidence:.4f}", f"{given:.4f}", part)
            lines += [(self._relative(path), label, *told) for path in copies[row]]
            pictures.append(self._picture(row, f"{label}: {given:.0%}", f"{classes[code]}: {confidence:.0%}"))
        table = self.out / "label_errors.csv"
        return self._finish(
            "label_errors",
            "Likely label errors",
            "Images whose label a logistic regression that was fitted without them finds unlikely, the unlikeliest "
            "first. A rare but right label is listed as well: look before you change one.",
            len(errors),
            ("path", "label", "suggested", "confidence", "label_confidence", "split"),
            lines,
            pictures,
            f"the first {min(len(errors), _SHOWN)} of {len(errors)}",
            caption="Under an image: its label and the class that it is taken for, with their probabilities.",
            advice=f"Correct the column 'label' of {table} by hand, then: featx fit-head ... --relabel {table}",
        )

    def _near_duplicates(self, pairs: NearDuplicates) -> Finding:
        lines, pictures = [], []
        for one, other, similarity, across in zip(
            pairs.first.tolist(), pairs.second.tolist(), pairs.similarity, pairs.across.tolist(), strict=True
        ):
            first, second = self._named(one), self._named(other)
            lines.append((*first, *second, f"{similarity:.4f}", "yes" if across else "no"))
            good = False if across or first[1] != second[1] else None
            for row, (_, label, part) in ((one, first), (other, second)):
                pictures.append(self._picture(row, f"{label} ({part})", f"{similarity:.4f}", good=good))
        return self._finish(
            "near_duplicates",
            "Near-duplicates",
            f"Pairs of images whose features have a cosine similarity of at least {self.near:g}. A pair in two parts "
            "of the split makes val and test look better than they are: keep its images together with --group-column.",
            len(pairs),
            ("path", "label", "split", "path_2", "label_2", "split_2", "similarity", "across_parts"),
            lines,
            pictures,
            f"in pairs: the first {min(len(pairs), _SHOWN // 2)} of {len(pairs)}",
            caption="Two by two. Red frames: in different parts of the split, or under different labels.",
            advice="" if pairs.complete else "There are more of them than are listed. Raise --near.",
        )

    def _outliers(self, outliers: Outliers) -> Finding:
        lines, pictures = [], []
        for row, score, distance in zip(outliers.rows.tolist(), outliers.score, outliers.distance, strict=True):
            path, label, part = self._named(row)
            lines.append((path, label, part, f"{score:.2f}", f"{distance:.4f}"))
            pictures.append(self._picture(row, label, f"{score:.1f} deviations"))
        several = self.prepared.sample.images.multilabel
        return self._finish(
            "outliers",
            "Outliers of their class",
            f"Images far from the nearest others of {'each of their labels' if several else 'their class'}, in robust "
            "standard deviations above what is usual there.",
            len(outliers),
            ("path", "label", "split", "deviations", "distance"),
            lines,
            pictures,
            f"the first {min(len(outliers), _SHOWN)} of {len(outliers)}",
            caption="The farthest first.",
        )

    def _named(self, row: int) -> tuple[str, str, str]:
        """Path, label and part of a row of the sample."""
        sample = self.prepared.sample
        image = int(sample.rows[row])
        separator = self.prepared.pipeline.data.label_separator or ""  # one label has none
        label = separator.join(sample.images.label_names(image))
        return self._relative(sample.images.paths[image]), label, SPLITS[sample.split[row]]

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
        name: str,
        heading: str,
        text: str,
        found: int,
        header: Sequence[str],
        lines: Sequence[Sequence[str]],
        pictures: Sequence[Picture],
        shown: str,
        *,
        caption: str,
        advice: str = "",
    ) -> Finding:
        """Write CSV and grid. shown : which of the pictures are drawn"""
        table, grid = self.out / f"{name}.csv", self.out / f"{name}.png"
        content = io.StringIO()
        csv.writer(content, lineterminator="\n").writerows([header, *lines])
        write_atomic(table, content.getvalue())
        drawn = pictures[:_SHOWN]
        if drawn:
            draw_grid(drawn, grid, title=f"{heading}: {shown}")
        else:
            grid.unlink(missing_ok=True)  # of an earlier run
        alt = f"{len(drawn)} images. " + "; ".join(", ".join(one.caption) for one in drawn) + "."
        there = grid if drawn else None
        return Finding(name, heading, text, found, header, lines, table, there, alt, caption, advice if found else "")
