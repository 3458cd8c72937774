"""Position embeddings at another image size, interpolated as the authors of vision transformers do.

Bicubic with a = -0.75, half-pixel centres and no antialiasing: `torch.nn.functional.interpolate(mode="bicubic")`. With
`antialias=True`, as for DINOv2 with registers, a = -0.5 and a filter as wide as the shrinking asks for: Pillow's.
"""

from __future__ import annotations

from math import isqrt

import numpy as np

from featx.errors import BackboneError
from featx.io.counting import counted

_A = -0.75
_SMOOTH_A = -0.5


def interpolate_positions(table: np.ndarray, tokens: int, antialias: bool = False) -> np.ndarray:
    """Embeddings (..., positions, channels) of a square grid as those of another; what is in front of it stays.

    Raises
    ------
    BackboneError
        The numbers of positions are not those of two square grids with the same tokens in front of them.
    """
    count = table.shape[-2]
    prefix = next((n for n in range(3) if _is_square(count - n) and _is_square(tokens - n)), None)
    if prefix is None:
        raise BackboneError(
            f"{counted(count, 'position embedding')} cannot be interpolated to {tokens}: these are not square grids of "
            "patches."
        )
    old, new = isqrt(count - prefix), isqrt(tokens - prefix)
    front, grid = table[..., :prefix, :], table[..., prefix:, :]
    grid = grid.reshape(*table.shape[:-2], old, old, table.shape[-1]).astype(np.float64)
    matrix = _smooth_matrix(old, new) if antialias else _cubic_matrix(old, new)
    resized = np.einsum("yi,xj,...ijc->...yxc", matrix, matrix, grid)
    rows = resized.reshape(*table.shape[:-2], new * new, table.shape[-1])
    return np.concatenate([front, rows.astype(table.dtype)], axis=-2)


def _is_square(count: int) -> bool:
    return count > 0 and isqrt(count) ** 2 == count


def _cubic_matrix(old: int, new: int) -> np.ndarray:
    """float64 (new, old): the weight of each old place in each new one."""
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(centres).astype(int)
    matrix = np.zeros((new, old))
    for tap in range(-1, 3):
        places = np.clip(first + tap, 0, old - 1)  # the border is repeated
        np.add.at(matrix, (np.arange(new), places), _cubic(np.abs(centres - (first + tap)), _A))
    return matrix


def _smooth_matrix(old: int, new: int) -> np.ndarray:
    """The same with antialiasing: a wider filter, of which the border cuts a part off."""
    scale = max(1.0, old / new)
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    matrix = _cubic(np.abs(np.arange(old) - centres[:, None]) / scale, _SMOOTH_A)
    return np.asarray(matrix / matrix.sum(axis=1, keepdims=True))


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
