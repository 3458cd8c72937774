"""Compute what is planned, in this process or on a cluster."""

from __future__ import annotations

import time
from dataclasses import asdict

from featx.extraction.extraction import Extraction
from featx.extraction.job import Job
from featx.extraction.planning import Plan, check_space, remember_rate
from featx.extraction.ray.flow import compute_on_cluster
from featx.extraction.work import compute_here
from featx.io.progress import Progress


def compute(todo: Plan, job: Job, bad: dict[int, str], done: Extraction, progress: Progress) -> None:
    """Compute and write the planned rows of `done`, if there are any, and count them there.

    bad : rows that cannot be read, and why; those that show it now are added
    """
    if not len(todo.rows):
        return
    start = time.perf_counter()
    check_space(todo, job.store.directory)
    made_of = {**asdict(job.spec), "engine": job.engine, "resize": job.options.resize}
    job.store.open(made_of | ({"augment": job.augmenter.as_json()} if job.augmenter else {}))
    if job.options.cluster:
        compute_on_cluster(todo, job, bad, done, progress)
    else:
        compute_here(todo, job, bad, done, progress)
    if done.computed:
        remember_rate(job, done.computed / (time.perf_counter() - start))
