"""What a network with its ImageNet top calls images, and how far that tells the user's own classes apart.

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

from featx.backbones import BackboneSpec, Output, resolve
from featx.config import FeaturesOptions
from featx.dataset import ImageSet
from featx.errors import BackboneError
from featx.extraction.flow import Extraction, extract
from featx.io.progress import Progress, no_progress
from featx.store.cache import Cache

BUNDLED = "EfficientNetLite0"  # whose top comes along


@functools.cache
def class_names() -> tuple[str, ...]:
    """The names of the 1,000 classes, in the order of a network's outputs."""
    return tuple((files("featx.look") / "imagenet.txt").read_text(encoding="utf-8").splitlines())


# --- answers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """What a network says of images.

    Attributes
    ----------
    spec : of the network
    extraction : of the images; an image that could not be read has no answer
    rows : int64 (n,), positions in `extraction.images` of those that have one
    chances : float32 (n, 1000), probabilities
    notes : why another network was asked than the one of the options
    """

    spec: BackboneSpec
    extraction: Extraction
    rows: np.ndarray
    chances: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> np.ndarray:
        """The likeliest class of each image: int64 (n,)."""
        return np.asarray(self.chances.argmax(axis=1))

    def top(self, place: int, count: int = 3) -> list[tuple[str, float]]:
        """Names and probabilities of the likeliest classes of one image, by its place in `rows`."""
        order = np.argsort(-self.chances[place], kind="stable")[:count]
        return [(class_names()[code], float(self.chances[place, code])) for code in order]


def ask(images: ImageSet, options: FeaturesOptions, cache: Cache, progress: Progress = no_progress) -> Answers:
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
    note = f"ImageNet classes are told by {BUNDLED}, since {reason}."
    plain = replace(options, backbone=BUNDLED, weights="auto", preprocessing="auto")
    return replace(_ask(images, plain, cache, progress), notes=(note,))


def _lacks_top(spec: BackboneSpec) -> str | None:
    """Why a network cannot tell ImageNet classes, as far as that is known before it is built."""
    if spec.entry is None:
        return f"{spec.label} is a network of its own"
    return f"the weights of {spec.label} are random" if spec.weights == "random" else None


def _ask(images: ImageSet, options: FeaturesOptions, cache: Cache, progress: Progress) -> Answers:
    entry = resolve(options).entry
    assert entry is not None
    output = Output(entry.top[-1], "avg")
    alone = replace(options, layer=(output.layer,), pooling=("avg",), input_size=None)
    done = extract(images, alone, cache, progress)
    rows = np.flatnonzero(done.readable)
    chances = done.features(output, rows).asarray()
    if chances.shape[1] != len(class_names()):
        raise BackboneError(f"{done.spec.label} tells {chances.shape[1]} classes, which are not those of ImageNet.")
    return Answers(done.spec, done, rows, chances)


# --- how far they tell the user's classes apart ----------------------------------------------------------------------


@dataclass(frozen=True)
class Separation:
    """How far the ImageNet class of an image tells which of the user's classes it is of.

    Attributes
    ----------
    told : share of the images whose class is the commonest one among the other images with the same ImageNet class
        (a tie counts in part, an image whose ImageNet class no other has counts nothing): leave-one-out purity
    chance : the share of the largest class, which is what `told` would be if ImageNet knew one class alone
    information : adjusted mutual information (Vinh, Epps and Bailey 2010): 0 is what chance gives, 1 is complete
    consistency : mean over the user's classes of the share that their commonest ImageNet class has
    """

    told: float
    chance: float
    information: float
    consistency: float


def measure_separation(first: np.ndarray, y: np.ndarray) -> Separation | None:
    """Compare ImageNet classes int64 (n,) with the user's int64 (n,); None where these are fewer than two.

    Plain purity and plain mutual information grow with the number of ImageNet classes that are seen, up to 1 where
    every image has one of its own; so each image is judged by the others, and information is adjusted for chance.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    if len(np.unique(y)) < 2:
        return None
    table = count_pairs(first, y)
    sizes = table.sum(axis=1)
    return Separation(
        told=_leave_one_out_purity(table),
        chance=float(sizes.max() / sizes.sum()),
        information=float(adjusted_mutual_info_score(y, first)),
        consistency=float((table.max(axis=1) / sizes).mean()),
    )


def count_pairs(first: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How many images of each class have each ImageNet class that is seen: int64 (classes, seen), both ascending."""
    (classes, row), (seen, column) = (np.unique(values, return_inverse=True) for values in (y, first))
    table = np.zeros((len(classes), len(seen)), np.int64)
    np.add.at(table, (row, column), 1)
    return table


def _leave_one_out_purity(table: np.ndarray) -> float:
    """The mean chance that an image is of the commonest class among the others in its column."""
    right = 0.0
    for row, counts in enumerate(table):
        others = np.delete(table, row, axis=0)
        rival = others.max(axis=0)
        left = counts - 1  # of the image's own class, without itself
        tied = 1 + (others == left).sum(axis=0)
        share = np.where(left > rival, 1.0, np.where((left == rival) & (left > 0), 1 / tied, 0.0))
        right += float((counts * share).sum())
    return right / float(table.sum())
