"""Which models cannot be distinguished from the best one on these images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from featx.bundle.manifest import Manifest
from featx.metrics.shares import Interval, wilson
from featx.metrics.table import is_lower_better, metric_key
from featx.report.compared import Row

_DEVIATIONS = 1.959964


def judge_ties(rows: Sequence[Row], manifests: Sequence[Manifest | None]) -> list[Row]:
    """Say of every row how far it is behind the best of its data set, and whether that is within noise.

    The interval is made of those of the two scores (Newcombe 1998, method 10). Both are of the same images, which such
    an interval does not use: it is too wide rather than too narrow.
    """
    intervals = [None if one is None else _interval(one) for one in manifests]
    best = {row.place.data: (row, interval) for row, interval in zip(rows, intervals, strict=True) if row.best}
    return [_judge(row, own, *best.get(row.place.data, (None, None))) for row, own in zip(rows, intervals, strict=True)]


def _judge(row: Row, own: Interval | None, best: Row | None, bound: Interval | None) -> Row:
    if best is None or row.score is None or best.score is None or own is None or bound is None:
        return row
    if (row.metric, row.where) != (best.metric, best.where):
        return row
    sign = -1 if is_lower_better(str(row.metric)) else 1
    (low, high), (least, most) = (sorted((sign * one[0], sign * one[1])) for one in (bound, own))
    lead, first, second = sign * (best.score - row.score), sign * best.score, sign * row.score
    behind = lead - ((first - low) ** 2 + (most - second) ** 2) ** 0.5
    ahead = lead + ((high - first) ** 2 + (second - least) ** 2) ** 0.5
    return replace(row, tie=behind <= 0, behind_low=behind, behind_high=ahead)


def _interval(manifest: Manifest) -> Interval | None:
    """The interval of a score: of val as it was measured, of folds Wilson's over train where the score is a share."""
    score = manifest.score
    if score.value is None:
        return None
    if score.where == "val":
        measured = manifest.metrics_on("val")
        found = (measured.intervals or {}).get(metric_key(score.metric, manifest.target))
        return None if found is None else (float(found[0]), float(found[1]))
    images = manifest.split.images.get("train")
    if score.where != "cv" or not images or score.metric != "accuracy":
        return None
    return wilson(score.value, images, _DEVIATIONS)
