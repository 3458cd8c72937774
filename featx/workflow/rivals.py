"""Compare two bundles on the same images: is one better, or is the difference noise?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from featx.bundle.bundle import Bundle, load_bundle
from featx.dataset import ImageSet
from featx.inference.evaluation import RivalResult
from featx.inference.judge import describe_unknown_to_rival, judge
from featx.inference.predict import Average
from featx.io.progress import Progress
from featx.metrics.comparison import compare_predictions, require_comparable
from featx.metrics.predictions import LabelledPredictions
from featx.runs.choosing import find_bundle
from featx.store.cache import Cache
from featx.workflow.prepare import images_to_compare


@dataclass(frozen=True)
class Rival:
    """Another bundle, and the images by which it is compared with the first.

    images : none that either was trained on; notes : of what is left out therefore, and of
        classes that the other bundle does not know
    """

    bundle: Bundle
    images: ImageSet
    notes: list[str]

    @classmethod
    def of(cls, rival: Bundle, model: Bundle, images: ImageSet, part: str, cache: Cache) -> Rival:
        """The rival of a model, on those of a part's images that are fair to both.

        Raises
        ------
        DataError
            No image is left, or all are of classes that the rival does not know.
        """
        fair, notes = images_to_compare(images, part, (model, rival), cache)
        return cls(rival, fair, [*notes, *describe_unknown_to_rival(fair, rival)])

    def compare(
        self, model: Bundle, judged: LabelledPredictions, average: Average | None, progress: Progress
    ) -> RivalResult:
        """Measure it, and compare the model's predictions with its own, image by image."""
        others = judge(self.bundle, self.images, judged.part, progress, average)[0]
        return RivalResult(self.bundle.shown, compare_predictions(judged, others, model.manifest.score.metric))


def find_rival(where: str, model: Bundle, runs: Path) -> Bundle:
    """The bundle that a model is to be compared with, as it was named.

    Raises
    ------
    BundleError, DataError
        There is none, or one of the two gives an image several labels and the other one.
    """
    rival = load_bundle(find_bundle(where, runs, ""))
    require_comparable(model.multilabel, rival.multilabel)
    return rival
