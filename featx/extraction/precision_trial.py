"""What bfloat16 would save in a long extraction, and how far its features differ, measured on a few images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np

from featx.backbones import Output
from featx.engines.choice import effective_precision
from featx.engines.protocol import Engine
from featx.errors import EngineError
from featx.extraction.int8_cost import row_cosines
from featx.extraction.job import Job
from featx.extraction.network import open_engine
from featx.extraction.request import Request
from featx.images.batches import Decoding, iter_batches
from featx.io.counting import counted, duration
from featx.io.jsontypes import Json

WORTH_A_LINE = 60.0  # seconds that an extraction takes at least
_SHORTER: Final = "bfloat16"
_FEWEST, _MOST = 16, 64  # images of a trial
_WARM = 8  # images of the first use of an engine, which compiles it and is not timed
_PASSES = 1.7  # times that float32 takes for the images of a trial, which both precisions take
_SHARE = 0.03  # of the time that is left, which a trial may take
_LEAST_GAIN = 0.8  # of the time that is left, which another precision takes at most to be worth a line


@dataclass(frozen=True)
class PrecisionTrial:
    """Two precisions of one network on the same images.

    images : how many; seconds : of inference of one in float32; faster : images per second, bfloat16 / float32
    cosine, worst : between the features of an image in both, the median and the least of all images and outputs
    """

    images: int
    seconds: float
    faster: float
    cosine: float
    worst: float

    @property
    def sentence(self) -> str:
        """What was measured."""
        return (
            f"measured on {self.images} of these images, it infers {self.faster:.1f} times as fast, and its features "
            f"have a cosine of {self.cosine:.4f} to those of float32 (the worst image {self.worst:.3f})"
        )

    def as_json(self) -> dict[str, Json]:
        """For scripts."""
        return {"precision": _SHORTER, **asdict(self)}


def images_to_try(seconds: float, each: float) -> int:
    """How many images a trial of about these seconds has, where one takes `each` in float32; 0: too few."""
    count = min(_MOST, int(seconds / (_PASSES * max(each, 1e-6))))
    return count if count >= _FEWEST else 0


def try_shorter(
    job: Job, request: Request, rows: Sequence[int], outputs: tuple[Output, ...], exact: Engine | None = None
) -> PrecisionTrial | None:
    """Run both precisions on these rows; None where this machine has no bfloat16, or the job is not in float32.

    exact : the engine of the job, where it has been in use
    """
    if not len(rows) or not _may_be_shorter(job):
        return None
    images = _decode(job, request, rows)
    if len(images) < 2:
        return None
    short = _warmed(open_engine(outputs, job.spec, replace(job.options, precision=_SHORTER), job.store.graphs), images)
    exact = exact or _warmed(open_engine(outputs, job.spec, job.options, job.store.graphs), images)
    before, seconds = _timed(exact, images)
    after, shorter = _timed(short, images)
    found = np.concatenate([_cosines(before[name], after[name]) for name in before])
    each = seconds / len(images)
    return PrecisionTrial(len(images), each, seconds / shorter, float(np.median(found)), float(found.min()))


def _warmed(engine: Engine, images: np.ndarray) -> Engine:
    engine.infer(images)
    return engine


def _timed(engine: Engine, images: np.ndarray) -> tuple[dict[str, np.ndarray], float]:
    start = time.perf_counter()
    return engine.infer(images), time.perf_counter() - start


@dataclass(frozen=True)
class Pace:
    """How fast an extraction goes. total, done : images; elapsed : seconds so far, infer : of them of inference."""

    total: int
    done: int
    elapsed: float
    infer: float

    @property
    def each(self) -> float:
        """Seconds of an image."""
        return self.elapsed / self.done

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.each * (self.total - self.done)

    @property
    def images_to_try(self) -> int:
        """Images of a trial that takes little of what is left; 0 where that is too short to be worth one."""
        if self.left < WORTH_A_LINE:
            return 0
        return max(_FEWEST, images_to_try(_SHARE * self.left, self.each))

    def whole(self, trial: PrecisionTrial) -> float:
        """Seconds of all images in the shorter precision; what is not inference stays as it is."""
        saved = min(1.0, self.infer / self.elapsed) * (1 - 1 / trial.faster)
        return self.each * self.total * (1 - saved)


def advise(trial: PrecisionTrial, pace: Pace) -> str:
    """The line for an extraction that takes long, or nothing where bfloat16 would save little."""
    left, other = pace.left, pace.whole(trial)
    if other > _LEAST_GAIN * left:
        return ""
    return (
        f"About {duration(left)} left. With --precision bfloat16 all {counted(pace.total, 'image')} would take about "
        f"{duration(other)}: {trial.sentence}. --precision int8 is faster still, and shows what it costs first."
    )


def _may_be_shorter(job: Job) -> bool:
    if job.engine != "openvino" or job.options.precision != "float32":
        return False
    try:
        return effective_precision(job.engine, _SHORTER) == _SHORTER
    except EngineError:
        return False


def _decode(job: Job, request: Request, rows: Sequence[int]) -> np.ndarray:
    """Images of rows, uint8 (n, height, width, 3); those that cannot be read are left out."""
    reading = Decoding(job.spec.input_size, job.spec.resize, max(len(rows), 1), job.options.workers)
    return np.concatenate([batch.images for batch in iter_batches(request.sources, rows, reading)])


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return row_cosines(a.reshape(len(a), -1), b.reshape(len(b), -1))
