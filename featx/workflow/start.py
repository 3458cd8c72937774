"""The start of a fine-tune: the bundle, and images with the features of its network."""

from __future__ import annotations

from dataclasses import fields, replace

from featx.backbones import BACKBONES
from featx.bundle.bundle import NETWORK, Bundle, load_bundle
from featx.config import FeaturesOptions, Pipeline
from featx.dataset import read_data
from featx.errors import BackboneError
from featx.extraction.job import settle
from featx.extraction.repair import options_of
from featx.inference.cached import stores_of
from featx.io.context import Context
from featx.runs.choosing import find_bundle
from featx.runs.prepared import Prepared
from featx.runs.run import Run
from featx.store.cache import Cache
from featx.workflow.prepare import prepare

_NETWORK = ("backbone", "weights", "weights_seed", "input_size", "resize", "crop_share", "interpolation")
_STAYS = frozenset({"workers", "infer_batch", "cache", "cluster", "cluster_workers", "compression", "imports"})


def origin_of(pipeline: Pipeline, where: str | None) -> Bundle:
    """The bundle that a fine-tune starts from: the one named, or the best of the pipeline's run.

    Raises
    ------
    BundleError
        There is none.
    """
    run = Run.of(pipeline, read_data(pipeline))
    return load_bundle(find_bundle(where, run.path.parent, run.name, only=True))


def prepare_finetune(bundle: Bundle, pipeline: Pipeline, cache: Cache, context: Context) -> Prepared:
    """`prepare` for the bundle to be fine-tuned, with the features that it was fitted on.

    Raises
    ------
    BundleError
        A head that cannot be grafted, and none is asked for that can; or options of another network.
    BackboneError
        The bundle's network needs KerasHub, which is not installed.
    """
    from featx.backbones.hub.library import import_hub_for
    from featx.finetune.flow import require_graftable

    if bundle.trainable:
        import_hub_for(bundle.path / NETWORK)  # which would fail anyway, after all images were extracted
    if not (pipeline.finetune.regraft and bundle.trainable):
        require_graftable(bundle)
    pipeline = with_network_of(bundle, pipeline, cache)
    require_network_of(bundle, pipeline, cache)
    return prepare(pipeline, cache, context.progress, views=False)


def with_network_of(bundle: Bundle, pipeline: Pipeline, cache: Cache) -> Pipeline:
    """The pipeline with the features that the bundle was fitted on, where it names no network of its own.

    What it says beside that stays: the layer, how many threads decode. Where neither the cache nor the bundle shows
    how its features were made, the pipeline is as it was.
    """
    options, usual = pipeline.features, FeaturesOptions()
    if options.backbone != usual.backbone:
        return pipeline
    found = _options_of(bundle, options, cache)
    if found is None:
        return pipeline
    given = {entry.name: getattr(options, entry.name) for entry in fields(options)}
    said = {name: value for name, value in given.items() if name in _STAYS or value != getattr(usual, name)}
    if "pooling" in said and "layer" not in said:
        found = replace(found, layer=tuple(output.layer for output in bundle.outputs))
    return replace(pipeline, features=replace(found, **said))


def require_network_of(bundle: Bundle, pipeline: Pipeline, cache: Cache) -> None:
    """Refuse a network, or a size of its images, that a pipeline names and that is not the bundle's.

    Nothing of it would be trained: features would be extracted that nothing reads, and the result be another than was
    asked for. What `pipeline` is after `with_network_of`.

    Raises
    ------
    BundleError
        It names another; what differs is named.
    """
    from featx.finetune.from_cache import require_same_network

    options, usual = pipeline.features, FeaturesOptions()
    if any(getattr(options, name) != getattr(usual, name) for name in _NETWORK):
        require_same_network(bundle, options, cache)


def _options_of(bundle: Bundle, options: FeaturesOptions, cache: Cache) -> FeaturesOptions | None:
    """The options that give the features that a bundle was fitted on: as the cache or its manifest has them."""
    manifest, stores = bundle.manifest, stores_of(bundle, cache)
    backbone, side = manifest.backbone, bundle.input_size[0]
    if stores:
        found = options_of(stores[0], cache, manifest.output_names)
    elif backbone.name in BACKBONES:
        named = replace(options, backbone=backbone.name, weights=backbone.weights, weights_seed=backbone.weights_seed)
        found = replace(named, layer=manifest.output_names, pooling=(), input_size=side)
    else:
        return None
    try:
        key = settle(replace(found, imports=options.imports or found.imports), cache).store.key
    except BackboneError:  # its file is gone, or other weights are in its place
        return None
    return found if key.as_json() == manifest.key.as_json() else None
