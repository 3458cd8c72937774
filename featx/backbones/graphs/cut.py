"""A cut graph: the form in which an engine runs a graph file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino


@dataclass(frozen=True)
class MapTensor:
    """What features are pooled from: a map (n, height, width, channels), or tokens (n, tokens, channels).

    tensor : its name in the model; front : tokens in front of those of the patches
    """

    tensor: str
    front: int = 0


@dataclass(frozen=True)
class CutGraph:
    """A graph that an engine can run.

    model : takes uint8 (n, height, width, 3), RGB; gives float32
    tensors : output name -> name of its tensor in the model
    batch : images at once that it is fixed to, None for any number; size : (height, width) of an image
    maps : output name -> what it is pooled from, where that has places
    """

    model: openvino.Model
    tensors: dict[str, str]
    batch: int | None
    size: tuple[int, int]
    maps: Mapping[str, MapTensor] = field(default_factory=dict)
