"""Stable layer names, independent of how many networks were built before.

Keras numbers automatic names (`conv2d`, `conv2d_1`, ...) through every network that a process builds. Within a class
the numbers follow the order of creation, so their ranks are the numbers that a fresh process would have given.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from featx.backbones.runtime import KerasLayer, KerasModel

_Numbered = tuple[str, int]  # a base and its running number, -1 where there is none


def give_stable_names(network: KerasModel) -> KerasModel:
    """Rename the automatically named layers as the first network of a fresh process would have them."""
    for layer, name in zip(network.layers, stable_names(network.layers), strict=True):
        layer.name = name
    return network


def stable_names(layers: Sequence[KerasLayer]) -> list[str]:
    """The stable name of each layer; names that somebody chose stay as they are."""
    automatic = [_automatic(layer) for layer in layers]
    rank = _ranks([numbered for numbered in automatic if numbered])
    return [
        layer.name if numbered is None else _number(numbered[0], rank[numbered])
        for layer, numbered in zip(layers, automatic, strict=True)
    ]


def renumber(names: Sequence[str]) -> list[str]:
    """Names with their trailing numbers replaced by ranks: `conv2d_95, conv2d_96` becomes `conv2d#0, conv2d#1`.

    So two networks of one architecture agree, whatever was built before either of them.
    """
    numbered = [_split(name) for name in names]
    rank = _ranks(numbered)
    return [f"{base}#{rank[base, number]}" for base, number in numbered]


def _automatic(layer: KerasLayer) -> _Numbered | None:
    """The parts of an automatic name; None for a name that somebody chose."""
    base, number = _split(layer.name)
    return (base, number) if base == _snake_case(type(layer).__name__) else None


def _split(name: str) -> _Numbered:
    base, _, number = name.rpartition("_")
    return (base, int(number)) if base and number.isascii() and number.isdigit() else (name, -1)


def _ranks(numbered: Sequence[_Numbered]) -> dict[_Numbered, int]:
    count: dict[str, int] = {}
    ranks: dict[_Numbered, int] = {}
    for base, number in sorted(set(numbered)):
        ranks[base, number] = count.get(base, 0)
        count[base] = ranks[base, number] + 1
    return ranks


def _number(base: str, rank: int) -> str:
    return f"{base}_{rank}" if rank else base


def _snake_case(name: str) -> str:
    # Keras' own rule for automatic names: keras.src.utils.naming.to_snake_case
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
