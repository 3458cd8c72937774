"""Compare many models: data sets x backbones x layers x poolings x heads x what is trained, in one table.

Every data set passes every backbone once, for all layers and poolings together. Each combination is a bundle of its
own in `<runs>/<name>/<data set>/`, so what was finished is found again by its fingerprint: an interrupted comparison
goes on, and one that is finished computes nothing. What fails is a line of the table with its reason.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.bundle.bundle import Bundle, load_bundle
from featx.bundle.manifest import Manifest
from featx.comparing.cells import Cell, Work, run_pass
from featx.comparing.memory import Memory
from featx.comparing.plan import Combination, Pass, name_of, plan
from featx.comparing.ties import judge_ties
from featx.config import Pipeline
from featx.config.pipeline import as_shown, command_shown
from featx.errors import DataError
from featx.images.batches import Decoding, iter_batches
from featx.inference.speed import images_per_second
from featx.io.context import Context
from featx.io.counting import counted, none_of
from featx.io.jsontypes import Json
from featx.metrics.table import is_better, metric_key, signed_score
from featx.report.compared import Place, Row
from featx.report.comparison import write_comparison
from featx.store.cache import Cache

__all__ = ["Combination", "Compared", "Pass", "Place", "Row", "compare", "plan"]

_MEMORY = "compare.json"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compared:
    """A finished comparison: the rows of the table, the files that it was written to, and what was computed for it."""

    rows: tuple[Row, ...]
    files: dict[str, str | None]
    computed: dict[str, int]

    @property
    def failed(self) -> list[Row]:
        """The rows without a model."""
        return [row for row in self.rows if row.reason is not None]

    def as_json(self) -> dict[str, Json]:
        """What `featx compare --json` prints."""
        best = {row.place.data: row.bundle for row in self.rows if row.best}
        rows = [row.as_json() for row in self.rows]
        return {"rows": rows, "best": best, "failed": len(self.failed), "computed": self.computed, **self.files}


def compare(pipeline: Pipeline, cache: Cache, context: Context = Context()) -> Compared:
    """Make every model that the pipeline's section `compare` asks for and is not there yet, and write the table.

    What is best is chosen by validation. Test figures are read once all is chosen.

    Raises
    ------
    UsageError
        What `plan` raises; a combination that fails later is a row with its reason.
    """
    passes = plan(pipeline)
    folder = Path(pipeline.report.runs) / name_of(pipeline)
    work = Work(Memory(folder / _MEMORY), cache, context)
    cells = [cell for one in passes for cell in run_pass(one, work)]
    best = _choose_best(cells)
    speeds = [_measure_speed(cell, work) for cell in cells]
    rows = tuple(
        judge_ties(
            [
                _describe(cell, number in best, speed)
                for number, (cell, speed) in enumerate(zip(cells, speeds, strict=True))
            ],
            [None if cell.bundle is None else cell.bundle.manifest for cell in cells],
        )
    )
    title = f"{name_of(pipeline)}: {counted(len(rows), 'model')} compared"
    command = command_shown(pipeline, context.command)
    plots = pipeline.report.plots if pipeline.report.html else None
    files = write_comparison(folder, title, rows, command, as_shown(pipeline), plots)
    return Compared(rows, files, work.computed)


def _choose_best(cells: Sequence[Cell]) -> set[int]:
    """The positions of the best of each data set by validation; of equal ones the first."""
    best: dict[str, tuple[float, int]] = {}
    kinds: dict[str, tuple[str, str]] = {}
    for number, cell in enumerate(cells):
        score = None if cell.bundle is None else cell.bundle.manifest.score
        if score is None or score.value is None:
            continue
        data, kind = cell.place.data, (score.metric, score.where)
        value = signed_score(score.metric, score.value)
        if kinds.setdefault(data, kind) == kind and (data not in best or value > best[data][0]):
            best[data] = value, number
    return {number for _, number in best.values()}


def _measure_speed(cell: Cell, work: Work) -> float | None:
    """Images per second that the cell's bundle predicts with its engine, decoded before; remembered."""
    if cell.bundle is None:
        return None
    digest = cell.bundle.manifest.digest
    known = work.memory.speed(digest)
    if known is not None:
        return known
    work.context.progress("speed", 0, 0)
    work.context.notify(f"{cell.place}: measuring the speed of predictions")
    try:
        bundle = load_bundle(cell.bundle.path)
        speed = images_per_second(lambda images: bundle.probabilities(bundle.features(images)), _read(cell, bundle))
    except Exception as error:  # a speed is not worth a table
        _logger.warning("The speed of %s was not measured: %s", cell.bundle.path, error)
        return None
    work.computed["speeds"] += 1
    work.memory.remember_speed(digest, speed)
    return speed


def _read(cell: Cell, bundle: Bundle) -> np.ndarray:
    count, resize = len(cell.sample), bundle.manifest.backbone.resize
    images = next(iter_batches(cell.sample, range(count), Decoding(bundle.input_size, resize, count))).images
    if not len(images):
        raise DataError(f"{none_of(count, 'image')} can be read any more.")
    return images


def _describe(cell: Cell, best: bool, speed: float | None) -> Row:
    """The row of a cell. Here, after everything is chosen, test figures are read for the first time."""
    if cell.bundle is None:
        return Row(cell.place, cell.reason, share=cell.share)
    manifest = cell.bundle.manifest
    score, test = manifest.score, manifest.metrics_on("test")
    name = metric_key("accuracy", manifest.target)
    low, high = (test.intervals or {}).get(name) or (None, None)
    gain, helped = _judge_training(manifest, name)
    return Row(
        cell.place,
        best=best,
        metric=score.metric,
        score=score.value,
        where=score.where,
        val_accuracy=manifest.metrics_on("val").get(name),
        test_accuracy=test.get(name),
        low=low,
        high=high,
        test_images=test.images,
        gain=gain,
        helped=helped,
        extract_seconds=cell.extract_seconds,
        fit_seconds=manifest.seconds,
        features=manifest.head.features,
        bytes=sum((cell.bundle.path / file).stat().st_size for file in manifest.files),
        images_per_second=speed,
        share=cell.share,
        weights=manifest.backbone.weights or None,
        score_images=manifest.scored_on,
        bundle=str(cell.bundle.path),
        digest=manifest.digest,
    )


def _judge_training(manifest: Manifest, name: str) -> tuple[float | None, bool | None]:
    """What training has added to the accuracy on test, and whether it raised the score; None for a head."""
    if manifest.origin is None:
        return None, None
    origin, metric = manifest.origin, manifest.score.metric
    old, new = origin.metrics_on("test").get(name), manifest.metrics_on("test").get(name)
    scores = origin.metrics_on("val").chosen_by(metric), manifest.metrics_on("val").chosen_by(metric)
    helped = None
    if scores[0] is not None and scores[1] is not None:
        helped = is_better(metric, scores[1], scores[0])
    return None if old is None or new is None else new - old, helped
