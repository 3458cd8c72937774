"""An output requested of a network: a layer and its pooling."""

from __future__ import annotations

import re
from dataclasses import dataclass

from featx.errors import UsageError

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
