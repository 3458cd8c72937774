"""The stages in order, each only if out of date: extract -> split -> fit -> fine-tune."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featx.bundle.bundle import Bundle, load_bundle
from featx.config import Pipeline
from featx.dataset import TEST, VAL, read_data
from featx.extraction.flow import plan
from featx.extraction.sample import require_fittable
from featx.inference.cached import judge_cached
from featx.io.context import Context
from featx.io.counting import counted
from featx.metrics.predictions import LabelledPredictions
from featx.report.occasions import report_of, verdict_on
from featx.report.verdict import Verdict
from featx.runs.prepared import Prepared
from featx.runs.run import Run
from featx.store.cache import Cache
from featx.workflow.calibrate import calibrate
from featx.workflow.fit import fingerprint, fit
from featx.workflow.prepare import choose_images, prepare_head, widen_features
from featx.workflow.publish import publish
from featx.workflow.regraft import regraft

_Predicted = tuple[LabelledPredictions, ...]


@dataclass(frozen=True)
class StageDone:
    """Whether a stage had anything to do, and why."""

    stage: str
    done: bool
    why: str


@dataclass(frozen=True)
class PipelineDone:
    """A run whose stages are all up to date.

    bundle : the best one; report : its page, None without one
    verdict : how good it is, in words; None where it was made before and its features are not cached
    """

    stages: tuple[StageDone, ...]
    bundle: Path
    report: Path | None
    verdict: Verdict | None = None

    def as_json(self) -> dict[str, Any]:
        """What `featx run --json` prints."""
        stages = [{"stage": one.stage, "done": one.done, "why": one.why} for one in self.stages]
        summary = None if self.verdict is None else self.verdict.as_json()
        report = self.report and str(self.report)
        return {"stages": stages, "bundle": str(self.bundle), "report": report, "summary": summary}


def describe_plan(pipeline: Pipeline, cache: Cache, context: Context) -> list[str]:
    """What a run will do, stage by stage, a line each; nothing is computed for it but what names the images."""
    features, head, tune = pipeline.features, pipeline.head, pipeline.finetune
    images = read_data(pipeline)
    require_fittable(images)
    run = Run.of(pipeline, images)
    run.data.meet(images, cache.index, pipeline)
    wanted = choose_images(pipeline, images, cache)
    calibrate(pipeline, wanted, cache, context.progress)
    missing = plan(wanted, widen_features(pipeline, cache), cache, context.progress)
    seconds = f", about {missing.seconds:.0f} s" if missing.seconds and len(missing.rows) else ""
    layers = ", ".join(features.layer) or "its last layer"
    if tune.enabled:
        trained = {"all": "the whole network", "none": "the head alone"}.get(tune.unfreeze, f"from {tune.unfreeze} on")
        tuning = f"{trained}, up to {counted(tune.epochs, 'epoch')} (--set finetune.enabled=false leaves it out)"
    else:
        tuning = "no, since finetune.enabled is false"
    size = f"{counted(len(images), 'image')} in {counted(len(images.classes), 'class', 'classes')}"
    return [
        f"Data      {images.source}: {size}; results go to {run.path}",
        f"extract   {Path(features.backbone).name}, {layers}: {missing.reason}{seconds}",
        f"fit-head  {head.clf}, unless there is one with these features and options",
        f"finetune  {tuning}",
    ]


def run_pipeline(pipeline: Pipeline, cache: Cache, context: Context = Context()) -> PipelineDone:
    """Bring every stage up to date, and find out why each was run or not."""
    prepared = prepare_head(pipeline, cache, context.progress)
    for note in (*prepared.extraction.images.notes, *prepared.sample.notes):
        context.notify(note)
    made: dict[Path, _Predicted] = {}
    head, bundle = _bring_head(prepared, context, made)
    stages = (_extracted(prepared), head, _bring_finetuned(bundle, prepared, context, made))
    best = prepared.run.best()
    predictions = made.get(best.path) or _predicted_before(load_bundle(best.path), prepared, cache)
    duplicates, command = prepared.extraction.duplicates, context.command
    verdict = predictions and verdict_on(best, predictions, pipeline, command, duplicates)
    return PipelineDone(stages, best.path, report_of(best.path), verdict or None)


def _predicted_before(bundle: Bundle, prepared: Prepared, cache: Cache) -> _Predicted:
    """Val and test by a bundle that was there, from cached features; nothing where there are none."""
    if bundle.multilabel or bundle.manifest.baseline is not None:
        return ()
    found = [judge_cached(bundle, prepared.sample, part, cache) for part in (VAL, TEST)]
    return tuple(one for one in found if one is not None)


def _extracted(prepared: Prepared) -> StageDone:
    extraction, views = prepared.extraction, prepared.sample.views
    why, computed = f"{counted(extraction.computed, 'image')} computed, {extraction.reused} reused", extraction.computed
    if views is not None:
        why += f"; {counted(views.extraction.computed, 'view')} computed, {views.extraction.reused} reused"
        computed += views.extraction.computed
    return StageDone("extract", computed > 0, why)


def _bring_head(prepared: Prepared, context: Context, made: dict[Path, _Predicted]) -> tuple[StageDone, Bundle]:
    """The bundle of the head that the pipeline describes, fitted where there is none."""
    there = prepared.run.find(fingerprint(prepared))
    why = f"up to date: {there.path}" if there else "no bundle with these features and options"
    context.notify(why)
    done = StageDone("fit-head", there is None, why)
    if there is not None:
        return done, load_bundle(there.path)
    fitted = fit(prepared, context)
    bundle = publish(fitted, prepared.run, prepared.pipeline)
    made[bundle.path] = fitted.predictions
    return done, bundle


def _bring_finetuned(bundle: Bundle, prepared: Prepared, context: Context, made: dict[Path, _Predicted]) -> StageDone:
    """What the bundle becomes by fine-tuning, where the pipeline asks for it and there is none."""
    from featx.finetune.flow import finetune, tuned_fingerprint

    pipeline = prepared.pipeline
    if not pipeline.finetune.enabled:
        return StageDone("finetune", False, "finetune.enabled is false")
    if not bundle.trainable:
        return StageDone("finetune", False, "the network of a graph file cannot be trained")
    if bundle.manifest.head.refitted:
        why = "the head was trained on val, too (head.refit), which has to choose the best epoch"
        return StageDone("finetune", False, why)
    start = regraft(bundle, prepared, context)
    there = prepared.run.find(tuned_fingerprint(start, pipeline.finetune, pipeline.data.seed, pipeline.augment))
    if there is None:
        tuned = finetune(start, prepared, context)
        made[publish(tuned, prepared.run, pipeline).path] = tuned.predictions
    why = f"up to date: {there.path}" if there else "this bundle was not fine-tuned with these options"
    return StageDone("finetune", there is None, why)
