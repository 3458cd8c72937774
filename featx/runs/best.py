"""The best bundle of a run, chosen by the figure that overfits least.

Heads that were all compared in folds are ranked by these, which have more images than val and leave each out once. A
network that was trained further, or from scratch, is measured on val alone, which has chosen its epoch as well: it
takes the place of a bundle only where it is ahead by one standard error of the difference, which is the paired one
where the two were compared image by image. Otherwise the two are a tie, and the head stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot, sqrt

from featx.bundle.bundle import Bundle
from featx.bundle.manifest import Manifest
from featx.metrics.table import metric_form, signed_score

_DEVIATIONS = 1.959964  # of a normal distribution, between which 95 % lie


def choose_best(rivals: Sequence[Bundle]) -> Bundle:
    """The best of bundles with one metric and one split, the oldest first; of equal ones the older."""
    heads = [one for one in rivals if not _was_trained(one.manifest)] or list(rivals)
    by_folds = all(one.manifest.fold_score is not None for one in heads)
    best = max(heads, key=lambda one: _signed(one.manifest, one.manifest.fold_score if by_folds else _val(one)))
    trained = [one for one in rivals if _was_trained(one.manifest) and replaces_origin(one.manifest)]
    for one in sorted(trained, key=lambda rival: -_signed(rival.manifest, _val(rival))):
        origin = one.manifest.origin
        if origin is not None and origin.digest and origin.digest == best.manifest.digest:
            return one  # its comparison has measured both in the same way, and their records need not
        lead = _signed(one.manifest, _val(one)) - _signed(best.manifest, _val(best))
        if lead > 0 and lead >= _error(one.manifest, best.manifest):
            return one
    return best


def rank_shown(rivals: Sequence[Bundle]) -> str:
    """By what bundles with one metric and one split are ranked: "folds of train" or "val"."""
    heads = [one for one in rivals if not _was_trained(one.manifest)] or list(rivals)
    return "folds of train" if all(one.manifest.fold_score is not None for one in heads) else "val"


def replaces_origin(manifest: Manifest) -> bool:
    """Whether a network is ahead of the bundle that it was trained from by one standard error on val, paired.

    A network from scratch has none to be ahead of.
    """
    comparison = (manifest.comparison or {}).get("val")
    if comparison is None or manifest.origin is None:
        return True
    found, metric = comparison.judged, manifest.score.metric
    if found.metric != metric:  # the difference has no interval by this metric
        before = manifest.origin.metrics_on("val").chosen_by(metric)
        return before is None or _signed(manifest, manifest.score.value) > _signed(manifest, before)
    lead = signed_score(metric, found.values[0]) - signed_score(metric, found.values[1])
    return lead > 0 and lead >= comparison.standard_error


def is_tie(manifest: Manifest) -> bool:
    """Whether a network is ahead of its origin on val, and not by enough to take its place."""
    comparison = (manifest.comparison or {}).get("val")
    if comparison is None or replaces_origin(manifest):
        return False
    first, second = (signed_score(comparison.judged.metric, value) for value in comparison.judged.values)
    return first >= second


def _was_trained(manifest: Manifest) -> bool:
    return manifest.finetune is not None or manifest.baseline is not None


def _val(bundle: Bundle) -> float | None:
    return bundle.manifest.score.value


def _signed(manifest: Manifest, value: float | None) -> float:
    return float("-inf") if value is None else signed_score(manifest.score.metric, value)


def _error(manifest: Manifest, other: Manifest) -> float:
    """The standard error of the difference between a network and another bundle on val.

    Where it was not compared with a bundle image by image, as if the two were measured on different images: somewhat
    more than it is.
    """
    comparison = (manifest.comparison or {}).get("val")
    if comparison is not None and comparison.judged.metric == manifest.score.metric:
        return comparison.standard_error
    return hypot(_own_error(manifest), _own_error(other))


def _own_error(manifest: Manifest) -> float:
    """The standard error of a score on val: by its interval or, without one, that of a share."""
    val, form = manifest.metrics_on("val"), metric_form(manifest.score.metric, manifest.target)
    found = (val.intervals or {}).get(manifest.score.metric if form is None else form.key)
    if found is not None:
        return (found[1] - found[0]) / (2 * _DEVIATIONS)
    share = min(max(_signed(manifest, manifest.score.value), 0.0), 1.0)
    return sqrt(share * (1 - share) / max(val.images, 1))
