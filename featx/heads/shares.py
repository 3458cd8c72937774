"""The shares of classes or labels among the rows: everything known about them without features."""

from __future__ import annotations

import numpy as np


def class_shares(index: np.ndarray, columns: int, weights: np.ndarray) -> np.ndarray:
    """Float64 (fits, columns): what part of the weight of each fit, (fits, n), is of each column's class or label.

    index, columns : as in `LinearTask`; a single column is of the second of two classes
    """
    if index.ndim == 2:
        positive, size = weights @ np.maximum(index, 0), weights @ np.abs(index)
        return np.asarray(positive / np.maximum(size, np.finfo(np.float64).tiny))
    counts = np.stack([np.bincount(index, one, max(columns, 2)) for one in weights])
    return np.asarray((counts / counts.sum(axis=1, keepdims=True))[:, -columns:])
