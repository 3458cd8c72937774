"""Whether a larger input size would help: a linear head on some images at two sizes, in the time available.

A network that was trained at 224 pixels takes 448 as well. Fine structure (veins, scratches, small print) that is lost
at the smaller size is there at the larger one, for four times the work.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace

import numpy as np

from featx.backbones import Output, resolve
from featx.config import FeaturesOptions
from featx.errors import BackboneError, DataError
from featx.extraction.flow import extract
from featx.first_look.advice import difference_error, margin
from featx.first_look.depths import judge_output
from featx.first_look.study import Study, different_rows, draw_sample
from featx.images.decoder import decode
from featx.images.fault import BadImage
from featx.io.counting import counted
from featx.io.jsontypes import Json
from featx.metrics.predictions import target_of
from featx.metrics.scores import resolve_metric
from featx.metrics.table import metric_label
from featx.selection.folds import make_folds

_LEAST = 60  # images; on fewer, only differences of some 10 points are more than chance
_MOST = 300  # where their number was not asked for
_LOOKED_AT = 15  # images whose own size is looked at
_TRIED = (8, 12)  # images: the first builds and converts the network, the others show how fast it is
_STEP = 32  # pixels: sizes are multiples of it, as the maps of most networks halve five times
_LEAST_RATIO, _RATIO = 1.25, 2.0
_FOLDS = 5


@dataclass(frozen=True)
class LargerSize:
    """What a larger input size brought.

    Attributes
    ----------
    side, usual : of the images that the network is given, in pixels
    output : on which a linear head was judged; images : how many it was judged on at both sizes; metric : in words
    score, before : by folds, at the larger and at the usual size; chance : how large a difference could be chance
    """

    side: int
    usual: int
    output: str
    images: int
    metric: str
    score: float
    before: float
    chance: float

    @property
    def better(self) -> bool:
        """Whether it is better by more than noise."""
        return self.score - self.before > self.chance

    @property
    def sentence(self) -> str:
        """What was found, and what it costs."""
        sizes = f"{self.side} x {self.side} pixels instead of {self.usual} x {self.usual}"
        found = (
            f"At {sizes}, a linear head on {self.output} has {self.score:.3f} instead of {self.before:.3f} "
            f"({self.metric}), both on the same {counted(self.images, 'image')}: "
        )
        if self.better:
            times = (self.side / self.usual) ** 2
            return (
                f"{found}{self.score - self.before:.3f} more, where {self.chance:.3f} could be chance. Fine structure "
                f"matters here. Every image then takes about {times:.1f} times as long, in extraction and prediction."
            )
        if self.before - self.score > self.chance:
            return f"{found}the larger size is worse."
        return f"{found}no more than could be chance ({self.chance:.3f})."

    def as_json(self) -> dict[str, Json]:
        """What `featx look --json` prints of it."""
        return asdict(self) | {"better": self.better}


def try_larger(study: Study, output: str, seconds: float | None) -> tuple[LargerSize | None, str]:
    """Judge an output at a larger size of the images; also a note where that was worth a try and there was no time.

    Nothing is tried where the images are no larger than the network takes them, or the network has one size alone.

    output : layer@pooling; seconds : that there are; None: as many as it takes
    """
    start, options = time.perf_counter(), study.pipeline.features
    spec = resolve(options)
    (height, usual) = spec.input_size
    side = min(int(_RATIO * usual), _own_side(study)) // _STEP * _STEP
    if height != usual or side < _LEAST_RATIO * usual:
        return None, ""
    larger = replace(options, layer=(output,), pooling=(), input_size=side)
    order = draw_sample(study.sample, _MOST if seconds is not None else len(study.sample), study.pipeline.data.seed)
    note = (
        f"The images are larger than the {usual} x {usual} pixels that the network is given, and there was no time to "
        f"see whether more would help. Try it: --input-size {side}."
    )
    try:
        count = len(order) if seconds is None else _affordable(study, larger, order, seconds + start)
        if count < min(_LEAST, len(order)):
            return None, note
        return _compare(study, larger, np.sort(order[:count]), usual), ""
    except (BackboneError, DataError):
        return None, ""  # of a network that cannot be built at this size


def _own_side(study: Study) -> int:
    """The smaller side of the images, in the median."""
    sides = []
    for path in study.sample.paths[:: max(1, len(study.sample.paths) // _LOOKED_AT)]:
        try:
            sides.append(min(decode(path).size))
        except BadImage:
            continue
    return int(np.median(sides)) if sides else 0


def _affordable(study: Study, larger: FeaturesOptions, order: np.ndarray, until: float) -> int:
    """How many images there is time for, by what a few take now."""
    done = 0
    took = 0.0
    for count in _TRIED:
        began = time.perf_counter()
        if began >= until:
            return 0
        extract(study.plain.take(order[done : done + count]), larger, study.cache, study.progress)
        took, done = time.perf_counter() - began, done + count
    each = max(took / _TRIED[-1], 1e-6)
    return int(min(len(order), done + max(0.0, until - time.perf_counter()) / each))


def _compare(study: Study, larger: FeaturesOptions, rows: np.ndarray, usual: int) -> LargerSize | None:
    """Judge the same rows at both sizes."""
    output = Output.parse(larger.layer[0])
    some = study.plain.take(rows)
    done = [
        extract(some, options, study.cache, study.progress) for options in (replace(larger, input_size=usual), larger)
    ]
    own = different_rows(done[0])
    own = own[done[1].readable[own]]
    labels = study.sample.labels
    assert labels is not None
    y = labels[rows[own]]
    test_fold = make_folds(y, study.groups(rows[own]), _FOLDS, study.pipeline.data.seed)
    if not (test_fold >= 0).any() or (y.ndim == 1 and len(np.unique(y)) < 2):
        return None
    metric = resolve_metric("auto", target_of(y))
    (before, then), (score, now) = (
        judge_output(one.features(output, own), y, test_fold, metric, study.pipeline.data.seed) for one in done
    )
    error = None if now is None or then is None else difference_error(now.tolist(), then.tolist())
    return LargerSize(
        side=int(larger.input_size or usual),
        usual=usual,
        output=output.name,
        images=int((test_fold >= 0).sum()),
        metric=metric_label(metric).lower(),
        score=score,
        before=before,
        chance=margin(error),
    )
