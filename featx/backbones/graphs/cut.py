"""A cut graph: what a graph file becomes for an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino


@dataclass(frozen=True)
class CutGraph:
    """A graph that an engine can run.

    model : takes uint8 (n, height, width, 3), RGB; gives float32
    tensors : output name -> name of its tensor in the model
    batch : images at once that it is fixed to, None for any number; size : (height, width) of an image
    """

    model: openvino.Model
    tensors: dict[str, str]
    batch: int | None
    size: tuple[int, int]
