"""Whether there are enough images: accuracy against their number, and the gain to expect from more.

prepare          features from the cache, the split of the run; test images are left alone
measure_curve    a quick head on growing parts of train and val, measured on the rest (in `quality`)
forecast_points  how the curve goes on, and how sure that is (in `report`, by `quality.powerlaw`)
write_enough     a CSV, a plot, one page (in `report`)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from featx.active.pool import one_output
from featx.config import Pipeline
from featx.dataset import TEST, TRAIN
from featx.features import width
from featx.io.context import Context
from featx.io.counting import counted
from featx.io.jsontypes import Json
from featx.quality.curve import LearningCurve, measure_curve, most_rows
from featx.report.enough import write_enough
from featx.report.growth import (
    ACCURACY,
    PRECISION,
    CurvePoint,
    ForecastPoint,
    curve_points,
    forecast_points,
    usual_more,
)
from featx.store.cache import Cache
from featx.workflow.prepare import prepare

_SEVERAL = "Images have several labels here: what is measured is the mean average precision over the labels."


@dataclass(frozen=True)
class Enough:
    """How accuracy grows with the number of training images.

    now : images that a head is fitted on at present, those of the part train
    curve : what was measured, of a logistic regression; forecast : what more images would bring
    output : the layer and pooling; repeats : of each measurement
    notes : what to know; csv, plot : files; report : the page, None without one
    """

    now: int
    curve: tuple[CurvePoint, ...]
    forecast: tuple[ForecastPoint, ...]
    output: str
    repeats: int
    notes: tuple[str, ...]
    csv: Path
    plot: Path
    report: Path | None

    def as_json(self) -> dict[str, Json]:
        """What `featx enough --json` prints."""
        return {
            "now": self.now,
            "curve": [asdict(one) for one in self.curve],
            "forecast": [asdict(one) for one in self.forecast],
            "output": self.output,
            "repeats": self.repeats,
            "notes": list(self.notes),
            "csv": str(self.csv),
            "plot": str(self.plot),
            "report": str(self.report) if self.report else None,
        }


def find_enough(pipeline: Pipeline, cache: Cache, out: Path | None = None, context: Context = Context()) -> Enough:
    """Measure the curve of `data.path`, extrapolate it, and write `enough.csv`, `enough.png` and a page.

    out : the folder; None: `enough` in that of the pipeline's results

    Raises
    ------
    DataError
        Too few images for a curve.
    """
    prepared = prepare(pipeline, cache, context.progress, views=False)
    sample, seed = prepared.sample, pipeline.data.seed
    output = one_output(prepared.extraction)
    rows = np.flatnonzero(sample.split != TEST)
    features = prepared.extraction.features(output, sample.rows[rows])
    groups = None if sample.groups is None else sample.groups[rows]
    repeats = pipeline.enough.repeats
    found = measure_curve(features, sample.y[rows], groups, repeats, seed, context.progress)
    now = int((sample.split == TRAIN).sum())
    y = sample.y[rows]
    codes = np.unique(y) if y.ndim == 1 else np.flatnonzero(y.any(axis=0))
    curve = tuple(curve_points(found, [sample.images.classes[code] for code in codes.tolist()]))
    more = pipeline.enough.more or usual_more(now)
    forecast = tuple(forecast_points(found, now, more, ACCURACY if y.ndim == 1 else PRECISION))
    notes = (
        (
            f"Measured with a logistic regression on {output.name}, {counted(repeats, 'time')} on a quarter of train "
            "and val; other heads and networks have other curves."
        ),
        *((_SEVERAL,) if y.ndim == 2 else ()),
        *_note_drawn(len(rows), most_rows(width(features))),
        *_note_far(found, now, more),
    )
    out = out or prepared.run.enough
    files = write_enough(out, curve, forecast, notes, context.command if pipeline.report.html else None)
    return Enough(now, curve, forecast, output.name, repeats, notes, files.csv, files.plot, files.page)


def _note_drawn(images: int, most: int) -> tuple[str, ...]:
    return (f"The curve is of {most:,} of {images:,} train and val images, drawn at random.",) if images > most else ()


def _note_far(found: LearningCurve, now: int, more: tuple[int, ...]) -> tuple[str, ...]:
    most = int(found.sizes[-1])
    if now + max(more) <= 8 * most:
        return ()
    return (f"Beyond {counted(8 * most, 'image')}, eight times what was measured, the forecast was not checked.",)
