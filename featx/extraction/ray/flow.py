"""The same extraction on a cluster of Ray.

The process that runs the command coordinates (`coordinator`): it hashes the files, sees which rows are missing, hands
them out in reservations and holds the leases for all of these. Workers (`worker`, and all of them: `crew`), actors of
Ray that keep one compiled backbone each, read the images, write parts of their own into the shared cache folder and
report. `placement` decides
how the work is shared out, `session` is all that knows Ray.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from featx.engines.choice import choose_engine
from featx.errors import EngineError, UsageError
from featx.extraction.computation import Computation
from featx.extraction.computed import Computed
from featx.extraction.job import Job
from featx.extraction.network import open_engine
from featx.extraction.quantising import quantising_of
from featx.extraction.ray.coordinator import Coordinator
from featx.extraction.ray.crew import Crew
from featx.extraction.ray.placement import WorkerPlacement, place_workers
from featx.extraction.ray.session import connect
from featx.extraction.ray.worker import Assignment
from featx.io.progress import Progress

__all__ = ["compute_on_cluster"]


def compute_on_cluster(work: Computation, progress: Progress) -> Computed:
    """Compute and write the planned rows on the cluster that the options name.

    Raises
    ------
    ClusterError
        No Ray, no answer, no worker left, or a worker that failed for a reason that others would share.
    UsageError
        Images in memory, or more workers than there are cores.
    """
    job, outputs = work.job, work.plan.outputs
    if work.request.images.contents is not None:
        raise UsageError("Images in memory are not sent to a cluster: leave cluster out, or give paths of files.")
    with connect(str(job.options.cluster)) as cluster, job.store.leases() as leases:
        placements = place_workers(cluster.machines(), job.options.cluster_workers, _may_use_gpus(job))
        places = [(placement, _engine_of(placement, job)) for placement in placements]
        if any(engine == "openvino" for _, engine in places):  # converted once, here, and not by every worker
            made_by = quantising_of(job.calibration, work.request, job.spec)
            options = replace(job.options, engine="openvino")
            open_engine(outputs, job.spec, options, job.store.graphs, quantising=made_by)
        crew = Crew(cluster, places, _assignment(work, leases.path))
        return Coordinator(work, crew, leases, progress).run()


def _assignment(work: Computation, lease: Path) -> Assignment:
    job = work.job
    return Assignment(
        options=replace(job.options, cache=str(job.cache.path.absolute())),
        spec=job.spec,
        outputs=work.plan.outputs,
        key=job.store.key,
        lease=str(lease.absolute()),
        augmenter=job.augmenter,
        began=job.began,
    )


def _may_use_gpus(job: Job) -> bool:
    """Whether TensorFlow may run: the engine is part of the key where the arithmetic is not float32."""
    if job.options.precision == "float32":
        return job.options.engine != "openvino"
    return job.engine == "tensorflow"


def _engine_of(placement: WorkerPlacement, job: Job) -> str:
    """The engine of a worker: the one that is asked for, else what is fastest where it runs and belongs to the key."""
    if job.options.engine != "auto" or job.options.precision != "float32":
        return job.engine
    if placement.gpus:
        return "tensorflow"
    try:
        return choose_engine("openvino")
    except EngineError:
        return "tensorflow"
