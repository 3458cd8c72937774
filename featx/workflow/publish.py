"""From a fitted head or trained network to a bundle in its run, with its report and a line in the tracker.

Stages return values; here alone they are written down. Neither a report nor a tracker that fails loses the bundle.
"""

from __future__ import annotations

import time

from featx.bundle.bundle import Bundle, load_bundle
from featx.config import Pipeline
from featx.dataset import TEST
from featx.inference.cached import judge_cached
from featx.io.context import Context
from featx.io.temporary import temporary_folder
from featx.report.occasions import Evaluation, report_evaluation, report_model
from featx.runs.origin import Intake
from featx.runs.prepared import Prepared
from featx.runs.run import Run, checkpoints_folder, report_folder
from featx.runs.trained import Trained
from featx.store.cache import Cache
from featx.training.callbacks import Recording
from featx.workflow.fit import Fitted, fit
from featx.workflow.tracking import require_tracker, track


def publish(made: Fitted | Trained, run: Run, pipeline: Pipeline) -> Bundle:
    """Add a bundle to the run, discard what its training resumes from, and write the report and the tracker's run."""
    with temporary_folder() as folder:
        bundle = run.add(made.label, made.manifest, made.write(folder))
    _clear(made.recording, bundle)
    growth = made.growth if isinstance(made, Fitted) else None
    report_model(bundle, made.predictions, made.intake, pipeline, growth)
    track(bundle, pipeline)
    return bundle


def _clear(recording: Recording, bundle: Bundle) -> None:
    """Move networks that are kept beside the bundle, and remove what the training resumes from."""
    if recording.models is not None and recording.models.folder.exists():
        recording.models.folder.rename(checkpoints_folder(bundle.path))
    recording.discard_state()


def publish_head(prepared: Prepared, context: Context = Context()) -> Bundle:
    """Fit the head of the pipeline, and add it to the run."""
    return publish(fit(prepared, context), prepared.run, prepared.pipeline)


def publish_finetuned(bundle: Bundle, prepared: Prepared, context: Context = Context()) -> Bundle:
    """Fine-tune a bundle with the options of the pipeline, and add the result to the run."""
    from featx.finetune.flow import finetune

    return publish(finetune(bundle, prepared, context), prepared.run, prepared.pipeline)


def publish_baseline(pipeline: Pipeline, cache: Cache, context: Context = Context()) -> tuple[Bundle, Trained]:
    """Train the baseline of the pipeline, and add it to the run; returns it with what was trained and measured.

    The report of the run's best head is written anew where its features are cached, with the baseline beside it.
    """
    from featx.baseline.flow import train_baseline

    require_tracker(pipeline.tracking)
    trained = train_baseline(pipeline, cache, context)
    run = Run.of(pipeline, trained.intake.sample.images)
    bundle = publish(trained, run, pipeline)
    _renew_report(trained.intake, run, pipeline, cache, context)
    return bundle, trained


def _renew_report(intake: Intake, run: Run, pipeline: Pipeline, cache: Cache, context: Context) -> None:
    """Write the report of the run's best head on this split anew, on test; from cached features alone."""
    sample = intake.sample

    def is_rival(bundle: Bundle) -> bool:
        return bundle.manifest.baseline is None and bundle.manifest.split.digest == sample.digest

    if not pipeline.report.html or not any(map(is_rival, run.bundles())):
        return
    bundle = load_bundle(run.best(is_rival).path)
    start = time.perf_counter()
    predictions = judge_cached(bundle, sample, TEST, cache)
    if predictions is None or not len(predictions.labels):
        context.notify(f"featx evaluate {bundle.path} writes its report again, with this baseline beside it.")
        return
    evaluation = Evaluation(bundle, bundle.path, predictions, intake.bad, time.perf_counter() - start)
    report_evaluation(report_folder(bundle.path), evaluation, pipeline, context.command)
