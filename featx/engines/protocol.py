"""The interface of an engine: a frozen graph that turns batches of images into features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np

from featx.errors import EngineError


class Engine(Protocol):
    """A graph ready to run.

    name : the engine's name
    precision : the arithmetic it really uses, read back from it
    batch_size : images per inference
    """

    name: str
    precision: str
    batch_size: int

    @property
    def handover(self) -> int:
        """Images worth giving to `infer` at once, which takes any number."""
        ...

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Features of every image by output name.

        images : uint8 (n, height, width, 3), RGB. Gives {output name: float32 (n, ...)} in memory of its own. A row
        does not depend on the other rows of its batch. Threads that call at the same time wait for each other.

        Raises
        ------
        EngineError
            Another dtype or shape.
        """
        ...


def check_images(images: np.ndarray, size: tuple[int, int]) -> None:
    """Refuse what is not a uint8 batch of this size.

    Raises
    ------
    EngineError
        Says what came and what the graph takes.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (*size, 3):
        raise EngineError(
            f"The graph takes images as uint8 (n, {size[0]}, {size[1]}, 3); received {images.dtype} {images.shape}."
        )


def infer_in_batches(
    images: np.ndarray, batch_size: int, run: Callable[[np.ndarray], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Features of all images by output name, one batch of a fixed size after the other.

    run : takes uint8 (batch_size, h, w, 3), gives {name: (batch_size, ...)}, which may be overwritten by the next call
    """
    results: dict[str, np.ndarray] = {}
    for start, batch in full_batches(images, batch_size):
        used = min(batch_size, len(images) - start)
        for name, rows in run(batch).items():
            if name not in results:
                results[name] = np.empty((len(images), *rows.shape[1:]), np.float32)
            results[name][start : start + used] = rows[:used]
    return results


def full_batches(images: np.ndarray, batch_size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (position of the first, images) in batches of one size, at least one, the last filled up with black."""
    for start in range(0, max(len(images), 1), batch_size):
        batch = images[start : start + batch_size]
        if len(batch) < batch_size:
            batch = np.concatenate([batch, np.zeros((batch_size - len(batch), *images.shape[1:]), np.uint8)])
        yield start, np.ascontiguousarray(batch)
