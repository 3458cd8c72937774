"""Run a comparison, one pass after the other: for each combination a bundle, or the reason why there is none."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np

from featx.backbones import BackboneSpec, LayerDepth, Output, list_depths, open_network, resolve, resolve_outputs
from featx.bundle.bundle import Bundle, load_bundle
from featx.comparing.memory import Memory
from featx.comparing.plan import Combination, Pass, short_name
from featx.config import Pipeline
from featx.dataset import TEST, VAL, read_data
from featx.errors import BackboneError, FeatxError
from featx.extraction.sample import require_fittable
from featx.finetune.flow import tuned_fingerprint
from featx.io.context import Context, ignore
from featx.io.index import StatIndex
from featx.metrics.digits import figure_text
from featx.report.compared import Place
from featx.runs.prepared import Prepared
from featx.runs.run import Run
from featx.store.cache import Cache
from featx.workflow.fit import fingerprint
from featx.workflow.prepare import prepare
from featx.workflow.publish import publish_finetuned, publish_head
from featx.workflow.regraft import regraft

_MEASURED = 64  # images by which the speed of a prediction is measured
_SEVERAL = ("all", "blocks")  # what stands for layers in the place of one
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """A combination and what came of it: a bundle, or the reason why there is none.

    extract_seconds : of its pass; share : of the multiply-adds up to its layer; sample : images to measure speed on
    """

    place: Place
    bundle: Bundle | None = None
    reason: str | None = None
    extract_seconds: float | None = None
    share: float | None = None
    sample: tuple[str, ...] = ()


@dataclass
class Work:
    """What goes with a comparison while it is under way, and what it had to compute.

    images : through a backbone; heads, trainings : that were fitted; speeds : that were measured
    """

    memory: Memory
    cache: Cache
    context: Context = Context()
    computed: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("images", "heads", "trainings", "speeds"), 0)
    )


def run_pass(one: Pass, work: Work) -> Iterator[Cell]:
    """Yield every combination of a pass: what there is already as it is, what there is not once it is made.

    Whatever fails is a combination with its reason: all of them where the images or the backbone fail.
    """
    spec: BackboneSpec | None = None
    outputs = [Output(*_split_name(text)) for text in one.pipeline.features.layer or ("",)]
    try:
        require_fittable(read_data(one.pipeline))  # before a network is built for nothing
        spec = resolve(one.pipeline.features)
        outputs, shares = choose_outputs(one.pipeline, spec, work.cache.index)
        prepared, faults = _prepare(one.pipeline, spec, outputs, work)
    except Exception as error:  # the other passes go on
        for output, combination in product(outputs, one.combinations):
            yield _failed(_place(one, spec, output, combination), error, work)
        return
    seconds = _count(one.data, prepared, work)
    sample = _sample(prepared)
    made = _find_made(prepared.run)
    for output in outputs:
        narrowed = replace(prepared, extraction=replace(prepared.extraction, outputs=(output,)))
        for combination in one.combinations:
            place = _place(one, spec, output, combination)
            try:
                if output in faults:
                    raise faults[output]
                bundle = _make(replace(narrowed, pipeline=combination.pipeline), combination.stage, made, work)
            except Exception as error:  # the other combinations go on
                yield replace(_failed(place, error, work), share=shares.get(output.layer))
            else:
                work.context.notify(f"{place}: {_tell_score(bundle)}")
                yield Cell(place, bundle, None, seconds, shares.get(output.layer), sample)


def _split_name(text: str) -> tuple[str, str]:
    """Layer and pooling of what was asked for, for the line of a pass that fails before its layers are known."""
    layer, _, pooling = text.rpartition("@")
    return (layer, pooling) if layer else (text, "")


def _place(one: Pass, spec: BackboneSpec | None, output: Output, combination: Combination) -> Place:
    features = one.pipeline.features
    backbone = spec.label if spec else short_name("backbone", features.backbone)
    side = str(features.input_size or "")
    if spec is not None:
        height, width = spec.input_size
        side = str(height) if height == width else f"{height}x{width}"
    layer = output.name if output.pooling else output.layer
    return Place(one.data, backbone, side, layer or "-", combination.clf, combination.stage)


def _failed(place: Place, error: Exception, work: Work) -> Cell:
    _logger.info("%s", place, exc_info=error)
    text = " ".join(str(error).split())
    cell = Cell(place, reason=text if isinstance(error, FeatxError) else f"{type(error).__name__}: {text}")
    work.context.notify(f"{place}: failed: {cell.reason}")
    return cell


def choose_outputs(pipeline: Pipeline, spec: BackboneSpec, index: StatIndex) -> tuple[list[Output], dict[str, float]]:
    """The layers and poolings of a pass, `blocks` and `all` written out; and the depth of each layer that has one."""
    features, depths = pipeline.features, list_depths(spec, index)
    asked = [text.partition("@") for text in features.layer]
    layers = [f"{name}{at}{pooling}" for layer, at, pooling in asked for name in _layers_meant(layer, depths)]
    outputs = list(resolve_outputs(replace(features, layer=tuple(layers)), spec))
    return outputs, {depth.name: depth.share for depth in depths}


def _layers_meant(layer: str, depths: Sequence[LayerDepth]) -> list[str]:
    return [depth.name for depth in depths if layer == "all" or depth.ends] if layer in _SEVERAL else [layer]


def _prepare(
    pipeline: Pipeline, spec: BackboneSpec, outputs: Sequence[Output], work: Work
) -> tuple[Prepared, dict[Output, BackboneError]]:
    """Images with all features of a pass and a split; and why some layers or poolings cannot be had."""

    def extract(wanted: Sequence[Output]) -> Prepared:
        features = replace(pipeline.features, layer=tuple(output.name for output in wanted), pooling=())
        return prepare(replace(pipeline, features=features), work.cache, work.context.progress)

    try:
        return extract(outputs), {}
    except BackboneError:
        faults = open_network(spec).find_faults(outputs) if len(outputs) > 1 else {}
        if not faults or len(faults) == len(outputs):
            raise
        return extract([output for output in outputs if output not in faults]), faults


def _count(data: str, prepared: Prepared, work: Work) -> float | None:
    """Count what was computed; the seconds of the whole pass, with the views that were made."""
    views = prepared.sample.views
    extractions = [prepared.extraction, *([] if views is None else [views.extraction])]
    work.computed["images"] += sum(done.computed for done in extractions)
    seconds = [work.memory.seconds(data, done, work.cache.index) for done in extractions]
    return None if None in seconds else float(sum(filter(None, seconds)))


def _sample(prepared: Prepared) -> tuple[str, ...]:
    """Images to measure the speed of predictions on, spread over test, or what there is instead."""
    sample = prepared.sample
    parts = [np.flatnonzero(sample.split == code) for code in (TEST, VAL)] + [np.arange(len(sample.rows))]
    rows = next(rows for rows in parts if len(rows))
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, _MEASURED).astype(int))]
    return tuple(sample.images.paths[row] for row in sample.rows[rows])


def _find_made(run: Run) -> dict[str, Bundle]:
    """The whole bundles of a run by fingerprint, the newest of each; their files are looked for, not verified."""
    return {
        bundle.manifest.fingerprint: bundle
        for bundle in run.bundles()
        if bundle.manifest.fingerprint and all((bundle.path / name).is_file() for name in bundle.manifest.files)
    }


def _make(prepared: Prepared, stage: str, made: dict[str, Bundle], work: Work) -> Bundle:
    """The bundle of a head, or of what it becomes by training; `made` has what there is, by fingerprint."""
    pipeline = prepared.pipeline
    wanted = fingerprint(prepared)
    if wanted not in made:
        made[wanted] = publish_head(prepared, replace(work.context, notify=ignore))
        work.computed["heads"] += 1
    if stage == "head":
        return made[wanted]
    start = regraft(made[wanted], prepared, work.context)
    wanted = tuned_fingerprint(start, pipeline.finetune, pipeline.data.seed, pipeline.augment)
    if wanted not in made:
        made[wanted] = publish_finetuned(load_bundle(start.path), prepared, work.context)
        work.computed["trainings"] += 1
        gc.collect()  # networks are held in cycles, and the next one needs their memory
    return made[wanted]


def _tell_score(bundle: Bundle) -> str:
    score = bundle.manifest.score
    value = "-" if score.value is None else figure_text(score.value, bundle.manifest.scored_on)
    return f"{score.metric} {value} ({score.where})"
