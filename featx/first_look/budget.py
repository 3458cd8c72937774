"""How many images to run networks on, so that a first look stays within a minute on a slow machine."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from featx.errors import BackboneError, DataError
from featx.extraction.flow import extract, plan
from featx.first_look.depths import depth_options, depths_of
from featx.first_look.imagenet import has_own_answers
from featx.first_look.study import Scope, Study, draw_sample
from featx.io.counting import counted

_LEAST = 40  # images that layers are judged on, however slow a network is
_TRIALS = (8, 8, 24)  # images: the first builds and converts the network, the others differ by what images cost


def limit_sample(study: Study, scope: Scope, seed: int, without: Collection[int]) -> tuple[Study, tuple[str, ...]]:
    """The study with a sample of its images, as many as the scope asks for and its seconds are enough for, and a note.

    A smaller sample is a part of a larger one, so that nothing is computed in vain.

    without : positions that are left out
    """
    start, sample = time.perf_counter(), _sampled(study, scope.sample, seed, without)
    labelled = study.images.labels is not None and len(study.images.classes) > 1
    if scope.seconds is None or not scope.advice or not labelled or len(sample.sample) <= _LEAST:
        return sample, ()
    try:
        seconds = _estimate(sample, _sampled(study, _LEAST, seed, without))
    except (BackboneError, DataError):
        return sample, ()  # which the look itself reports
    left = scope.seconds - (time.perf_counter() - start)
    if seconds <= max(left, 0.0):
        return sample, ()
    most = max(_LEAST, int(len(sample.sample) * left / seconds))
    if most >= len(sample.sample):
        return sample, ()
    fewer = _sampled(study, most, seed, without)
    note = (
        f"Networks were run on {counted(len(fewer.sample), 'image')}, since all {len(sample.sample):,} of the sample "
        f"would take about {seconds:.0f} s. More: --sample {len(sample.sample)}."
    )
    return fewer, (note,)


def _sampled(study: Study, most: int, seed: int, without: Collection[int]) -> Study:
    return replace(study, sample=study.images.take(draw_sample(study.images, most, seed, without)))


def _estimate(sample: Study, least: Study) -> float:
    """Seconds that networks will take for what is missing of the sample, by what a few images take now."""
    options, cache = sample.pipeline.features, sample.cache
    options = depth_options(options, depths_of(options, cache))
    missing = plan(sample.plain, options, cache).rows
    first = plan(least.plain, options, cache).rows  # which are of every sample
    paths = [least.sample.paths[row] for row in first.tolist()] + [sample.sample.paths[row] for row in missing.tolist()]
    place = {path: row for row, path in enumerate(sample.sample.paths)}
    rows = np.array([place[path] for path in dict.fromkeys(paths) if path in place], np.int64)
    if len(rows) <= sum(_TRIALS):
        return 0.0
    took, start = [], 0
    for count in _TRIALS:
        began = time.perf_counter()
        extract(sample.plain.take(rows[start : start + count]), options, cache, sample.progress)
        took.append(time.perf_counter() - began)
        start += count
    each = max(0.0, took[2] - took[1]) / (_TRIALS[2] - _TRIALS[1])
    return each * (len(rows) - start) * (2 if has_own_answers(sample.pipeline.features) else 1)
