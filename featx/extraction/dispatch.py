"""Run a planned computation in this process or on a cluster."""

from __future__ import annotations

from dataclasses import asdict

from featx.extraction.computation import Computation
from featx.extraction.computed import Computed
from featx.extraction.planning import PacedProgress, check_space
from featx.extraction.ray.flow import compute_on_cluster
from featx.extraction.work import compute_here
from featx.io.progress import Progress


def compute(work: Computation, progress: Progress) -> Computed:
    """Compute and write the planned rows, if there are any."""
    job = work.job
    if not len(work.plan.rows):
        return Computed()
    paced = PacedProgress(job, progress)
    check_space(work.plan, job.store.directory)
    made_of = {**asdict(job.spec), "engine": job.engine}
    if job.calibration is not None:
        made_of["cut"] = [output.name for output in job.calibration.cut]
    job.store.open(made_of | ({"augment": job.augmenter.as_json()} if job.augmenter else {}))
    try:
        computed = compute_on_cluster(work, paced) if job.options.cluster else compute_here(work, paced)
    except BaseException:  # Ctrl-C too: how fast it was is known by now
        paced.note()
        raise
    paced.note(computed.rows)
    return computed
