"""Class activation maps: CAM, Grad-CAM and occlusion, in units of the logit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from featx.bundle.bundle import Bundle
from featx.inference.map_network import TINY, MapNetwork
from featx.inference.sites import PlacedNetwork, dissect, folded_head

if TYPE_CHECKING:
    import tensorflow as tf

BATCH = 32  # images; the network runs without being traced, which takes longer than most calls of this command
_PLACES = 16  # of an occlusion map, along each side
_WINDOW = 3  # side of the covered square, in places

Maps = dict[str, np.ndarray]
Scores = TypeVar("Scores", "np.ndarray", "tf.Tensor")
_Choose = Callable[[np.ndarray], list[int]]  # probabilities (classes,) -> positions of the classes to explain


@dataclass(frozen=True)
class MappedImage:
    """What a method finds in an image.

    logits, probabilities : (classes,)
    maps : of each explained class, by its position; bias : (classes,), what of each score belongs to no place
    """

    logits: np.ndarray
    probabilities: np.ndarray
    maps: dict[int, Maps]
    bias: np.ndarray | None = None


def cam(network: PlacedNetwork, images: np.ndarray, choose: _Choose) -> Iterator[MappedImage]:
    """Exact class activation maps of linear heads."""
    bundle, (maps, features) = network.bundle, network.look(images)
    logits = bundle.head(bundle.transform.apply(features))
    probabilities = bundle.calibration.probabilities(logits)
    lengths = np.ones(len(images), np.float32)  # a head on features of unit length is linear in the rest
    if bundle.transform.unit:
        lengths = np.maximum(np.linalg.norm(features, axis=1), TINY)
    kernel, bias = (class_scores(bundle, one) for one in _as_rows(folded_head(bundle)))
    ends = np.cumsum([site.width for site in network.sites])[:-1]
    kernels, parts = np.split(kernel, ends), np.split(features, ends, axis=1)
    sites = list(zip(network.sites, kernels, strict=True))
    nowhere = [
        part[:, : site.placeless] @ one[: site.placeless] for part, (site, one) in zip(parts, sites, strict=True)
    ]
    for row, length in enumerate(lengths):
        found: dict[int, Maps] = {k: {} for k in choose(probabilities[row])}
        for site, one in (pair for pair in sites if pair[0].placed):
            values = maps[site.output.name][row]
            for k, named in found.items():
                named[site.output.name] = dissect(values, one[site.placeless :, k], site.output.pooling) / length
        yield MappedImage(logits[row], probabilities[row], found, bias[0] + sum(one[row] for one in nowhere) / length)


def _as_rows(linear: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return linear[0], linear[1][None]


def gradcam(network: MapNetwork, images: np.ndarray, choose: _Choose) -> Iterator[MappedImage]:
    """Maps by the gradients of the logit at the layer."""
    import tensorflow as tf

    maps, names = network.maps(images), [site.output.name for site in network.sites]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(maps)
        tensor = network.logits(network.features(maps))
        logits = tensor.numpy()
        probabilities = network.bundle.calibration.probabilities(logits)
        chosen = [choose(one) for one in probabilities]
        columns = np.array([[one[min(turn, len(one) - 1)] for one in chosen] for turn in range(max(map(len, chosen)))])
        scores = class_scores(network.bundle, tensor)
        # the first class of every image at once, then the second, ...: images do not depend on one another
        turns = [tf.reduce_sum(tf.gather(scores, column, axis=1, batch_dims=1)) for column in columns]
    found = []
    for turn in turns:
        gradients = zip(network.sites, maps, tape.gradient(turn, maps), strict=True)
        found.append([_weigh(site.places(one), site.places(gradient)) for site, one, gradient in gradients])
    for row, classes in enumerate(chosen):
        mine = {k: {name: part[row] for name, part in zip(names, found[i], strict=True)} for i, k in enumerate(classes)}
        yield MappedImage(logits[row], probabilities[row], mine)


def _weigh(values: tf.Tensor, slopes: tf.Tensor) -> np.ndarray:
    """The channels (n, height, width, channels), each weighed by its slope over all places: (n, height, width)."""
    import tensorflow as tf

    return np.asarray(tf.einsum("nhwc,nc->nhw", values, tf.reduce_sum(slopes, axis=(1, 2))))


def occlusion(bundle: Bundle, images: np.ndarray, choose: _Choose) -> Iterator[MappedImage]:
    """Maps by what the logit loses when a place is covered."""

    def infer(some: np.ndarray) -> np.ndarray:
        return bundle.head(bundle.transform.apply(bundle.features(some)))

    for image in images:
        logits = infer(image[None])
        probabilities = bundle.calibration.probabilities(logits)[0]
        lost = class_scores(bundle, logits) - class_scores(
            bundle, np.concatenate([infer(some) for some in _cover(image)])
        )
        maps = lost.astype(np.float32).reshape(_PLACES, _PLACES, -1)
        yield MappedImage(logits[0], probabilities, {k: {"occlusion": maps[..., k]} for k in choose(probabilities)})


def class_scores(bundle: Bundle, logits: Scores) -> Scores:
    """Logits of NumPy or TensorFlow, or columns of a kernel, (n, classes) as scores.

    Of two classes, each is less the other.
    """
    return logits - logits[:, ::-1] if len(bundle.classes) == 2 and not bundle.multilabel else logits


def _cover(image: np.ndarray) -> Iterator[np.ndarray]:
    """Batches uint8 (n, height, width, 3) of the image with one square covered, row by row of the places.

    The squares are three places wide and centred on a place. They take the image's mean colour, which is nearer to
    "nothing there" than a fixed grey on images that are all dark or all bright.
    """
    height, width = image.shape[:2]
    colour = np.round(image.mean(axis=(0, 1))).astype(np.uint8)
    rows, columns = _windows(height), _windows(width)
    for row in rows:
        batch = np.repeat(image[None], len(columns), axis=0)
        for one, column in zip(batch, columns, strict=True):
            one[row, column] = colour
        yield batch


def _windows(length: int) -> list[slice]:
    centres = (np.arange(_PLACES) + 0.5) * length / _PLACES
    half = _WINDOW * length / _PLACES / 2
    starts, stops = np.floor(centres - half + 0.5).astype(int), np.floor(centres + half + 0.5).astype(int)
    return [slice(max(0, a), max(b, a + 1)) for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
