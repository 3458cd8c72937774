"""Everything that features reveal about the data: label errors, near-duplicates, outliers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.features import ArrayFeatures, Features, width
from featx.heads.scaling import check_finite
from featx.quality.label_errors import LabelErrors, are_labels_learned, find_label_errors, out_of_fold_probabilities
from featx.quality.near_duplicates import NEAR, NearDuplicates, find_near_duplicates
from featx.quality.outliers import Outliers, find_outliers

_MEMORY = 4 << 30  # bytes of features that may be held; larger ones are read from the disk again and again


@dataclass(frozen=True)
class Quality:
    """All that was found.

    errors : None where images have several labels, or all the same, which are not judged
    learned : whether features carry any information about the labels, without which `errors` means nothing
    """

    errors: LabelErrors | None
    duplicates: NearDuplicates
    outliers: Outliers
    learned: bool = True


def inspect(
    features: Features,
    y: np.ndarray,
    split: np.ndarray,
    groups: np.ndarray | None = None,
    near: float = NEAR,
    seed: int = 0,
) -> Quality:
    """Look for all three; for label errors only where an image has one label, of two classes or more.

    Parameters
    ----------
    features : of n rows, no two of the same image
    y : int64 (n,), codes of classes; or bool (n, k), which of k labels a row has
    split : (n,), the part of each row
    groups : int64 (n,), rows that are not to judge each other's labels
    near : least similarity of near-duplicates
    """
    if 4 * features.shape[0] * width(features) <= _MEMORY:
        features = ArrayFeatures(features.asarray(), features.outputs)
    errors, learned = None, True
    if y.ndim == 1 and len(np.unique(y)) > 1:
        probabilities = out_of_fold_probabilities(features, y, groups, seed=seed)
        errors, learned = find_label_errors(y, probabilities), are_labels_learned(y, probabilities)
    else:
        check_finite(features)
    return Quality(errors, find_near_duplicates(features, split, near), find_outliers(features, y), learned)
