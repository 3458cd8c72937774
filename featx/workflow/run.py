"""The stages in order, each done only when it is out of date: extract -> split -> fit -> fine-tune."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from featx.bundle.bundle import Bundle, load_bundle
from featx.config import Pipeline
from featx.errors import UsageError
from featx.extraction.flow import Extraction
from featx.extraction.prepared import Prepared
from featx.extraction.views import Views
from featx.io.digests import digest_json
from featx.io.progress import Progress, Tell, no_progress, say_nothing
from featx.report.occasions import report_of
from featx.runs.bundles import best_bundle, list_bundles
from featx.store.cache import Cache
from featx.workflow.fit import fingerprint, fit_head
from featx.workflow.prepare import prepare


def fit(prepared: Prepared, command: str = "", tell: Tell = say_nothing) -> Bundle:
    """Fit the head of the pipeline and save it as a bundle."""
    pipeline = prepared.pipeline
    return fit_head(
        prepared.extraction, prepared.sample, pipeline.head, pipeline.data.seed, prepared.run, command, tell, pipeline
    )


def regraft(bundle: Bundle, prepared: Prepared, command: str = "", tell: Tell = say_nothing) -> Bundle:
    """The bundle that a fine-tune starts from: the given one, or, with `finetune.regraft`, one that can be grafted.

    Where the head is no network, logistic regression is fitted on the same features and split, weighed alike, and saved
    as a bundle of its own; one that was fitted before is taken.

    Raises
    ------
    UsageError
        The bundle has other features than the pipeline's.
    """
    from featx.finetune.flow import is_graftable

    if is_graftable(bundle) or not prepared.pipeline.finetune.regraft:
        return bundle
    extraction = prepared.extraction
    missing = [name for name in bundle.about["outputs"] if name not in {output.name for output in extraction.outputs}]
    if missing or digest_json(bundle.about["key"]) != digest_json(extraction.store.key.as_json()):
        raise UsageError(
            f"--regraft fits on the features of {bundle.path}, and those of this pipeline are others. Give the options "
            f"that it was fitted with; its layers: {', '.join(bundle.about['outputs'])}."
        )
    about = bundle.about["head"]
    components = bundle.transform.components
    head = replace(
        prepared.pipeline.head,
        clf="logreg",
        estimator=None,
        grid=None,
        strength=None,
        combine="all",
        normalize="l2" if bundle.transform.unit else "none",
        pca=None if components is None else float(len(components)),
        metric=bundle.about["score"]["metric"],
        class_weight=about.get("class_weight", "none"),
        positive_weight=about.get("positive_weight", 1.0),
    )
    again = replace(
        prepared,
        extraction=replace(extraction, outputs=bundle.outputs),
        pipeline=replace(prepared.pipeline, head=head),
    )
    path = fitted_before(again)
    tell(f"{bundle.path} is no network: logistic regression on its features takes its place")
    return load_bundle(path) if path else fit(again, command, tell)


def fitted_before(prepared: Prepared) -> Path | None:
    """The bundle that `fit` would make again, if there is one."""
    pipeline = prepared.pipeline
    wanted = fingerprint(prepared.extraction, prepared.sample, pipeline.head, pipeline.data.seed)
    return _made_before(prepared.run, wanted)


def _made_before(run: Path, wanted: str) -> Path | None:
    made = [about["path"] for about in list_bundles(run) if about.get("fingerprint") == wanted]
    return made[-1] if made else None


def run_pipeline(
    pipeline: Pipeline,
    cache: Cache,
    command: str = "",
    progress: Progress = no_progress,
    tell: Tell = say_nothing,
) -> dict[str, Any]:
    """Bring every stage up to date and say why each was run or not.

    Returns
    -------
    dict
        stages [{stage, done, why}], bundle: the best one's path, report: its page (None without one)
    """
    from featx.finetune.flow import finetune, tuned_fingerprint

    prepared = prepare(pipeline, cache, progress)
    done = prepared.extraction
    for note in done.images.notes:
        tell(note)
    stages = [_extract_stage(done, prepared.sample.views)]
    path = fitted_before(prepared)
    stages.append(
        _stage("fit-head", path is None, f"up to date: {path}" if path else "no bundle of these features and options")
    )
    tell(stages[-1]["why"])
    bundle = load_bundle(path) if path else fit(prepared, command, tell)
    if not pipeline.finetune.enabled:
        stages.append(_stage("finetune", False, "finetune.enabled is false"))
    else:
        bundle = regraft(bundle, prepared, command, tell)
        wanted = tuned_fingerprint(bundle, pipeline.finetune, pipeline.data.seed, pipeline.augment)
        path = _made_before(prepared.run, wanted)
        why = f"up to date: {path}" if path else "this bundle was not fine-tuned with these options"
        stages.append(_stage("finetune", path is None, why))
        if path is None:
            finetune(bundle, prepared, command, progress, tell)
    best = best_bundle(prepared.run)
    report = report_of(best)
    return {"stages": stages, "bundle": str(best), "report": report and str(report)}


def _extract_stage(done: Extraction, views: Views | None) -> dict[str, Any]:
    why, computed = f"{done.computed} images computed, {done.reused} reused", done.computed
    if views is not None:
        why += f"; {views.extraction.computed} views computed, {views.extraction.reused} reused"
        computed += views.extraction.computed
    return _stage("extract", computed > 0, why)


def _stage(name: str, done: bool, why: str) -> dict[str, Any]:
    return {"stage": name, "done": done, "why": why}
