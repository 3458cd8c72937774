"""Everything settled before the first image is decoded: the backbone, the key and its store."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from featx.backbones import BackboneSpec, Output, identify, resolve, resolve_outputs
from featx.config import FeaturesOptions
from featx.engines.choice import effective_precision
from featx.engines.quantisation import INT8
from featx.extraction.engine import engine_for
from featx.images.augment import Augmenter
from featx.images.decoder import decoder_identity
from featx.io.index import StatIndex
from featx.store.cache import Cache
from featx.store.calibration import CalibrationImages, NetworkCalibration
from featx.store.key import NO_VIEWS, Key
from featx.store.store import FeatureStore


@dataclass(frozen=True)
class Job:
    """Everything that is settled before the first image is decoded.

    augmenter : what makes views; None where rows are the images themselves
    calibration : of int8; None for other precisions, and before its images are chosen
    began : when, in nanoseconds: a file that changed since may not be the one that was hashed
    """

    options: FeaturesOptions
    spec: BackboneSpec
    outputs: tuple[Output, ...]
    engine: str
    cache: Cache
    store: FeatureStore
    augmenter: Augmenter | None = None
    calibration: NetworkCalibration | None = None
    began: int = field(default_factory=time.time_ns)


def settle(options: FeaturesOptions, cache: Cache, augmenter: Augmenter | None = None) -> Job:
    """Decide all that can be decided before an image is looked at.

    augmenter : of views, which have a store of the policy's own
    """
    spec = resolve(options)
    outputs = resolve_outputs(options, spec)
    key = make_key(options, spec, outputs, cache.index)
    chosen = CalibrationImages.read(cache.calibration(key)) if options.precision == INT8 else None
    calibration = None if chosen is None else NetworkCalibration.of(chosen, outputs)
    views = NO_VIEWS if augmenter is None else augmenter.identity
    store = cache.store(replace(key, views=views, calibration="" if calibration is None else calibration.digest))
    return Job(options, spec, outputs, engine_for(spec, options), cache, store, augmenter, calibration)


def make_key(options: FeaturesOptions, spec: BackboneSpec, outputs: tuple[Output, ...], index: StatIndex) -> Key:
    """The key of the features that these options give; needs no TensorFlow once the backbone is known here."""
    identity = identify(spec, index, outputs)
    engine = engine_for(spec, options)
    precision = effective_precision(engine, options.precision)
    return Key(
        backbone=identity.backbone,
        architecture=identity.architecture,
        weights=identity.weights,
        input_size=identity.input_size,
        resize=spec.resize,
        decoder=decoder_identity(),
        preprocessing=identity.preprocessing,
        precision=precision if precision == "float32" else f"{precision}/{engine}",
        storage=options.storage,
    )
