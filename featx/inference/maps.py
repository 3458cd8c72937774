"""Class activation maps: CAM, Grad-CAM and occlusion, in units of the logit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from featx.backbones import LayerGraph, Output, cell_shares, import_keras
from featx.bundle.bundle import Bundle
from featx.heads import persist

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

BATCH = 32  # images; the network runs without being traced, which takes longer than most calls of this command
_PLACES = 16  # of an occlusion map, along each side
_WINDOW = 3  # side of the covered square, in places
_TINY = 1e-12  # the least length that features are divided by, as in `featx.heads.transform`


# --- the network, as far as maps need it ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """Where the places of an output are read off.

    tensor : Keras' (n, height, width, channels); own : whether it is of the output's layer, not of one below it
    pool : from the tensor's values to the output's, of which each image has `width`
    """

    output: Output
    tensor: keras.KerasTensor
    own: bool
    pool: Callable[[tf.Tensor], tf.Tensor]
    width: int


class MapNetwork:
    """A bundle's backbone, taken apart at its maps, and what follows them, with gradients."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    @cached_property
    def sites(self) -> list[Site]:
        """One for each of the bundle's outputs; none where the head has no gradient or an output has no map."""
        if self.bundle.manifest.head.kind == "estimator":
            return []
        made = self._backbone.output
        tensors = made if isinstance(made, dict) else {self.bundle.outputs[0].name: made}
        found = [_find_site(self._backbone, output, tensors[output.name]) for output in self.bundle.outputs]
        return [site for site in found if site is not None] if None not in found else []

    def maps(self, images: np.ndarray) -> list[tf.Tensor]:
        """Tensors float32 (n, height, width, channels), one for each site, of images uint8."""
        import tensorflow as tf

        found = self._to_maps(images.astype(np.float32), training=False)
        return [tf.cast(found[site.output.name], tf.float32) for site in self.sites]

    def features(self, maps: Sequence[tf.Tensor]) -> tf.Tensor:
        """Tensor float32 (n, d), which the head takes, of what `maps` gives."""
        import tensorflow as tf

        pooled = [site.pool(tensor) for site, tensor in zip(self.sites, maps, strict=True)]
        return tf.concat([tf.reshape(tf.cast(one, tf.float32), (len(one), -1)) for one in pooled], axis=1)

    def logits(self, features: tf.Tensor) -> tf.Tensor:
        """Tensor (n, classes) of features (n, d): transform and head as operations that have a gradient."""
        import tensorflow as tf

        transform = self.bundle.transform
        if transform.unit:
            features = features / tf.maximum(tf.norm(features, axis=1, keepdims=True), _TINY)
        if self.bundle.manifest.head.kind == "linear":
            kernel, bias = self.linear
            return features @ kernel + bias
        if transform.mean is not None and transform.components is not None:
            features = (features - transform.mean) @ transform.components.T
        return self._head(features, training=False) / self.bundle.temperature

    @cached_property
    def linear(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernel (d, classes) and bias (classes,) of a linear head on the features, a projection folded in."""
        kernel, bias = persist.load_dense(self.bundle.path / persist.FILES["linear"])
        mean, components = self.bundle.transform.mean, self.bundle.transform.components
        if mean is None or components is None:
            return kernel, bias
        return components.T @ kernel, bias - (components @ mean) @ kernel

    @cached_property
    def _head(self) -> keras.Model:
        return persist.load_network(self.bundle.path / persist.FILES["network"])

    @cached_property
    def _backbone(self) -> keras.Model:
        return persist.load_network(self.bundle.path / "backbone.keras")

    @cached_property
    def _to_maps(self) -> keras.Model:
        outputs = {site.output.name: site.tensor for site in self.sites}
        return import_keras().Model(self._backbone.inputs[0], outputs)


def _find_site(backbone: keras.Model, output: Output, made: keras.KerasTensor) -> Site | None:
    """The output's own layer where that has a map; else the last layer with one that everything passes through."""
    keras = import_keras()
    own = backbone.get_layer(output.layer).output
    if _is_map(own):
        tensor = own
    else:
        graph = LayerGraph(keras.Model(backbone.inputs[0], made))
        maps = [
            layer.output
            for layer, clean in zip(graph.layers, graph.clean, strict=True)
            if clean and _is_map(layer.output) and layer.output.shape[-1] > 3  # three channels are still the image
        ]
        if not maps:
            return None
        tensor = maps[-1]
    tail = keras.Model(tensor, made)
    return Site(
        output, tensor, tensor is own, lambda values: tail(values, training=False), int(np.prod(made.shape[1:]))
    )


def _is_map(tensor: keras.KerasTensor) -> bool:
    shape: tuple[int, ...] = tuple(getattr(tensor, "shape", ()))
    return len(shape) == 4 and shape[1] * shape[2] > 1


# --- the methods: yield (logits, probabilities, {position of a class: its maps}) of each image ------------------------

Maps = dict[str, np.ndarray]
Scores = TypeVar("Scores", "np.ndarray", "tf.Tensor")
_Explained = tuple[np.ndarray, np.ndarray, dict[int, Maps]]
_Choose = Callable[[np.ndarray], list[int]]  # probabilities (classes,) -> positions of the classes to explain


def cam(network: MapNetwork, images: np.ndarray, choose: _Choose) -> Iterator[_Explained]:
    """Exact class activation maps of linear heads."""
    bundle, tensors = network.bundle, network.maps(images)
    features = np.asarray(network.features(tensors))
    logits = bundle.head(bundle.transform.apply(features))
    probabilities = bundle.calibration.probabilities(logits)
    lengths = np.ones(len(images), np.float32)  # a head on features of unit length is linear in the rest
    if bundle.transform.unit:
        lengths = np.maximum(np.linalg.norm(features, axis=1), _TINY)
    ends = np.cumsum([site.width for site in network.sites])[:-1]
    kernels = np.split(class_scores(bundle, network.linear[0]), ends)
    maps = [np.asarray(tensor) for tensor in tensors]
    for row, length in enumerate(lengths):
        found: dict[int, Maps] = {k: {} for k in choose(probabilities[row])}
        for site, values, kernel in zip(network.sites, maps, kernels, strict=True):
            for k, named in found.items():
                named[site.output.name] = _dissect(values[row], kernel[:, k], site.output.pooling) / length
        yield logits[row], probabilities[row], found


def gradcam(network: MapNetwork, images: np.ndarray, choose: _Choose) -> Iterator[_Explained]:
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
        slopes = [tf.reduce_sum(gradient, axis=(1, 2)) for gradient in tape.gradient(turn, maps)]
        found.append([tf.einsum("nhwc,nc->nhw", *pair).numpy() for pair in zip(maps, slopes, strict=True)])
    for row, classes in enumerate(chosen):
        mine = {k: {name: part[row] for name, part in zip(names, found[i], strict=True)} for i, k in enumerate(classes)}
        yield logits[row], probabilities[row], mine


def occlusion(bundle: Bundle, images: np.ndarray, choose: _Choose) -> Iterator[_Explained]:
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
        yield logits[0], probabilities, {k: {"occlusion": maps[..., k]} for k in choose(probabilities)}


def class_scores(bundle: Bundle, logits: Scores) -> Scores:
    """Logits of NumPy or TensorFlow, or columns of a kernel, (n, classes) as scores.

    Of two classes, each is less the other.
    """
    return logits - logits[:, ::-1] if len(bundle.classes) == 2 and not bundle.multilabel else logits


def _dissect(values: np.ndarray, column: np.ndarray, pooling: str) -> np.ndarray:
    """The share of every place in a linear score, times the number of places: float32 (height, width).

    values : (height, width, channels); column : the weights of their pooled values (d,)
    """
    height, width, channels = values.shape
    if pooling == "avg":
        return np.asarray(values @ column, np.float32)
    if pooling.startswith("grid:"):
        side = int(pooling[5:])
        cells = column.reshape(side, side, channels)
        weights = np.einsum("hi,wj,ijc->hwc", cell_shares(height, side), cell_shares(width, side), cells)
    else:
        weights = column.reshape(values.shape)
    return np.asarray(height * width * np.einsum("hwc,hwc->hw", values, weights), np.float32)


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
