"""Whether a lower precision is worth it for these images, if extracting all of them takes a while."""

from __future__ import annotations

from dataclasses import replace

from featx.errors import BackboneError, DataError
from featx.extraction.flow import usual_rate
from featx.extraction.job import settle
from featx.extraction.precision_trial import WORTH_A_LINE, PrecisionTrial, images_to_try, try_shorter
from featx.extraction.request import request_images
from featx.first_look.study import Study
from featx.io.counting import counted, duration

_UNLIMITED = 60.0  # seconds of a trial where a look may take any


def try_precision(study: Study, output: str, seconds: float | None) -> PrecisionTrial | None:
    """Measure bfloat16 on some of the sample; None where it cannot be had, saves less than a minute, or time is up.

    output : layer@pooling; seconds : that there are; None: as many as it takes
    """
    options = replace(study.pipeline.features, layer=(output,), pooling=())
    try:
        job = settle(options, study.cache)
        rate = usual_rate(study.cache.index, job.store)
        if rate is None or len(study.images) / rate < WORTH_A_LINE:
            return None
        count = images_to_try((_UNLIMITED if seconds is None else seconds) / 2, 1 / rate)  # half of it is for compiling
        request = request_images(study.plain, study.cache.index, study.progress)
        trial = try_shorter(job, request, range(min(count, len(request))), job.outputs)
    except (BackboneError, DataError):
        return None  # of which the rest of the look has the reason
    # The rate is of a small sample, in which the network was also built.
    return None if trial is None or trial.seconds * len(study.images) < WORTH_A_LINE else trial


def note_precision(trial: PrecisionTrial, images: int) -> str:
    """What was measured, for all images of the data."""
    exact = trial.seconds * images
    return (
        f"Inference of all {counted(images, 'image')} would take about {duration(exact)} in float32, and about "
        f"{duration(exact / trial.faster)} with --precision bfloat16: {trial.sentence}."
    )
