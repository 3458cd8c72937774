"""Prediction sets that contain the true class for a given share of images, and their guarantees."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from featx.bundle.bundle import Bundle
from featx.bundle.coverage import scores_of, why_approximate
from featx.errors import UsageError
from featx.io.counting import counted
from featx.io.jsontypes import Json
from featx.metrics.conformal import fewest
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.shares import Interval, of_images, share_interval
from featx.runs.run import Run


@dataclass(frozen=True)
class SetGuarantee:
    """What is guaranteed of the sets of a model.

    coverage : the share of images that was asked for; per_class : whether it holds for each class
    images : that calibrate; pooled : classes with too few of them for a limit of their own
    approximate : why it is not guaranteed; None where it is
    """

    coverage: float
    per_class: bool
    images: int
    pooled: tuple[str, ...]
    approximate: str | None
    multilabel: bool

    def as_json(self) -> dict[str, Json]:
        """What `featx predict --json` prints of it."""
        found = asdict(self)
        del found["multilabel"]
        return found

    def sentence(self) -> str:
        """In words."""
        share = f"{self.coverage:.4g}"
        if self.multilabel:
            what = "each label that an image has is" if self.per_class else "all labels of an image are"
        else:
            what = "the class of an image is"
        whose = f"of each {'label' if self.multilabel else 'class'}" if self.per_class else "like those that calibrate"
        text = (
            f"For a share of at least {share} of images {whose}, {what} in its set "
            f"({counted(self.images, 'val image')})."
        )
        if self.approximate:
            text = f"{text} Approximate: {self.approximate}."
        if self.pooled:
            text += (
                f" With fewer than {counted(fewest(self.coverage), 'val image')} each, and taken together: "
                f"{', '.join(self.pooled)}."
            )
        return text


def guarantee(bundle: Bundle, coverage: float, per_class: bool) -> SetGuarantee:
    """What is guaranteed of the sets of a bundle.

    Raises
    ------
    BundleError
        The bundle has no images to calibrate sets by, and why.
    UsageError
        It has too few for this coverage.
    """
    found = bundle.coverage
    if len(found) < fewest(coverage):
        raise UsageError(
            f"--coverage {coverage:g} takes at least {counted(fewest(coverage), 'val image')} and {bundle.shown} has "
            f"{len(found)}. Ask for less, or make it again with more."
        )
    rule = found.rule(coverage, per_class)
    pooled = tuple(name for name, few in zip(bundle.classes, rule.pooled, strict=True) if few)
    why = why_approximate(bundle.manifest) or _why_compared(bundle)
    return SetGuarantee(coverage, per_class, len(found), pooled, why or None, bundle.multilabel)


def _why_compared(bundle: Bundle) -> str:
    """The best of several bundles is chosen by val."""
    split = bundle.manifest.split.digest
    rivals = [one for one in Run(bundle.path.parent).bundles() if one.manifest.split.digest == split]
    if len(rivals) < 2:
        return ""
    return f"the val images that calibrate it also compare {counted(len(rivals), 'model')} of its run"


def class_set(bundle: Bundle, probabilities: np.ndarray, coverage: float, per_class: bool) -> tuple[str, ...]:
    """The classes in the set of one image with the probabilities float64 (classes,), the likeliest first."""
    inside = bundle.coverage.rule(coverage, per_class).sets(probabilities[None])[0]
    order = np.argsort(-probabilities, kind="stable")
    return tuple(bundle.classes[code] for code in order.tolist() if inside[code])


@dataclass(frozen=True)
class MeasuredSets:
    """What sets turned out to be on labelled images that calibrated nothing.

    coverage : that was asked for; images : that were measured
    covered : share of the images whose set holds the truth; interval : of 95 %; size : mean number of classes in a set
    """

    coverage: float
    images: int
    covered: float
    interval: Interval | None
    size: float


def measure_sets(val: LabelledPredictions, test: LabelledPredictions, coverage: float) -> MeasuredSets | None:
    """Sets that val calibrates, measured on test; None where there are too few images of either."""
    calibrating, others = scores_of(val), scores_of(test)
    if len(calibrating) < fewest(coverage) or not len(others):
        return None
    rule = calibrating.rule(coverage, per_class=False)
    covered = others.covered(rule)
    size = float(rule.sets(others.probabilities).sum(axis=1).mean())
    return MeasuredSets(
        coverage, len(others), float(covered.mean()), share_interval(of_images(covered), test.groups), size
    )
