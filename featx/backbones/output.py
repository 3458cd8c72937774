"""An output requested of a network: a layer and its pooling."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from featx.errors import UsageError
from featx.io.suggest import did_you_mean

POOLINGS = ("avg", "max", "grid:N", "flatten", "none", "cls", "cls+avg")


@dataclass(frozen=True, order=True)
class Output:
    """One set of features: a layer and how its map becomes numbers."""

    layer: str
    pooling: str

    @property
    def name(self) -> str:
        """`layer@pooling`, as in `mixed7@avg`."""
        return f"{self.layer}@{self.pooling}"

    @classmethod
    def parse(cls, name: str) -> Output:
        """The output called `layer@pooling`.

        Raises
        ------
        UsageError
            When the text has no '@', no layer, or a pooling that does not exist.
        """
        layer, separator, pooling = name.rpartition("@")
        if not separator or not layer:
            raise UsageError(f"An output is written LAYER@POOLING, as in mixed7@avg; received {name!r}.")
        return cls(layer, check_pooling(pooling))


def check_pooling(pooling: str) -> str:
    """The pooling in its one spelling.

    Raises
    ------
    UsageError
        When it is none of these.
    """
    text = pooling.strip().lower()
    grid = re.fullmatch(r"grid:0*([1-9]\d*)", text)
    if grid:
        return f"grid:{grid[1]}"
    if text in POOLINGS and text != "grid:N":
        return text
    raise UsageError(f"No pooling {pooling!r}. Choose one of {', '.join(POOLINGS)} (N a whole number, as in grid:4).")


def did_you_mean_layer(layer: str, known: Collection[str]) -> str:
    """What follows a sentence about an unknown layer; several in one, with commas between them, are named apart.

    known : the names of the network's layers
    """
    several = [one.strip() for one in layer.split(",")]
    if len(several) > 1 and all(one.partition("@")[0] in known for one in several):
        return f" Name one at a time: {' '.join(f'--layer {one}' for one in several)}."
    return did_you_mean(layer, known, most=3)
