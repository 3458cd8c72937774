"""Features with a position in the image, and a linear head's score for each position.

Features of a map or of the tokens of patches have places. Those of the class token, and of other tokens in front of the
patches, have none: what they add to a score is added to its bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from typing import Protocol

import numpy as np

from featx.backbones import Output, cell_shares
from featx.bundle.bundle import Bundle
from featx.engines.graph_maps import GraphMaps
from featx.heads import persist

_TOKENS = 3  # axes: images, tokens, channels


@dataclass(frozen=True)
class Site:
    """Where the places of an output are read off.

    width : features of the output for each image
    placeless : how many of them, in front, belong to no place
    own : whether the map is of the output's layer, not of one below it
    """

    output: Output
    width: int
    placeless: int = 0
    own: bool = True

    @property
    def placed(self) -> bool:
        """Whether it has places at all."""
        return self.placeless < self.width


class PlacedNetwork(Protocol):
    """A bundle's network, from images to maps and to the features that are made of them."""

    @property
    def bundle(self) -> Bundle:
        """Whose network it is."""
        ...

    @property
    def sites(self) -> Sequence[Site]:
        """One for each of the bundle's outputs; none where one of them has no map."""
        ...

    def look(self, images: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Maps float32 (n, height, width, channels) by output, where it has places, and features float32 (n, d)."""
        ...


def folded_head(bundle: Bundle) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (d, classes) and bias (classes,) of a linear head on the features, a projection folded in."""
    kernel, bias = persist.load_dense(bundle.path / persist.FILES["linear"])
    mean, components = bundle.transform.mean, bundle.transform.components
    if mean is None or components is None:
        return kernel, bias
    return components.T @ kernel, bias - (components @ mean) @ kernel


def count_placeless(pooling: str, front: int, channels: int, width: int) -> int:
    """How many of the features of pooled tokens belong to no place.

    front : tokens in front of those of the patches
    """
    return {"cls": width, "cls+avg": channels, "flatten": front * channels, "none": front * channels}.get(pooling, 0)


def patch_side(patches: int) -> int | None:
    """The side of the square that so many patches fill; None where they fill none that has several places."""
    side = isqrt(patches) if patches > 1 else 0
    return side if side and side * side == patches else None


def dissect(values: np.ndarray, column: np.ndarray, pooling: str) -> np.ndarray:
    """The share of every place in a linear score, times the number of places: float32 (height, width).

    values : (height, width, channels); column : the weights of their pooled values (d,)
    """
    height, width, channels = values.shape
    if pooling in {"avg", "cls+avg"}:
        return np.asarray(values @ column, np.float32)
    if pooling.startswith("grid:"):
        side = int(pooling[5:])
        cells = column.reshape(side, side, channels)
        weights = np.einsum("hi,wj,ijc->hwc", cell_shares(height, side), cell_shares(width, side), cells)
    else:
        weights = column.reshape(values.shape)
    return np.asarray(height * width * np.einsum("hwc,hwc->hw", values, weights), np.float32)


@dataclass(frozen=True)
class GraphMapNetwork:
    """The network of a bundle that was fitted on a graph file: maps without Keras, and without gradients."""

    bundle: Bundle

    @cached_property
    def sites(self) -> list[Site]:
        """One for each of the bundle's outputs; none where one of them has no map."""
        found = [self._find_site(output) for output in self.bundle.outputs]
        return [site for site in found if site is not None] if None not in found else []

    def look(self, images: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Maps and features, of one run of the graph."""
        maps, features = self._maps.infer(images)
        rows = [features[output.name].reshape(len(images), -1) for output in self.bundle.outputs]
        placed = {site.output.name: self._as_map(maps[site.output.name], site) for site in self.sites if site.placed}
        return placed, np.concatenate(rows, axis=1)

    @cached_property
    def _maps(self) -> GraphMaps:
        return GraphMaps(self.bundle.path / "graph")

    def _find_site(self, output: Output) -> Site | None:
        width = self._maps.widths[output.name]
        if output.pooling == "cls":
            return Site(output, width, width)
        shape = self._maps.shapes.get(output.name)
        if shape is None or (len(shape) == _TOKENS and patch_side(shape[1] - self._maps.front(output.name)) is None):
            return None
        if len(shape) > _TOKENS:
            return Site(output, width) if shape[1] * shape[2] > 1 else None
        return Site(output, width, count_placeless(output.pooling, self._maps.front(output.name), shape[2], width))

    def _as_map(self, values: np.ndarray, site: Site) -> np.ndarray:
        if values.ndim > _TOKENS:
            return values
        patches = values[:, self._maps.front(site.output.name) :]
        return patches.reshape(len(values), *[patch_side(patches.shape[1]) or 1] * 2, -1)
