"""A head that fine-tuning can start from, if the best one is not a network."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from featx.bundle.bundle import Bundle, load_bundle
from featx.config import HeadOptions, Metric
from featx.errors import UsageError
from featx.extraction.flow import Extraction, extract
from featx.io.context import Context
from featx.runs.prepared import Prepared
from featx.workflow.fit import fingerprint
from featx.workflow.publish import publish_head


def regraft(bundle: Bundle, prepared: Prepared, context: Context = Context()) -> Bundle:
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
    extraction = _features_like(bundle, prepared, context)
    head = _regression_like(bundle, prepared.pipeline.head)
    again = replace(
        prepared,
        extraction=replace(extraction, outputs=bundle.outputs),
        pipeline=replace(prepared.pipeline, head=head),
    )
    made = prepared.run.find(fingerprint(again))
    context.notify(f"{bundle.shown} is not a network: logistic regression on its features takes its place")
    start = load_bundle(made.path) if made else publish_head(again, context)
    context.notify(f"Starting from {start.shown}")
    return start


def _features_like(bundle: Bundle, prepared: Prepared, context: Context) -> Extraction:
    """The features that the bundle's head was fitted on; of its own layers, where the pipeline names none."""
    extraction, options = prepared.extraction, prepared.pipeline.features
    if bundle.manifest.key.as_json() == extraction.store.key.as_json():
        if not set(bundle.outputs) - set(extraction.outputs):
            return extraction
        if not (options.layer or options.pooling):
            wanted = replace(options, layer=bundle.manifest.output_names)
            return extract(extraction.images, wanted, prepared.cache, context.progress)
    raise UsageError(
        f"--regraft fits on the features of {bundle.shown}, but this pipeline describes others. Give the "
        f"options that it was fitted with; its layers: {', '.join(bundle.manifest.output_names)}."
    )


def _regression_like(bundle: Bundle, options: HeadOptions) -> HeadOptions:
    """Logistic regression on what the bundle's head is fitted on, weighed and compared alike."""
    head, components = bundle.manifest.head, bundle.transform.components
    return replace(
        options,
        clf="logreg",
        estimator=None,
        refit=False,  # val has to choose the epoch
        grid=None,
        strength=None,
        combine="all",
        normalize="l2" if bundle.transform.unit else "none",
        pca=None if components is None else float(len(components)),
        metric=cast("Metric", bundle.manifest.score.metric),
        class_weight=head.class_weight,
        positive_weight=head.positive_weight,
    )
