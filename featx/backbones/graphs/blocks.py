"""The blocks of a graph, found by its structure, since names in files are not reliable.

Between two clean cuts lies a segment. A segment in which paths branch and meet again, with kernels on them, is a block:
a residual or an Inception block, or one half of a transformer's, whose attention is followed by its MLP. A network that
never branches has a block for every kernel. An activation behind a block belongs to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BlockStep:
    """One operation, as far as blocks go.

    kernel : whether it multiplies by weights, or two tensors with each other
    attention : whether it multiplies two tensors that both depend on the image
    activation : whether it is a function of every number by itself
    clean : whether its tensor is a clean cut
    """

    kernel: bool
    attention: bool
    activation: bool
    clean: bool


@dataclass(frozen=True)
class _Segment:
    """The operations between two clean cuts: positions from `start` up to `end`, which is the clean one."""

    start: int
    end: int
    kernels: int
    attention: bool
    activation: bool

    @property
    def branches(self) -> bool:
        return self.end > self.start and self.kernels > 0


def name_steps(steps: Sequence[BlockStep]) -> list[str]:
    """The block of every operation, `block1` the lowest; "" for those that belong to none."""
    segments = _segments(steps)
    branching = [segment.branches and segment.kernels > 1 for segment in segments]
    begins = branching if any(branching) else [segment.kernels > 0 for segment in segments]
    blocks = [""] * len(steps)
    number, inside, waits = 0, False, False
    for segment, begin in zip(segments, begins, strict=True):
        if begin and waits and not segment.attention:  # the MLP behind an attention
            waits = False
        elif begin:
            number, inside, waits = number + 1, True, segment.attention
        else:
            inside = inside and segment.activation
        if inside:
            blocks[segment.start : segment.end + 1] = [f"block{number}"] * (segment.end + 1 - segment.start)
    return blocks


def _segments(steps: Sequence[BlockStep]) -> list[_Segment]:
    found, start = [], 0
    for end, step in enumerate(steps):
        if step.clean:
            within = steps[start : end + 1]
            found.append(
                _Segment(
                    start,
                    end,
                    sum(one.kernel for one in within),
                    any(one.attention for one in within),
                    end == start and step.activation,
                )
            )
            start = end + 1
    return found
