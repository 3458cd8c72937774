"""What is settled before the first image is decoded: the backbone, the key and the store that belongs to it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from featx.backbones import BackboneSpec, Output, identify, resolve, resolve_outputs
from featx.config import FeaturesOptions
from featx.engines.choice import choose_engine, effective_precision
from featx.images.augment import Augmenter
from featx.images.decoder import decoder_identity, decoder_version
from featx.io.index import StatIndex
from featx.store.key import Key
from featx.store.store import FeatureStore


@dataclass(frozen=True)
class Job:
    """Everything that is settled before the first image is decoded."""

    options: FeaturesOptions
    spec: BackboneSpec
    outputs: tuple[Output, ...]
    engine: str
    store: FeatureStore
    index: StatIndex
    decoder: str
    augmenter: Augmenter | None = None
    began: int = field(default_factory=time.time_ns)


def settle(options: FeaturesOptions) -> Job:
    """Decide all that can be decided before an image is looked at."""
    cache = Path(options.cache)
    index = StatIndex(cache / "index.sqlite")
    spec = resolve(options)
    outputs = resolve_outputs(options, spec)
    key = make_key(options, spec, outputs, index)
    return Job(
        options, spec, outputs, choose_engine(options.engine), FeatureStore(cache, key), index, decoder_version()
    )


def make_key(options: FeaturesOptions, spec: BackboneSpec, outputs: tuple[Output, ...], index: StatIndex) -> Key:
    """The key of the features that these options give; needs no TensorFlow once the backbone is known here."""
    identity = identify(spec, index, outputs)
    engine = choose_engine(options.engine)
    precision = effective_precision(engine, options.precision)
    return Key(
        backbone=identity.backbone,
        architecture=identity.architecture,
        weights=identity.weights,
        input_size=identity.input_size,
        resize=options.resize,
        decoder=decoder_identity(),
        preprocessing=identity.preprocessing,
        precision=precision if precision == "float32" else f"{precision}/{engine}",
        storage=options.storage,
    )
