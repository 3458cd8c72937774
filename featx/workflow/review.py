"""Search a data set for suspicious images by their features, and write them as files to go through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from featx.backbones import Output
from featx.config import Pipeline
from featx.config.pipeline import command_shown
from featx.dataset import NONE, ImageSet, note_empty_classes
from featx.errors import HeadError
from featx.extraction.extraction import first_row_output
from featx.extraction.sample import Sample
from featx.features import FeaturesError
from featx.io.commands import sentence_without_folders
from featx.io.counting import agreeing, counted
from featx.io.jsontypes import Json
from featx.io.progress import Progress
from featx.quality.inspection import Quality, inspect
from featx.quality.near_duplicates import NEAR
from featx.report.findings import Finding, WrittenFinding, write_finding, write_findings_page
from featx.report.report import INDEX
from featx.report.suspects import ReviewedImages, list_label_errors, list_near_duplicates, list_outliers
from featx.runs.labels import judged_right, read_labelled
from featx.runs.prepared import Prepared
from featx.runs.run import Run
from featx.store.cache import Cache
from featx.workflow.gather import gather
from featx.workflow.prepare import prepare

_NO_LABEL_ERRORS = "Label errors were not looked for:"


@dataclass(frozen=True)
class Review:
    """What was found, and where it was written.

    out : the folder; report : the page in it, None without one
    output : the layer and pooling by whose features images were compared
    quality : rows of the sample; its `errors` are None where label errors were not looked for
    written : the files of each kind that was looked for; notes : what was left out
    """

    prepared: Prepared
    out: Path
    output: str
    quality: Quality
    written: tuple[WrittenFinding, ...]
    notes: tuple[str, ...]
    report: Path | None

    def __repr__(self) -> str:
        found = ", ".join(f"{one.finding.found:,} {one.finding.name.replace('_', ' ')}" for one in self.written)
        return f"<featx Review: {counted(self.images, 'image')} compared by {self.output}; {found}; in {self.out}>"

    @property
    def images(self) -> int:
        """How many different images were compared."""
        return len(self.prepared.sample.rows)

    @property
    def across(self) -> int:
        """How many pairs of near-duplicates are in different parts of the split."""
        return int(self.quality.duplicates.across.sum())

    def as_json(self) -> dict[str, Json]:
        """What `featx check --features --json` prints."""
        extraction, files = self.prepared.extraction, {one.finding.name: _files_as_json(one) for one in self.written}
        pairs = {"across": self.across, "complete": self.quality.duplicates.complete}
        return {
            "out": str(self.out),
            "images": self.images,
            "computed": extraction.computed,
            "reused": extraction.reused,
            "output": self.output,
            "label_errors": files.get("label_errors"),
            "near_duplicates": files["near_duplicates"] | pairs,
            "outliers": files["outliers"],
            "notes": self.notes,
            "report": str(self.report) if self.report else None,
            "bad": extraction.bad,
        }


def prepare_review(pipeline: Pipeline, cache: Cache, progress: Progress) -> Prepared:
    """Images with features to look through; those without labels of two classes are one class, in no part."""
    images = read_labelled(pipeline, cache.index)
    if images.can_be_split:
        return prepare(pipeline, cache, progress, views=False, fits=False)
    run = Run.of(pipeline, images)
    met = run.data.meet(images, cache.index, pipeline)
    found = gather(pipeline, cache, progress, views=False)
    extraction, rows = found.extraction, found.rows
    declared, same = extraction.images.declared, np.zeros(len(rows), np.int64)
    split = np.full(len(rows), NONE, np.uint8) if declared is None else declared[rows]
    sample = Sample(extraction.images, extraction.digests[rows], rows, same, split, None, None, notes=tuple(met))
    return Prepared(pipeline, cache, extraction, sample, run)


def review(prepared: Prepared, out: Path, near: float = NEAR, command: str = "") -> Review:
    """Look for label errors, near-duplicates and outliers; write `<kind>.csv` and `<kind>.png` of each into `out`.

    All of it is also one page, `index.html`, unless the pipeline says not to. Of images with several labels, with the
    same one, or with none, label errors are not looked for.

    near : least cosine similarity of near-duplicates; command : for the page

    Raises
    ------
    HeadError
        Features that are not finite; the images are named.
    """
    images, readable = prepared.extraction.images, prepared.extraction.readable
    output = first_row_output(prepared.extraction.outputs)
    quality, known = _without_judged(_inspect(prepared, output, near), prepared)
    notes = (*note_empty_classes(images, readable), *_notes(quality, output, images), *known)
    written = tuple(write_finding(out, one) for one in _list(quality, ReviewedImages(prepared, command), out, near))
    index = out / INDEX
    if prepared.pipeline.report.html:
        summary = f"{counted(len(prepared.sample.rows), 'different image')}, compared by {output.name}."
        write_findings_page(
            index,
            f"{prepared.run.name}: what to look at",
            summary,
            _shown(written, prepared.pipeline),
            notes,
            command_shown(prepared.pipeline, command),
        )
    else:
        index.unlink(missing_ok=True)  # of an earlier run
    report = index if prepared.pipeline.report.html else None
    return Review(prepared, out, output.name, quality, written, notes, report)


def _without_judged(quality: Quality, prepared: Prepared) -> tuple[Quality, list[str]]:
    """What was found without the labels that a person has said are right, and a note of how many these are."""
    errors, sample = quality.errors, prepared.sample
    if errors is None:
        return quality, []
    right = judged_right(prepared.pipeline, sample.images, prepared.cache.index)[sample.rows[errors.rows]]
    if not right.any():
        return quality, []
    number = int(right.sum())
    what = counted(number, "suspicious label is", "suspicious labels are")
    note = f"{what} not listed: you have said that {agreeing(number, 'it is', 'they are')} right (featx relabel list)."
    return replace(quality, errors=errors.take(~right)), [note]


def _shown(written: Sequence[WrittenFinding], pipeline: Pipeline) -> Sequence[WrittenFinding]:
    """What was written, as the page shows it: the advice without folders unless `report.keep_paths` keeps them."""
    if pipeline.report.keep_paths:
        return written
    bare = [replace(one.finding, advice=sentence_without_folders(one.finding.advice)) for one in written]
    return [replace(one, finding=finding) for one, finding in zip(written, bare, strict=True)]


def _notes(quality: Quality, output: Output, images: ImageSet) -> tuple[str, ...]:
    if quality.errors is None:
        if images.multilabel:
            return (f"{_NO_LABEL_ERRORS} these images have several labels, and the method judges one.",)
        return (f"{_NO_LABEL_ERRORS} these images have {'labels of one class' if images.classes else 'no labels'}.",)
    if quality.learned:
        return ()
    guesses = (
        "cannot predict these labels, so "
        f"{counted(len(quality.errors), 'likely label error is a guess', 'likely label errors are guesses')}"
    )
    advice = "Check that the labels are those of the images, add images, or choose another --layer."
    return (f"The features of {output.name} {guesses}. {advice}",)


def _inspect(prepared: Prepared, output: Output, near: float) -> Quality:
    sample = prepared.sample
    features = prepared.extraction.features(output, sample.rows)
    try:
        return inspect(features, sample.y, sample.split, sample.groups, near, seed=prepared.pipeline.data.seed)
    except FeaturesError as error:
        names = ", ".join(sample.images.paths[sample.rows[row]] for row in error.rows[:3])
        raise HeadError(
            f"{output.name} gives NaN or infinity for {counted(len(error.rows), 'image')}: {names}."
        ) from error


def _list(quality: Quality, images: ReviewedImages, out: Path, near: float) -> list[Finding]:
    errors = [] if quality.errors is None else [list_label_errors(quality.errors, images, out)]
    return [*errors, list_near_duplicates(quality.duplicates, images, near), list_outliers(quality.outliers, images)]


def _files_as_json(written: WrittenFinding) -> dict[str, Json]:
    return {
        "found": written.finding.found,
        "csv": str(written.csv),
        "grid": str(written.grid) if written.grid else None,
    }
