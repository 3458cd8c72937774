"""Pooling: turn a layer's map into numbers inside the network, and find the cells of a grid again afterwards."""

from __future__ import annotations

from math import isqrt

import numpy as np

from featx.backbones.graphs.cutting import count_prefix
from featx.backbones.output import Output
from featx.backbones.runtime import KerasModel, KerasTensor, import_keras
from featx.errors import BackboneError
from featx.io.counting import counted


def cell_bounds(length: int, count: int) -> list[tuple[int, int]]:
    """First place of each of `count` cells along a side of `length` places, and the first behind it.

    Cells go from floor(i length / count) to ceil((i + 1) length / count): none is empty, and where `count` does not
    divide the length, neighbours share a place.
    """
    return [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]


def cell_shares(length: int, count: int) -> np.ndarray:
    """float32 (length, count): the share of each place in the average of each cell along one side."""
    shares = np.zeros((length, count), np.float32)
    for i, (start, stop) in enumerate(cell_bounds(length, count)):
        shares[start:stop, i] = 1 / (stop - start)
    return shares


def pool(tensor: KerasTensor, output: Output, prefix: int | None = None) -> KerasTensor:
    """A map as numbers.

    tensor : (n, height, width, channels), or (n, tokens, channels), or (n, features), which avg and max leave alone
    prefix : how many of the tokens are in front of those of the patches; None where it is not known, and then `avg`
        and `max` take all of them, and the others take for patches the largest square

    Raises
    ------
    BackboneError
        A pooling that this tensor does not have.
    """
    layers = import_keras().layers
    name = _layer_name(output)
    if output.pooling == "none":
        return tensor
    if output.pooling == "flatten":
        return layers.Flatten(name=name)(tensor)
    rank = len(tensor.shape)
    if rank == 3 and (prefix or output.pooling not in {"avg", "max"}):
        return _pool_tokens(tensor, output, prefix, name)
    if output.pooling.startswith("grid:"):
        return _pool_grid(tensor, int(output.pooling[5:]), output, name)
    table = {
        (4, "avg"): layers.GlobalAveragePooling2D,
        (4, "max"): layers.GlobalMaxPooling2D,
        (3, "avg"): layers.GlobalAveragePooling1D,
        (3, "max"): layers.GlobalMaxPooling1D,
    }
    if rank == 2:
        return tensor
    if rank == 4 and output.pooling in {"cls", "cls+avg"}:
        raise BackboneError(f"{output.name}: the layer gives a map, which has no class token. Use avg, max or grid:N.")
    if (rank, output.pooling) not in table:
        raise BackboneError(f"{output.name}: the layer gives {tensor.shape[1:]}. Use flatten or none.")
    return table[rank, output.pooling](name=name)(tensor)


def _layer_name(output: Output) -> str:
    return f"featx_{output.layer}_{output.pooling.replace(':', '').replace('+', '_')}"


def count_left_out(pooled: KerasModel, output: Output) -> int:
    """How many tokens in front of those of the patches a network with its poolings has, as far as they show it.

    pooled : gives an output of tokens by `pool`
    """
    tokens, patches = pooled.get_layer(output.layer).output.shape[1], f"{_layer_name(output)}_patches"
    if output.pooling in {"cls", "flatten", "none"}:  # which have no part of their own for the patches
        return count_prefix(tokens) or 0
    left_out = next((layer for layer in pooled.layers if layer.name == patches), None)
    return 0 if left_out is None else int(left_out.cropping[0])


def _pool_tokens(tokens: KerasTensor, output: Output, prefix: int | None, name: str) -> KerasTensor:
    """(n, tokens, channels) as rows; the first `prefix` of them belong to no place of the image."""
    layers, count, pooling = import_keras().layers, tokens.shape[1], output.pooling
    if count is None:
        raise BackboneError(f"{output.name}: the number of tokens is not fixed. Use avg or max.")
    front = (count_prefix(count) or 0) if prefix is None else prefix
    patches = layers.Cropping1D((front, 0), name=f"{name}_patches")(tokens) if front else tokens
    if pooling.startswith("grid:"):
        side = isqrt(count - front)
        if side * side != count - front:
            raise BackboneError(
                f"{output.name}: {counted(count - front, 'token does', 'tokens do')} not form a square of patches. "
                "Use avg, or give the number of tokens before them with --prefix-tokens."
            )
        as_map = layers.Reshape((side, side, tokens.shape[2]), name=f"{name}_map")(patches)
        return _pool_grid(as_map, int(pooling[5:]), output, name)
    if pooling == "max":
        return layers.GlobalMaxPooling1D(name=name)(patches)
    if pooling == "avg":
        return layers.GlobalAveragePooling1D(name=name)(patches)
    if not front:
        raise BackboneError(f"{output.name}: the layer has no class token ({counted(count, 'token')}). Use avg or max.")
    first = layers.Cropping1D((0, count - 1), name=f"{name}_first")(tokens)
    if pooling == "cls":
        return layers.Flatten(name=name)(first)
    average = layers.GlobalAveragePooling1D(name=f"{name}_average")(patches)
    return layers.Concatenate(name=name)([layers.Flatten(name=f"{name}_class")(first), average])


def _pool_grid(tensor: KerasTensor, side: int, output: Output, name: str) -> KerasTensor:
    """The average over each cell of a grid, flattened; see `cell_bounds`."""
    layers = import_keras().layers
    if len(tensor.shape) != 4:
        raise BackboneError(f"{output.name}: a grid needs a map; the layer gives {tensor.shape[1:]}. Use avg.")
    height, width = tensor.shape[1:3]
    if side > min(height, width):
        raise BackboneError(
            f"{output.name}: the map is {height} x {width}, too small for a grid of {side} x {side}. Choose grid:"
            f"{min(height, width)} or less, an earlier layer, or larger images."
        )
    if height % side == 0 and width % side == 0:
        cells = layers.AveragePooling2D((height // side, width // side), name=f"{name}_cells")(tensor)
    else:
        rows = _average_cells(tensor, "bhwc,hg->bgwc", side, 1, f"{name}_rows")
        cells = _average_cells(rows, "bhwc,wg->bhgc", side, 2, f"{name}_columns")
    return layers.Flatten(name=name)(cells)


def _average_cells(tensor: KerasTensor, equation: str, count: int, axis: int, name: str) -> KerasTensor:
    """Average the places along one axis into `count` cells, by a fixed matrix."""
    shape = [count if i == axis else side for i, side in enumerate(tensor.shape)][1:]
    layer = import_keras().layers.EinsumDense(equation, shape, kernel_initializer="zeros", trainable=False, name=name)
    averaged = layer(tensor)
    layer.set_weights([cell_shares(tensor.shape[axis], count)])
    return averaged
