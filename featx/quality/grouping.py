"""Groups of near-duplicates, to keep on one side of a split if no column names groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from featx.dataset import ImageSet
from featx.errors import DataError
from featx.features import Features
from featx.io.counting import agreeing, counted, counted_of
from featx.metrics.similarity import close_pairs

_MOST_PAIRS = 2_000_000
_LARGE = 0.2  # of the images in one group: shares of the split can no longer be kept


def group_near_duplicates(
    images: ImageSet, rows: np.ndarray, features: Features, threshold: float
) -> tuple[ImageSet, str]:
    """The images with groups, and a sentence on them: images at least so similar, and what is similar to these.

    Groups that the images have already stay whole, and are joined where near-duplicates cross them.

    rows : int64 (n,), positions of the different images that could be read; features : of these, n rows

    Raises
    ------
    DataError
        So many pairs that nearly all images are alike to each other.
    """
    _, pairs = close_pairs(features, threshold, np.zeros(len(rows), np.uint8), _MOST_PAIRS + 1)
    if len(pairs.first) > _MOST_PAIRS:
        raise DataError(
            f"More than {_MOST_PAIRS:,} pairs of images have a similarity of at least {threshold:g}, so most would be "
            "one group. Raise --group-duplicates, or choose another --layer."
        )
    known = images.groups or ("",) * len(images)
    merged = _merge(known, rows[pairs.first], rows[pairs.second])
    near = np.unique(np.concatenate([rows[pairs.first], rows[pairs.second]]))
    sizes = np.unique([merged[row] for row in near.tolist()], return_counts=True)[1] if len(near) else np.zeros(0, int)
    text = (
        f"{counted_of(len(near), len(rows), 'image')} {agreeing(len(near), 'is', 'are')} in "
        f"{counted(len(sizes), 'group')} of near-duplicates"
    )
    largest = int(sizes.max(initial=0))
    text += f", the largest of {largest:,}, by --group-duplicates {threshold:g}." if largest else "."
    if largest > _LARGE * len(rows):
        text += " That is a large part of them: a higher value groups fewer."
    named = " and ".join(filter(None, [images.grouped_by, "likeness"]))
    return replace(images, groups=merged, grouped_by=named), text


def _merge(names: tuple[str, ...], first: np.ndarray, second: np.ndarray) -> tuple[str, ...]:
    """The group of each row where these pairs are of one group, "" where it stands alone."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(names)
    named = np.array([bool(name) for name in names], bool)
    codes = count + np.unique(np.array(names, object).astype(str), return_inverse=True)[1]
    edges = np.concatenate([first, np.flatnonzero(named)]), np.concatenate([second, codes[named]])
    nodes = count + (int(codes.max()) - count + 1 if count else 0)
    graph = coo_array((np.ones(len(edges[0]), bool), edges), shape=(nodes, nodes))
    component = connected_components(graph, directed=False)[1]
    together = named.copy()
    together[first] = together[second] = True
    return tuple(f"group {component[row]}" if together[row] else "" for row in range(count))
