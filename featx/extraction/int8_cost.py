"""The cost of int8: a quantised network's features against float32, on held-back images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np

from featx.engines.protocol import Engine
from featx.io.counting import counted, counted_of
from featx.io.jsontypes import Json

LEAST_COSINE = 0.95  # the median, below which features are others
MOST_LOST = 0.05  # of the held images, that float32 gets right and int8 wrong, less the reverse
_LEAST_LOST = 3  # images: fewer may be chance
_MOST_COLUMNS = 4096  # that a quick head looks at

Batches = Callable[[int], Iterable[np.ndarray]]
"""Images of a size of batches, uint8 (n, height, width, 3)"""


@dataclass(frozen=True)
class Int8Cost:
    """What was measured of one output, that which loses most.

    output : its name; images : that were held back; calibrated : images that the ranges were measured on
    cosine, worst : between int8 and float32 features, the median and the least of all images
    changed : images to which a nearest-class-mean head gives another answer; None without labels
    lost : of these, the right answers that became wrong ones less the reverse
    left : kinds of layers that stayed in float32
    """

    output: str
    images: int
    calibrated: int
    cosine: float
    worst: float
    changed: int | None
    lost: int | None
    left: tuple[str, ...] = ()

    @property
    def acceptable(self) -> bool:
        """Whether the features are good enough to be used."""
        lost = self.lost or 0
        return self.cosine >= LEAST_COSINE and (lost < _LEAST_LOST or lost <= MOST_LOST * self.images)

    def as_json(self) -> dict[str, Json]:
        """What `graph.json` holds of it."""
        return asdict(self) | {"left": list(self.left)}

    def __str__(self) -> str:
        """In a line."""
        shown = f"cosine to float32 {self.cosine:.4f} (median), {self.worst:.3f} (worst)"
        if self.changed is not None:
            shown += f"; {counted_of(self.changed, self.images, 'prediction')} of a nearest-class-mean head changed"
        left = f", {', '.join(self.left)} left in float32" if self.left else ""
        on = f"Measured on {counted(self.images, 'held image')}; calibrated on {self.calibrated}{left}."
        return f"int8, {self.output}: {shown}. {on}"


@dataclass(frozen=True)
class Sampled:
    """Images to compare on: those that the network was calibrated on, by which a quick head is fitted, and others.

    fitted_labels, held_labels : int64 (n,), -1 for none; None where an image has not one label
    """

    fitted: Batches
    held: Batches
    fitted_labels: np.ndarray | None = None
    held_labels: np.ndarray | None = None

    @property
    def labelled(self) -> bool:
        """Whether a head can be fitted and judged."""
        if self.fitted_labels is None or self.held_labels is None:
            return False
        classes = set(self.fitted_labels.tolist()) - {-1}
        return len(classes) > 1 and bool(np.isin(self.held_labels, list(classes)).any())


def measure_cost(exact: Engine, rounded: Engine, sampled: Sampled, calibrated: int, left: tuple[str, ...]) -> Int8Cost:
    """Compare two engines of one network."""
    held = _Pairs.of(exact, rounded, sampled.held)
    fitted = _Pairs.of(exact, rounded, sampled.fitted) if sampled.labelled else None
    costs = []
    for name, cosines in held.cosines.items():
        answers = None if fitted is None else _answers(held.rows[name], fitted.rows[name], sampled)
        changed = lost = None
        if answers is not None and sampled.held_labels is not None:
            before, after = answers
            changed = int((before != after).sum())
            lost = int((before == sampled.held_labels).sum()) - int((after == sampled.held_labels).sum())
        median, worst = float(np.median(cosines)), float(cosines.min())
        costs.append(Int8Cost(name, len(cosines), calibrated, median, worst, changed, lost, left))
    return min(costs, key=lambda cost: (cost.acceptable, -(cost.lost or 0), cost.cosine))


@dataclass(frozen=True)
class _Pairs:
    """By output: cosines float64 (n,), and rows of both engines, float32 (n, at most `_MOST_COLUMNS`)."""

    cosines: dict[str, np.ndarray]
    rows: dict[str, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, exact: Engine, rounded: Engine, batches: Batches) -> _Pairs:
        """Run both on all images, a batch at a time: maps of all of them may be large."""
        cosines: dict[str, list[np.ndarray]] = {}
        rows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for images in batches(max(exact.batch_size, 8)):
            before, after = exact.infer(images), rounded.infer(images)
            for name in before:
                a, b = (found[name].reshape(len(images), -1) for found in (before, after))
                cosines.setdefault(name, []).append(row_cosines(a, b))
                rows.setdefault(name, []).append((_fewer_columns(before[name]), _fewer_columns(after[name])))
        joined = {name: tuple(map(np.concatenate, zip(*pairs, strict=True))) for name, pairs in rows.items()}
        return cls({name: np.concatenate(some) for name, some in cosines.items()}, joined)  # type: ignore[arg-type]


def row_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The cosine of each pair of rows; 1 where both are zero, 0 where one is or holds anything but finite numbers."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (a * b).sum(axis=1) / lengths
    found = np.where(lengths == 0, (a == b).all(axis=1), found)
    return np.where(np.isfinite(found), found, 0.0)


def _fewer_columns(rows: np.ndarray) -> np.ndarray:
    """Maps averaged over their places, and of long rows every so many columns."""
    flat = rows.mean(axis=tuple(range(1, rows.ndim - 1))) if rows.ndim > 2 else rows
    return np.ascontiguousarray(flat[:, :: -(-flat.shape[1] // _MOST_COLUMNS)])


def _answers(
    held: tuple[np.ndarray, np.ndarray], fitted: tuple[np.ndarray, np.ndarray], sampled: Sampled
) -> tuple[np.ndarray, np.ndarray]:
    """The classes that heads fitted on float32 and on int8 features give to the held images, int64 (n,) each."""
    assert sampled.fitted_labels is not None
    before, after = (_nearest_mean(a, sampled.fitted_labels, b) for a, b in zip(fitted, held, strict=True))
    return before, after


def _nearest_mean(rows: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The class whose mean is nearest to each row, int64 (n,), every column scaled by its deviation."""
    centre, scale = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    classes = np.unique(labels[labels >= 0])
    means = np.stack([((rows[labels == one] - centre) / scale).mean(axis=0) for one in classes])
    given = (asked - centre) / scale
    distance = (means**2).sum(axis=1) - 2 * given @ means.T
    return np.asarray(classes[distance.argmin(axis=1)])
