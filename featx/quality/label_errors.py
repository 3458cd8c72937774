"""Likely label errors, from existing features.

What is found is a list to look through, the most suspicious first. Nothing is removed or changed: labels that a person
has corrected come back as a CSV (`featx.runs.labels`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.features import Features
from featx.heads.scaling import check_finite
from featx.heads.table import head_kind
from featx.metrics.probabilities import fit_temperature, softmax
from featx.metrics.scores import score
from featx.selection.folds import make_folds
from featx.selection.problem import Problem
from featx.selection.search import try_strengths
from featx.selection.settings import SearchSettings

_ONE_IN_TWENTY = 1.645  # standard errors that a mean exceeds by chance once in twenty times
_SLACK = 1e-6  # a probability this little below its threshold reaches it
_UNLIKELY = 0.05  # the probability of a label from which down it is suspicious in any case
_STRENGTHS = (1e-4, 1e-3, 1e-2, 0.1, 1.0)  # C, from strong regularisation on, until the loss rises


@dataclass(frozen=True)
class LabelErrors:
    """Rows whose label is likely wrong, the likeliest first.

    rows : int64 (m,), positions; suggested : int64 (m,), the codes of the class that they are taken for
    confidence : float64 (m,), the probability of that class; given : float64 (m,), that of the label they have
    """

    rows: np.ndarray
    suggested: np.ndarray
    confidence: np.ndarray
    given: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, wanted: np.ndarray) -> LabelErrors:
        """Some of them, by a mask."""
        return LabelErrors(self.rows[wanted], self.suggested[wanted], self.confidence[wanted], self.given[wanted])


def out_of_fold_probabilities(
    features: Features, y: np.ndarray, groups: np.ndarray | None = None, folds: int = 5, seed: int = 0
) -> np.ndarray:
    """The probabilities that a logistic regression gives each row which was fitted without it and without its group.

    The regularisation with the least log loss is taken: what overfits to wrong labels is sure of them, and loses.

    Parameters
    ----------
    features : of n rows
    y : int64 (n,), codes; at least two different ones

    Returns
    -------
    float64 (n, k), calibrated, in the order of np.unique(y); NaN where a row cannot be left out since it is, or its
    group is, all there is of a class

    Raises
    ------
    FeaturesError
        Features that are not finite.
    """
    check_finite(features)
    kind = head_kind("logreg")
    classes, index = np.unique(y, return_inverse=True)
    test_fold = make_folds(y, groups, folds, seed)
    judged = test_fold >= 0
    probabilities = np.full((len(y), len(classes)), np.nan)
    if not judged.any():
        return probabilities
    lowest, best = np.inf, None
    for trial in try_strengths(kind, _STRENGTHS, Problem.of_train(features, y), test_fold, SearchSettings(seed=seed)):
        loss = score("log_loss", trial.logits[judged], index[judged])
        if best is not None and loss >= lowest:
            break
        lowest, best = loss, trial.logits[judged]
    assert best is not None
    probabilities[judged] = softmax(best, fit_temperature(best, index[judged]))
    return probabilities


def find_label_errors(y: np.ndarray, probabilities: np.ndarray) -> LabelErrors:
    """Confident learning: Northcutt, Jiang and Chuang, "Confident Learning" (JAIR 70, 2021).

    A class' threshold is the mean probability that the images with its label have of it. An image is confidently of a
    class that reaches the threshold (of the likeliest, if several do). The share of a label's confident images that are
    confidently of another class estimates how many of its images are mislabelled. As many images as these are in all
    labels together are taken, those with the least probability of their label, and all others whose label has less than
    5 %: where next to all labels are right, the estimate misses single errors. Images whose label is their likeliest
    class are left out.

    With one label in twenty made wrong, 97 % of as many first rows were wrong ones on digits and 85 % on Fashion-MNIST
    (300 images of each class). The paper's other rules gave less: a fixed number from every class 94 % and 85 %, the
    images that are confidently of another class, by margin, 85 % and 69 %.

    Parameters
    ----------
    y : int64 (n,), codes
    probabilities : float64 (n, k), of rows that the head was not fitted on, in the order of np.unique(y); rows of
        NaN are not judged
    """
    classes, index = np.unique(y, return_inverse=True)
    rows = np.flatnonzero(~np.isnan(probabilities).any(axis=1))
    label, p = index[rows], probabilities[rows]
    given, likeliest = p[np.arange(len(rows)), label], p.argmax(axis=1)
    most = max(_count_errors(label, p), int((given < _UNLIKELY).sum()))
    found = np.argsort(given, kind="stable")[:most]
    found = found[likeliest[found] != label[found]]
    best = likeliest[found]
    return LabelErrors(rows[found], classes[best], p[found, best], given[found])


def are_labels_learned(y: np.ndarray, probabilities: np.ndarray) -> bool:
    """Whether features carry any information about the labels: if not, no label can be called wrong.

    The labels' probabilities are compared, as logarithms and image by image, with the shares of the classes, which is
    all that there is to know without the images: they must be larger by what chance gives one
    set in twenty.

    y, probabilities : as in `find_label_errors`
    """
    _, index = np.unique(y, return_inverse=True)
    rows = np.flatnonzero(~np.isnan(probabilities).any(axis=1))
    if len(rows) < 2:
        return False
    share = np.bincount(index[rows], minlength=probabilities.shape[1]) / len(rows)
    tiny = np.finfo(np.float64).tiny
    gain = np.log(np.maximum(probabilities[rows, index[rows]], tiny)) - np.log(share[index[rows]])
    return bool(gain.mean() > _ONE_IN_TWENTY * gain.std(ddof=1) / np.sqrt(len(rows)))


def _count_errors(label: np.ndarray, p: np.ndarray) -> int:
    """How many images are likely mislabelled."""
    k = p.shape[1]
    counts = np.bincount(label, minlength=k)
    given = np.bincount(label, p[np.arange(len(label)), label], k)
    threshold = np.where(counts > 0, given / np.maximum(counts, 1), np.inf)  # no image judged: none reaches it
    reached = p >= threshold - _SLACK
    confident = reached.any(axis=1)
    guess = np.where(reached, p, -1.0).argmax(axis=1)
    joint = np.zeros((k, k))
    np.add.at(joint, (label[confident], guess[confident]), 1)
    right = np.maximum(joint.diagonal(), 1)
    wrong = joint.sum(axis=1) - joint.diagonal()
    return round(float((counts * wrong / (wrong + right)).sum()))
