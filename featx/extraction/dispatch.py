"""Compute what is planned, in this process or on a cluster."""

from __future__ import annotations

import time
from dataclasses import asdict

from featx.extraction.computation import Computation
from featx.extraction.computed import Computed
from featx.extraction.planning import check_space, remember_rate
from featx.extraction.ray.flow import compute_on_cluster
from featx.extraction.work import compute_here
from featx.io.progress import Progress


def compute(work: Computation, progress: Progress) -> Computed:
    """Compute and write the planned rows, if there are any."""
    job = work.job
    if not len(work.plan.rows):
        return Computed()
    start = time.perf_counter()
    check_space(work.plan, job.store.directory)
    made_of = {**asdict(job.spec), "engine": job.engine}
    if job.calibration is not None:
        made_of["cut"] = [output.name for output in job.calibration.cut]
    job.store.open(made_of | ({"augment": job.augmenter.as_json()} if job.augmenter else {}))
    computed = compute_on_cluster(work, progress) if job.options.cluster else compute_here(work, progress)
    if computed.rows:
        remember_rate(job, computed.rows / (time.perf_counter() - start))
    return computed
