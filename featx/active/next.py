"""Which images to label next: read the pool, ask the model, rank, write the list and the page.

open_pool    images without a label, and the features that the model predicts from (`pool`)
ask          what the model answers, and how unsure it is (`answers`)
rank         typical, different, uncertain: one number (`ranking`, `coverage`, `space`)
describe     why, in words (`suggested`)
write        a CSV, image grids, one page (`next_page`)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from featx.active.answers import PoolAnswers, ask
from featx.active.next_page import write_lists
from featx.active.pool import Pool, open_pool
from featx.active.ranking import Doubts, Ranking, rank
from featx.active.suggested import Narrator, Suggested
from featx.bundle.bundle import Bundle
from featx.config import Pipeline
from featx.inference.predict import Unread
from featx.io.context import Context
from featx.io.counting import agreeing, counted, counted_of
from featx.io.jsontypes import Json
from featx.runs.run import Run
from featx.store.cache import Cache


@dataclass(frozen=True)
class NextImages:
    """The images to label next, the best first, and where they are written.

    images : to label; unknown : images unlike all that the model was fitted on, apart from these
    pool : different images without a label; known : left out, since the model was made with them
    unread : images that could not be read; output : the layers and poolings by which images were compared
    csv, unknown_csv : the lists, None where there is none; report : the page, None without one
    """

    images: tuple[Suggested, ...]
    unknown: tuple[Suggested, ...]
    pool: int
    known: int
    output: str
    unread: tuple[Unread, ...]
    notes: tuple[str, ...]
    csv: Path
    unknown_csv: Path | None
    report: Path | None

    def as_json(self) -> dict[str, Json]:
        """What `featx next --json` prints."""
        return {
            "images": [asdict(one) for one in self.images],
            "unknown": [asdict(one) for one in self.unknown],
            "pool": self.pool,
            "known": self.known,
            "output": self.output,
            "notes": list(self.notes),
            "csv": str(self.csv),
            "unknown_csv": str(self.unknown_csv) if self.unknown_csv else None,
            "report": str(self.report) if self.report else None,
            "bad": [asdict(one) for one in self.unread],
        }


def choose_next(
    pipeline: Pipeline, bundle: Bundle | None, cache: Cache, out: Path | None = None, context: Context = Context()
) -> NextImages:
    """Choose images of the pool `data.path`, and write `next.csv`, `unknown.csv` and, unless it says not to, a page.

    bundle : the model; None: from nothing, by what is typical and different
    out : the folder; None: `next` in that of the pipeline's results

    Raises
    ------
    DataError
        No image can be read, or all have a label already.
    HeadError
        Features that are not finite.
    """
    options, seed = pipeline.next, pipeline.data.seed
    pool = open_pool(pipeline, bundle, cache, context.progress)
    for note in pool.images.notes:
        context.notify(note)
    answers = None if bundle is None else ask(bundle, pool.features, context.progress)
    near, far = _apart(len(pool), answers, options.far)
    doubts = None if bundle is None or answers is None else _doubts(answers, options.doubt, near, bundle)
    ranking = rank(pool.features.take(near), doubts, pool.labelled, options.count, options.same, seed)
    strange = rank(pool.features.take(far), None, None, options.count, options.same, seed) if len(far) else None
    narrator = Narrator(() if bundle is None else bundle.classes, answers)
    images = narrator.describe(ranking, near, _paths(pool, near, ranking))
    unknown = () if strange is None else narrator.describe(strange, far, _paths(pool, far, strange))
    out = out or Run.of(pipeline, pool.images).next
    notes = _notes(pool, len(images), len(far), options.count, options.far)
    summary = f"{counted_of(len(images), len(pool), 'image')} without a label, compared by {pool.output}."
    lists = write_lists(out, images, unknown, summary, notes, context.command if pipeline.report.html else None)
    return NextImages(
        images, unknown, len(pool), pool.known, pool.output, pool.unread, notes, lists.csv, lists.unknown, lists.page
    )


def _paths(pool: Pool, places: np.ndarray, ranking: Ranking) -> list[str]:
    return [pool.path(row) for row in places[ranking.rows].tolist()]


def _apart(n: int, answers: PoolAnswers | None, far: float) -> tuple[np.ndarray, np.ndarray]:
    """The rows that are ranked, and those that are unlike all training images; where all are, all are ranked."""
    if answers is None or answers.distance is None:
        return np.arange(n), np.empty(0, np.int64)
    strange = answers.distance > far
    return (
        (np.arange(n), np.empty(0, np.int64)) if strange.all() else (np.flatnonzero(~strange), np.flatnonzero(strange))
    )


def _doubts(answers: PoolAnswers, measure: str, rows: np.ndarray, bundle: Bundle) -> Doubts | None:
    if measure == "none":
        return None
    values = (answers.margin if measure == "margin" else answers.entropy)[rows].astype(np.float64)
    return Doubts.of(values, len(bundle.seen().trained), len(bundle.classes))


def _notes(pool: Pool, chosen: int, unknown: int, count: int, far: float) -> tuple[str, ...]:
    notes = []
    if pool.known:
        notes.append(pool.note_known())
    if unknown:
        notes.append(
            f"{counted(unknown, 'image is', 'images are')} farther than {far:g} from all training images and listed "
            "apart: another kind of image, or a class that the model does not know."
        )
    if chosen < count:
        notes.append(
            f"No more than {counted(chosen, 'image')} to choose from {agreeing(chosen, 'differs', 'differ')}; "
            f"{count:,} {agreeing(count, 'was', 'were')} asked for."
        )
    return tuple(notes)
