"""The ImageNet classes that a network with its top predicts.

`imagenet.txt` holds the names of the 1,000 classes of ILSVRC 2012 in the order of their synset ids, which is that of
the outputs of every network of `keras.applications`: the first word of each synset of WordNet 3.0, and in brackets what
tells two synsets of one word apart. WordNet 3.0 Copyright 2006 by Princeton University; it may be used, copied and
distributed for any purpose, without fee, under that notice (https://wordnet.princeton.edu/license-and-commercial-use).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from importlib.resources import files

import numpy as np

from featx.backbones import BackboneSpec, Output, open_network, resolve
from featx.config import FeaturesOptions
from featx.dataset import ImageSet
from featx.errors import BackboneError
from featx.extraction.flow import Extraction, extract
from featx.inference.predict import ClassConfidence
from featx.io.counting import counted
from featx.io.progress import Progress, no_progress
from featx.store.cache import Cache

BUNDLED = "EfficientNetLite0"  # whose top comes along


@functools.cache
def class_names() -> tuple[str, ...]:
    """The names of the 1,000 classes, in the order of a network's outputs."""
    return tuple((files("featx.first_look") / "imagenet.txt").read_text(encoding="utf-8").splitlines())


@dataclass(frozen=True)
class ImageNetAnswers:
    """What a network says of images.

    Attributes
    ----------
    spec : of the network
    extraction : of the images; an image that could not be read has no answer
    rows : int64 (n,), positions in `extraction.images` of those that have one
    probabilities : float32 (n, 1000)
    notes : why another network was asked than the one of the options
    """

    spec: BackboneSpec
    extraction: Extraction
    rows: np.ndarray
    probabilities: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> np.ndarray:
        """The likeliest class of each image: int64 (n,)."""
        return np.asarray(self.probabilities.argmax(axis=1))

    def top(self, place: int, count: int = 3) -> tuple[ClassConfidence, ...]:
        """The likeliest classes of one image, by its place in `rows`."""
        order = np.argsort(-self.probabilities[place], kind="stable")[:count]
        return tuple(ClassConfidence(class_names()[code], float(self.probabilities[place, code])) for code in order)


def ask(images: ImageSet, options: FeaturesOptions, cache: Cache, progress: Progress = no_progress) -> ImageNetAnswers:
    """Classify images by a network with its ImageNet top, at the size it was trained at; answers are cached.

    The network is that of the options, with its preprocessing (right or wrong); where it has no ImageNet top, it is
    EfficientNetLite0, whose top comes with featx.

    Raises
    ------
    DataError
        None of the images can be read.
    BackboneError
        ImageNet weights that cannot be downloaded.
    """
    spec = resolve(options)
    reason = _lacks_top(spec)
    if reason is None:
        try:
            return _ask(images, options, cache, progress)
        except BackboneError:
            if spec.weights in {"bundled", "imagenet"}:
                raise
            reason = f"the weights of {spec.label} ({spec.weights}) have no ImageNet top"
    note = f"ImageNet classes are given by {BUNDLED}, since {reason}."
    plain = replace(options, backbone=BUNDLED, weights="auto", preprocessing="auto")
    return replace(_ask(images, plain, cache, progress), notes=(note,))


def has_own_answers(options: FeaturesOptions) -> bool:
    """Whether the network of the options is asked itself, as far as that is known before it is built."""
    return _lacks_top(resolve(options)) is None


def _lacks_top(spec: BackboneSpec) -> str | None:
    """Why a network has no ImageNet classes, as far as that is known before it is built."""
    if not open_network(spec).top:
        return f"{spec.label} is a network of its own"
    return f"the weights of {spec.label} are random" if spec.weights == "random" else None


def _ask(images: ImageSet, options: FeaturesOptions, cache: Cache, progress: Progress) -> ImageNetAnswers:
    output = Output(open_network(resolve(options)).top[-1], "avg")
    alone = replace(options, layer=(output.layer,), pooling=("avg",), input_size=None)
    done = extract(images, alone, cache, progress)
    rows = np.flatnonzero(done.readable)
    probabilities = done.features(output, rows).asarray()
    if probabilities.shape[1] != len(class_names()):
        raise BackboneError(
            f"{done.spec.label} has {counted(probabilities.shape[1], 'class', 'classes')}, which are not those of "
            "ImageNet."
        )
    return ImageNetAnswers(done.spec, done, rows, probabilities)
