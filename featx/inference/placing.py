"""Where a map lies on the image: every cell at the centre of its receptive field.

A map's places divide the image evenly only where padding is the same on all sides. ResNet50 lets convolutions of one
pixel step over the image from its first pixel on, MobileNetV2 pads below and to the right alone: their places see half
a place further up and left, or down and right (Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional
Neural Networks", Distill 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from featx.backbones import LayerGraph
from featx.images.resize import Box

if TYPE_CHECKING:
    import keras

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
_Axis = Literal[1, 2]  # of (n, height, width, channels)


@dataclass(frozen=True)
class _Centres:
    """The centres of places along one side, in pixels of the network's input: the first, and the way to the next."""

    start: float
    step: float

    def moved(self, by: float, stride: float = 1.0) -> _Centres:
        """By so many of its own places, and only every `stride`-th of them."""
        return _Centres(self.start + self.step * by, self.step * stride)


def map_box(network: keras.Model, layer: str) -> Box:
    """Left, top, right and bottom of what the map of a layer lies on, in shares of the network's input.

    Where a layer below rearranges places in a way that is not known, the map is taken to divide the input evenly.
    """
    height, width = network.inputs[0].shape[1:3]
    shape = network.get_layer(layer).output.shape
    graph = LayerGraph(network)
    found = [_Walk(graph, axis).line(graph.names.index(layer)) for axis in (2, 1)]
    if found[0] is None or found[1] is None or not height or not width:
        return WHOLE
    (left, right), (top, bottom) = (_ends(line, count) for line, count in zip(found, (shape[2], shape[1]), strict=True))
    return left / width, top / height, right / width, bottom / height


def _ends(line: _Centres | None, count: int) -> tuple[float, float]:
    assert line is not None
    start = line.start - line.step / 2
    return start, start + count * line.step


class _Walk:
    """From a layer down to the input, along one side of the maps."""

    def __init__(self, graph: LayerGraph, axis: _Axis) -> None:
        self.graph, self.axis = graph, axis
        self._known: dict[int, _Centres | None] = {}

    def line(self, layer: int) -> _Centres | None:
        """The centres of a layer's places; None where they are not known."""
        if layer not in self._known:
            below = sorted(self.graph.takes[layer])
            if not below:
                self._known[layer] = _Centres(0.5, 1.0)
            else:
                self._known[layer] = self._above(self.graph.layers[layer], below)
        return self._known[layer]

    def _above(self, layer: keras.Layer, below: list[int]) -> _Centres | None:
        lines = [self.line(one) for one in below if len(self._shape(self.graph.layers[one])) == 4]
        if not lines or None in lines or len(self._shape(layer)) != 4:
            return None
        known = [line for line in lines if line is not None]
        steps = {line.step for line in known}
        if len(steps) > 1:  # a squeezed map of one place that scales a larger one
            known = [min(known, key=lambda line: line.step)]
        mean = _Centres(sum(line.start for line in known) / len(known), known[0].step)
        taken = max(self._shape(self.graph.layers[one])[self.axis] for one in below)
        return _over(layer, mean, taken, self._shape(layer)[self.axis], self.axis)

    def _shape(self, layer: keras.Layer) -> tuple[int, ...]:
        shape = getattr(layer.output, "shape", ())
        return shape if len(shape) == 4 and all(shape[1:3]) else ()


def _over(layer: keras.Layer, line: _Centres, taken: int, given: int, axis: _Axis) -> _Centres | None:
    """The centres after a layer, of those before it; it takes so many places and gives so many."""
    at, kind = axis - 1, type(layer).__name__
    if kind == "Sequential":
        found: _Centres | None = line
        for one in layer.layers:
            found = None if found is None else _over(one, found, one.input.shape[axis], one.output.shape[axis], axis)
        return found
    if hasattr(layer, "layers"):
        graph = LayerGraph(layer)
        inner = _Walk(graph, axis).line(graph.names.index(layer.output_names[0]))
        return None if inner is None else _Centres(line.start + line.step * (inner.start - 0.5), line.step * inner.step)
    if kind == "ZeroPadding2D":
        return line.moved(-layer.padding[at][0])
    if kind == "Cropping2D":
        return line.moved(layer.cropping[at][0])
    if kind == "UpSampling2D":
        factor = layer.size[at]
        return line.moved(0.5 / factor - 0.5, 1 / factor)
    size = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    if size is None or "Transpose" in kind:
        return line if taken == given else None
    stride = layer.strides[at]
    span = (size[at] - 1) * (getattr(layer, "dilation_rate", (1, 1))[at]) + 1
    missing = max((given - 1) * stride + span - taken, 0) if layer.padding == "same" else 0
    return line.moved((span - 1) / 2 - missing // 2, stride)


def spread(values: np.ndarray, picture: tuple[int, int], box: Box, seen: Box | None = None) -> np.ndarray:
    """A map (h, w) that lies on `box` of a picture (width, height), for each of its pixels: float32 (height, width).

    Linear between the middles of the map's places, and beyond the last of them as they are; NaN outside of `seen`, what
    the network saw of the picture, which is `box` by default.
    """
    seen = box if seen is None else seen
    left, top, right, bottom = box
    x, y = values.shape[1] / (right - left), values.shape[0] / (bottom - top)
    around = [(top - seen[1]) * y, (seen[3] - bottom) * y, (left - seen[0]) * x, (seen[2] - right) * x]
    up, down, before, after = (max(0, ceil(places - 1e-6)) for places in around)
    wide = np.pad(np.asarray(values, np.float32), ((up, down), (before, after)), "edge")
    large = np.array(
        Image.fromarray(np.ascontiguousarray(wide)).transform(
            picture,
            Image.Transform.AFFINE,
            (x, 0, before - left * x, 0, y, up - top * y),
            Image.Resampling.BILINEAR,
            fillcolor=float("nan"),
        )
    )
    across, along = np.arange(picture[0]) + 0.5, np.arange(picture[1]) + 0.5
    inside = ((along >= seen[1]) & (along < seen[3]))[:, None] & (across >= seen[0]) & (across < seen[2])
    return np.where(inside, large, np.float32(np.nan))
