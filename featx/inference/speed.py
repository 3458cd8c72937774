"""The speed of a model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

_LEAST_SECONDS, _LEAST_CALLS = 0.4, 3  # of a measured speed


def images_per_second(run: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> float:
    """How many images a second a model answers, by the median of its calls after one that is not counted.

    run : takes all of `images`, uint8 (n, height, width, 3), at once
    """
    run(images)
    seconds: list[float] = []
    while len(seconds) < _LEAST_CALLS or sum(seconds) < _LEAST_SECONDS:
        start = time.perf_counter()
        run(images)
        seconds.append(time.perf_counter() - start)
    return len(images) / statistics.median(seconds)
