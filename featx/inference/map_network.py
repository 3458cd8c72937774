"""A bundle's Keras network, taken apart at its maps and tokens, with gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from featx.backbones import LayerGraph, Output, import_keras
from featx.backbones.pooling import count_left_out
from featx.bundle.bundle import Bundle
from featx.heads import persist
from featx.images.resize import Box
from featx.inference.placing import map_box
from featx.inference.sites import Site, count_placeless, folded_head, patch_side

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_TOKENS = 3  # axes: images, tokens, channels
TINY = 1e-12  # the least length that features are divided by, as in `featx.heads.transform`


@dataclass(frozen=True)
class KerasSite(Site):
    """Where the places of an output of a Keras network are read off.

    tensor : Keras' (n, height, width, channels), or tokens (n, tokens, channels)
    pool : from the tensor's values to the output's
    front : tokens in front of those of the patches
    layer : whose map it is; empty for tokens
    """

    tensor: keras.KerasTensor = None
    pool: Callable[[tf.Tensor], tf.Tensor] = lambda values: values
    front: int = 0
    layer: str = ""

    def places(self, values: tf.Tensor) -> tf.Tensor:
        """Values of the tensor, or slopes along it, as (n, height, width, channels)."""
        if len(values.shape) > _TOKENS:
            return values
        import tensorflow as tf

        side, patches = patch_side(values.shape[1] - self.front), values[:, self.front :]
        return tf.reshape(patches, (-1, side, side, values.shape[2]))


class MapNetwork:
    """A bundle's backbone, taken apart at its maps, and what follows them, with gradients."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    @cached_property
    def sites(self) -> list[KerasSite]:
        """One for each of the bundle's outputs; none where the head has no gradient or an output has no map."""
        if self.bundle.manifest.head.kind in {"estimator", "pickle"}:
            return []
        made = self._backbone.output
        tensors = made if isinstance(made, dict) else {self.bundle.outputs[0].name: made}
        found = [_find_site(self._backbone, output, tensors[output.name]) for output in self.bundle.outputs]
        return [site for site in found if site is not None] if None not in found else []

    @cached_property
    def boxes(self) -> dict[str, Box]:
        """What the map of each output lies on, in shares of the input, where that is followed: tokens lie evenly."""
        return {site.output.name: map_box(self._backbone, site.layer) for site in self.sites if site.layer}

    def look(self, images: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Maps float32 (n, height, width, channels) by output, where it has places, and features float32 (n, d)."""
        values = self.maps(images)
        pairs = zip(self.sites, values, strict=True)
        maps = {site.output.name: np.asarray(site.places(one)) for site, one in pairs if site.placed}
        return maps, np.asarray(self.features(values))

    def maps(self, images: np.ndarray) -> list[tf.Tensor]:
        """Maps or tokens, tensors float32, one for each site, of images uint8."""
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
            features = features / tf.maximum(tf.norm(features, axis=1, keepdims=True), TINY)
        if self.bundle.manifest.head.kind == "linear":
            kernel, bias = folded_head(self.bundle)
            return features @ kernel + bias
        if transform.mean is not None and transform.components is not None:
            features = (features - transform.mean) @ transform.components.T
        return self._head(features, training=False) / self.bundle.temperature

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


def _find_site(backbone: keras.Model, output: Output, made: keras.KerasTensor) -> KerasSite | None:
    """The output's own layer where that has a map; else the last layer with one that everything passes through."""
    keras = import_keras()
    own, width = backbone.get_layer(output.layer).output, int(np.prod(made.shape[1:]))
    if len(own.shape) == _TOKENS:
        return _find_tokens(backbone, output, made)
    if _is_map(own):
        layer, tensor = output.layer, own
    else:
        graph = LayerGraph(keras.Model(backbone.inputs[0], made))
        maps = [
            layer
            for layer, clean in zip(graph.layers, graph.clean, strict=True)
            if clean and _is_map(layer.output) and layer.output.shape[-1] > 3  # three channels are still the image
        ]
        if not maps:
            return None
        layer, tensor = maps[-1].name, maps[-1].output
    tail = keras.Model(tensor, made)
    return KerasSite(output, width, 0, tensor is own, tensor, lambda values: tail(values, training=False), 0, layer)


def _find_tokens(backbone: keras.Model, output: Output, made: keras.KerasTensor) -> KerasSite | None:
    """The layer's tokens, where they are those of a square of patches behind some that have no place."""
    tokens, width = backbone.get_layer(output.layer).output, int(np.prod(made.shape[1:]))
    front = count_left_out(backbone, output)
    if patch_side(tokens.shape[1] - front) is None:
        return None
    placeless = count_placeless(output.pooling, front, tokens.shape[2], width)
    tail = import_keras().Model(tokens, made)
    return KerasSite(output, width, placeless, True, tokens, lambda values: tail(values, training=False), front)


def _is_map(tensor: keras.KerasTensor) -> bool:
    shape: tuple[int, ...] = tuple(getattr(tensor, "shape", ()))
    return len(shape) == 4 and shape[1] * shape[2] > 1
