"""Labels judged on the page, stored together with those of `featx relabel`, and those stored before.

Only labels of the data can be judged: an image that had none gets its label by the CSV. Where images have several
labels, the CSV is all there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featx.config import Pipeline
from featx.dataset import ImageSet, digest_images
from featx.io.compact import RowLookup
from featx.io.digest_arrays import has_digest
from featx.io.index import StatIndex
from featx.runs.labels import KeptLabel, KeptLabels
from featx.runs.run import Run
from featx.serve.label_journal import CHECKED, CHOSEN, LabelEntry, LabelJournal
from featx.serve.label_types import NOWHERE, LabelSheet, LabelStore
from featx.store.cache import Cache


@dataclass(frozen=True)
class JudgedRows:
    """The rows of one data set on a sheet, and where its judged labels are.

    first, last : of the rows, the last one not among them; before : digest -> what was known when this began
    """

    kept: KeptLabels
    first: int
    last: int
    before: dict[str, KeptLabel] = field(default_factory=dict)


def label_store(sheet: LabelSheet, sets: Sequence[ImageSet], pipeline: Pipeline, cache: Cache) -> LabelStore:
    """What is known of the labels of image sets, which follow each other on the sheet, and where answers to them go.

    Raises
    ------
    UsageError
        The run of that name has the results of other images.
    DataError
        A file of judged labels that was damaged.
    """
    judged, kept, at = list[JudgedRows](), dict[int, LabelEntry](), 0
    for images in sets:
        first, at = at, at + len(images)
        if images.labels is None or images.multilabel or not (images.labels >= 0).any():
            continue
        run = _run(pipeline, images, own=not first)
        if Run.of_list(Path(images.source)) is None:
            run.data.meet(images, cache.index, pipeline)
            run.data.remember(images, pipeline.data)
        one = JudgedRows(KeptLabels(run.path), first, at, KeptLabels(run.path).known())
        judged.append(one)
        kept |= _known(one, sheet, cache.index)
    if not judged:
        return NOWHERE
    return LabelStore(kept, _keeper(judged, sheet, cache.index.path))


def _run(pipeline: Pipeline, images: ImageSet, *, own: bool) -> Run:
    """The run of the data, or that of further labelled images, which has their own name."""
    if not own:
        return Run(Path(pipeline.report.runs) / images.name)
    listed = Run.of_list(Path(images.source)) if pipeline.report.name is None else None
    return listed or Run.of(pipeline, images)


def _known(judged: JudgedRows, sheet: LabelSheet, index: StatIndex) -> dict[int, LabelEntry]:
    """What is known already of rows whose label in the data is that of then, or the judged one."""
    if not judged.before:
        return {}
    found = dict[int, LabelEntry]()
    digests = digest_images(sheet.paths[judged.first : judged.last], index).digest
    for row, digest in enumerate(digests.tolist(), judged.first):
        one, given = judged.before.get(digest.hex()), sheet.given[row]
        if one is not None and given and given[0] in {one.given, one.label}:
            how = CHECKED if one.label == given[0] else CHOSEN
            found[row] = LabelEntry(sheet.paths[row], how, (one.label,), None, "", 0.0)
    return found


def _keeper(judged: Sequence[JudgedRows], sheet: LabelSheet, index: Path) -> Callable[[LabelJournal], None]:
    """What takes in the answers that were given since the last time."""
    lookup = RowLookup(sheet.paths)  # of two equal paths either will do: they are one file

    def keep(journal: LabelJournal) -> None:
        name = str(journal.path.resolve())
        for one in judged:
            paths, length = journal.since(one.kept.taken(name)), journal.length
            found = [lookup.find(path) for path in paths]
            rows = [row for row in found if row is not None and one.first <= row < one.last]
            if not rows:
                continue
            with StatIndex(index) as remembered:  # of this thread
                digests = digest_images([sheet.paths[row] for row in rows], remembered).digest
            changes = dict[str, KeptLabel | None]()
            for row, digest, readable in zip(rows, digests.tolist(), has_digest(digests).tolist(), strict=True):
                last, given = journal.last(sheet.paths[row]), sheet.given[row]
                if readable and given:
                    is_label = last is not None and last.is_label
                    label = KeptLabel(last.labels[0], given[0], sheet.paths[row]) if last and is_label else None
                    changes[digest.hex()] = label or one.before.get(digest.hex())
            one.kept.take(changes, name, length)

    return keep
