"""Transforms before a head: concatenation of several layers, unit length, principal components.

All of it happens block by block, so that features larger than memory pass through it as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import BundleError, HeadError
from featx.features import Features, block_rows, width
from featx.heads.scaling import check_finite, float_blocks
from featx.io.counting import counted
from featx.io.zips import floats, load_arrays

TRANSFORM_FILE = "front.npz"
_TINY = np.float32(1e-12)  # the least length that a row is divided by


@dataclass(frozen=True)
class JoinedFeatures:
    """Features of the same images from several layers or poolings, side by side."""

    parts: tuple[Features, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, sum of the parts' widths)."""
        return self.parts[0].shape[0], sum(map(width, self.parts))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that holds every part's values."""
        return np.result_type(*(part.dtype for part in self.parts))

    @property
    def outputs(self) -> tuple[int, ...]:
        """Those of every part; () where one of them does not know."""
        of_parts = [part.outputs for part in self.parts]
        return tuple(width for outputs in of_parts for width in outputs) if all(of_parts) else ()

    def blocks(self, rows: int = 0) -> Iterator[np.ndarray]:
        """Yield float32 (at most `rows`, d)."""
        rows = rows or block_rows(self.shape[1])
        for blocks in zip(*(float_blocks(part, rows) for part in self.parts), strict=True):
            yield np.concatenate(blocks, axis=1)

    def asarray(self) -> np.ndarray:
        """Return float32 (n, d)."""
        return np.concatenate([part.asarray() for part in self.parts], axis=1)

    def take(self, rows: np.ndarray) -> JoinedFeatures:
        """Return these rows."""
        return JoinedFeatures(tuple(part.take(rows) for part in self.parts))


def join(parts: Sequence[Features]) -> Features:
    """Features side by side; a single part as it is."""
    return parts[0] if len(parts) == 1 else JoinedFeatures(tuple(parts))


@dataclass(frozen=True)
class Transform:
    """Rows brought to unit length, then projected on principal components; either may be absent.

    unit : whether rows are divided by their Euclidean length
    mean, components : float32 (d,), (c, d); None: no projection
    """

    unit: bool = False
    mean: np.ndarray | None = None
    components: np.ndarray | None = None

    @property
    def changes(self) -> bool:
        """Whether anything is done at all."""
        return self.unit or self.components is not None

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Float32 (n, d) -> float32 (n, d) or (n, c)."""
        block = np.asarray(block, np.float32)
        if self.unit:
            block = block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), _TINY)
        if self.components is not None:
            block = (block - self.mean) @ self.components.T
        return block

    def of(self, features: Features) -> Features:
        """The features seen through this transform."""
        return TransformedFeatures(features, self) if self.changes else features

    def save(self, path: Path) -> None:
        """Write it as plain arrays."""
        if self.mean is None or self.components is None:
            np.savez(path, unit=np.array(self.unit))
        else:
            np.savez(path, unit=np.array(self.unit), mean=self.mean, components=self.components)


def load_transform(path: Path) -> Transform:
    """Read what `Transform.save` wrote.

    Raises
    ------
    BundleError
        A file that is not one.
    """
    try:
        arrays = load_arrays(path)
        parts = [floats(arrays, name) if name in arrays else None for name in ("mean", "components")]
        return Transform(bool(arrays["unit"]), *parts)
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(f"{path} is damaged: {error}. Get the bundle again from its source.") from error


@dataclass(frozen=True)
class TransformedFeatures:
    """Features seen through a transform."""

    features: Features
    transform: Transform

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d), or (n, c) behind a projection."""
        components = self.transform.components
        return self.features.shape[0], width(self.features) if components is None else len(components)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32."""
        return np.dtype(np.float32)

    @property
    def outputs(self) -> tuple[int, ...]:
        """As without the transform; () behind a projection, whose components have spreads of their own."""
        return self.features.outputs if self.transform.components is None else ()

    def blocks(self, rows: int = 0) -> Iterator[np.ndarray]:
        """Yield float32 (at most `rows`, d)."""
        yield from map(self.transform.apply, self.features.blocks(rows))

    def asarray(self) -> np.ndarray:
        """Return float32 (n, d)."""
        blocks = list(self.blocks())
        return np.concatenate(blocks) if blocks else np.empty(self.shape, np.float32)

    def take(self, rows: np.ndarray) -> TransformedFeatures:
        """Return these rows."""
        return replace(self, features=self.features.take(rows))


def fit_transform(features: Features, unit: bool, components: float | None, memory: int, seed: int) -> Transform:
    """Learn a transform from the training rows; labels have no part in it.

    Parameters
    ----------
    components : how many principal components are kept; below 1, as many as explain that share of the variance;
        None: no projection
    memory : bytes of float32 features that may be held; more are read block by block

    Raises
    ------
    HeadError
        More components than rows or features, or a share of the variance of features that do not fit in memory.
    """
    transform = Transform(unit)
    if components is None:
        return transform
    check_finite(features)
    n, d = features.shape[0], width(features)
    if components >= 1 and (components != int(components) or components > min(n, d)):
        raise HeadError(
            f"--pca {components:g}: {counted(n, 'training row')} of {counted(d, 'feature')} have at most {min(n, d)} "
            "principal components. Give a whole number up to that, or a share of the variance below 1."
        )
    found = _decompose(transform.of(features), components, 4 * n * d <= memory, seed)
    return replace(transform, mean=found.mean_.astype(np.float32), components=found.components_.astype(np.float32))


def _decompose(features: Features, components: float, fits: bool, seed: int) -> Any:
    from sklearn.decomposition import PCA, IncrementalPCA

    if fits:
        return PCA(int(components) if components >= 1 else components, random_state=seed).fit(features.asarray())
    if components < 1:
        raise HeadError(
            "--pca with a share of the variance needs the features in memory. Give a number of components, or more "
            "--memory."
        )
    found = IncrementalPCA(int(components))
    rows = max(5 * width(features), 2 * int(components))  # scikit-learn's own batch
    kept: list[np.ndarray] = []
    for block in features.blocks():
        kept.append(np.array(block))
        if sum(map(len, kept)) >= rows:
            found.partial_fit(np.concatenate(kept))
            kept = []
    if kept and (rest := np.concatenate(kept)).shape[0] >= components:
        found.partial_fit(rest)
    return found
