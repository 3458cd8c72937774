"""Images -> classes with confidence, through a bundle alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.bundle.bundle import Bundle
from featx.bundle.novelty import Reference
from featx.config.bounds import Confidence, Count, Coverage, Distance
from featx.dataset.folders import describe_absence, expand, read_files
from featx.errors import DataError, UsageError
from featx.features import block_rows
from featx.images.batches import Alter, Decoding, iter_batches
from featx.images.fault import BadImage
from featx.images.sources import Hashed, Source, source_name
from featx.inference.sets import class_set, guarantee
from featx.io.digests import digest_bytes, digest_file
from featx.io.filetypes import describe_os_error
from featx.io.jsontypes import Json
from featx.io.urls import is_url, open_remote
from featx.metrics.predictions import decide

if TYPE_CHECKING:
    from featx.config import AugmentOptions
    from featx.images.augment import Augmenter
    from featx.inference.cached import CachedFeatures

UNKNOWN, UNSURE = "unknown", "unsure"
_AT_ONCE = 512  # images looked for in a cache: where it has none of them, answers wait for all to be computed


@dataclass(frozen=True)
class ClassConfidence:
    """A class and how sure the model is of it, in [0, 1]."""

    label: str
    confidence: float


@dataclass(frozen=True)
class Prediction:
    """The most likely classes of one image, the likeliest first.

    label : the class that is given: the likeliest, unless classes were weighed when the model was made; "unsure" where
        it has less than the least confidence asked for, "unknown" where that is true
    confidence : of the class that is given, in any case
    labels : of a model that gives several, those at or above their thresholds, the likeliest first; else None
    unknown, distance : whether the image is unlike all training images, and how far from the nearest, in units within
        which 99 % of the images of known classes lie; None where it was not asked for
    set : the classes that hold the truth with the coverage asked for, the likeliest first; None without one
    """

    path: str
    label: str
    confidence: float
    top: tuple[ClassConfidence, ...]
    labels: tuple[str, ...] | None = None
    unknown: bool | None = None
    distance: float | None = None
    set: tuple[str, ...] | None = None

    def as_json(self) -> dict[str, Json]:
        """What `featx predict --json` prints of it; what was not asked for is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Average:
    """Test-time augmentation: the mean of an image's probabilities and of those of its first views.

    augmenter : what makes the views; views : how many, at least 1
    """

    augmenter: Augmenter
    views: int

    @classmethod
    def of_bundle(cls, bundle: Bundle, views: int, policy: AugmentOptions | None = None, seed: int = 0) -> Average:
        """An average over views by a policy where one is given, else by that which the bundle was made with.

        Raises
        ------
        UsageError
            When there is none.
        """
        from featx.images.augment import Augmenter

        if policy is not None and policy.operations:
            return cls(Augmenter(policy, seed), views)
        augment = bundle.manifest.augment
        if augment is None:
            raise UsageError(
                f"{bundle.shown} was made without augmentation, so --tta {views} needs a policy. Add one, like --flip "
                "horizontal, or name a pipeline file with a section augment: -p FILE."
            )
        return cls(Augmenter.from_json(augment.as_json()), views)

    def of(self, paths: Sequence[Source]) -> Alter:
        """What makes row i of the images and views, image by image and each first as it is, of its image."""

        @lru_cache(1024)
        def digest(image: int) -> bytes:
            source = paths[image]
            if isinstance(source, Hashed) and source.digest is not None:
                return source.digest
            try:
                return digest_bytes(source) if isinstance(source, bytes) else digest_file(str(source))
            except OSError as error:
                raise BadImage(describe_os_error(str(source), error), str(source), transient=True) from error

        def alter(row: int, image: np.ndarray) -> np.ndarray:
            number, view = divmod(row, 1 + self.views)
            return self.augmenter(image, digest(number), view)

        return alter


@dataclass(frozen=True)
class Unread:
    """An image that could not be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class AnswerOptions:
    """How images are answered.

    top : how many classes are named
    min_confidence : in [0, 1]; where the class that is given has less, the answer is "unsure"
    max_distance : images farther from all training images are answered "unknown"; 1: as far as 1 % of the known are;
        None: distances are not measured
    coverage : the share of images whose set of classes holds the truth; None: no sets are given
    per_class : whether that share holds for each class
    """

    top: Count = 1
    min_confidence: Confidence = 0.0
    max_distance: Distance | None = None
    coverage: Coverage | None = None
    per_class: bool = False


def predict(
    bundle: Bundle,
    paths: Sequence[str | Path | bytes],
    options: AnswerOptions = AnswerOptions(),
    workers: int = 0,
    average: Average | None = None,
    cached: CachedFeatures | None = None,
) -> Iterator[Prediction | Unread]:
    """Yield one answer per image in the order of `paths`, batch by batch; memory stays flat however many there are.

    paths : files, URLs, or the bytes of files
    average : views over which the probabilities of an image are averaged; its distance is that of the image itself
    cached : what an image is answered from where it has its features: `paths` are then no bytes

    Raises
    ------
    BundleError
        `max_distance` or `coverage` with a bundle that does not keep what it takes.
    UsageError
        `coverage` with too few images that calibrate, or with an average, which the calibration does not know; a cache
        with an average, whose views it does not have.
    """
    if cached is not None and average is not None:
        raise UsageError("--cache has features of images, not of their views. Leave out --tta or --cache.")
    if options.coverage is not None:
        guarantee(bundle, options.coverage, options.per_class)
        if average is not None:
            raise UsageError("--coverage is calibrated on single images. Leave out --tta.")
    reference = None if options.max_distance is None else bundle.reference()
    batches = _iter_probabilities_and_features(bundle, paths, workers, average, cached)
    return _answer(bundle, paths, options, reference, batches)


def _answer(
    bundle: Bundle,
    paths: Sequence[str | Path | bytes],
    options: AnswerOptions,
    reference: Reference | None,
    batches: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[int, str]]]],
) -> Iterator[Prediction | Unread]:
    for rows, features, probabilities, bad in batches:
        answers: dict[int, Prediction | Unread] = {
            row: Unread(source_name(paths[row], row), reason) for row, reason in bad
        }
        distances: list[float | None] = [None] * len(rows)
        if reference is not None and len(rows):
            distances = reference.distances(features).tolist()
        for row, one, distance in zip(rows.tolist(), probabilities, distances, strict=True):
            answers[row] = make_prediction(source_name(paths[row], row), one, bundle, options, distance)
        yield from (answers[row] for row in sorted(answers))


def iter_probabilities(
    bundle: Bundle, paths: Sequence[str | Path | bytes], workers: int = 0, average: Average | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]]:
    """Yield (positions in `paths`, probabilities float64 (n, classes), [(position, why it cannot be read)])."""
    for rows, _, probabilities, bad in _iter_probabilities_and_features(bundle, paths, workers, average, None):
        yield rows, probabilities, bad


def _iter_probabilities_and_features(
    bundle: Bundle,
    paths: Sequence[str | Path | bytes],
    workers: int,
    average: Average | None,
    cached: CachedFeatures | None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[int, str]]]]:
    """As `iter_probabilities`, with the images' features float32 (n, d) before the probabilities."""
    each = 1 if average is None else 1 + average.views
    if cached:
        found = _iter_known(bundle, paths, workers, cached)
    else:
        found = _iter_views(bundle, paths, workers, average)
    for rows, features, bad in found:
        if not len(rows):
            yield rows, features, np.empty((0, len(bundle.classes))), bad
            continue
        probabilities = bundle.probabilities(features)
        yield rows, features[::each], probabilities.reshape(len(rows), each, -1).mean(axis=1), bad


def iter_features(
    bundle: Bundle, paths: Sequence[str | Path | bytes], workers: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]]:
    """Yield (positions in `paths`, features float32 (n, d), [(position, why it cannot be read)])."""
    yield from _iter_views(bundle, paths, workers, None)


def _iter_views(
    bundle: Bundle, paths: Sequence[str | Path | bytes], workers: int, average: Average | None
) -> Iterator[tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]]:
    """As `iter_features`; with `average` an image has a row of features for itself and then one for each view."""
    resize, each, alter = bundle.manifest.backbone.resize, 1, None
    sources: Sequence[Source] = paths
    if average is not None:
        images = [Hashed(path) if is_url(path) else path for path in paths]
        each, alter = 1 + average.views, average.of(images)
        sources = [image for image in images for _ in range(each)]
    size = each * max(1, bundle.engine.handover // each)  # whole images
    for batch in iter_batches(sources, range(len(sources)), Decoding(bundle.input_size, resize, size, workers, alter)):
        features = bundle.features(batch.images) if len(batch.rows) else np.empty((0, 0), np.float32)
        bad = [
            (row // each, reason) for row, reason in batch.unreadable if row % each == 0
        ]  # none of its views can be read
        yield batch.rows[::each] // each, features, bad


def _iter_known(
    bundle: Bundle, paths: Sequence[str | Path | bytes], workers: int, cached: CachedFeatures
) -> Iterator[tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]]:
    """As `iter_features`: the features that a cache has are read, and those of the other images computed."""
    step = min(_AT_ONCE, block_rows(bundle.manifest.head.features))
    for start in range(0, len(paths), step):
        some = [str(paths[row]) for row in range(start, min(start + step, len(paths)))]
        rows, features, contents = cached.read(some)
        left = np.setdiff1d(np.arange(len(some)), rows)
        found, unreadable = [(rows, features)] if len(rows) else [], []
        sources = [contents.get(some[row], some[row]) for row in left]
        for positions, computed, bad in _iter_views(bundle, sources, workers, None):
            found += [(left[positions], computed)] if len(positions) else []
            unreadable += [(start + int(left[row]), reason) for row, reason in bad]
        if not found:
            yield np.empty(0, np.int64), features, unreadable
            continue
        rows, features = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(rows)
        yield start + rows[order], features[order], unreadable


def find_files(sources: Sequence[str | Path]) -> Sequence[str]:
    """Every file that is named or lies in a named folder, at any depth, here or on URLs; labels do not matter."""
    faults = open_remote().faults(sources) if any(map(is_url, sources)) else {}
    missing = [source for source in sources if not is_url(source) and not Path(expand(source)).exists()]
    if sources and len(missing) + len(faults) == len(sources):
        raise DataError(describe_absence([*faults, *missing][:3], faults))
    return read_files(sources).paths


def make_prediction(
    path: str, probabilities: np.ndarray, bundle: Bundle, options: AnswerOptions, distance: float | None = None
) -> Prediction:
    """The answer for one image.

    path : its name; probabilities : float64 (classes,)
    distance : from the nearest training image, where it was measured
    """
    order = np.argsort(-probabilities, kind="stable")
    top = tuple(
        ClassConfidence(bundle.classes[i], round(float(probabilities[i]), 6)) for i in order[: max(1, options.top)]
    )
    given = int(decide(probabilities[None], bundle.calibration.emphasis)[0])
    confidence = round(float(probabilities[given]), 6)
    label = bundle.classes[given] if probabilities[given] >= options.min_confidence else UNSURE
    labels = None
    if bundle.multilabel:
        labels = tuple(bundle.classes[i] for i in order if probabilities[i] >= bundle.thresholds[i])
    inside = None
    if options.coverage is not None:
        inside = class_set(bundle, probabilities, options.coverage, options.per_class)
    if distance is None:
        return Prediction(path, label, confidence, top, labels, set=inside)
    unknown = distance > (options.max_distance or 0.0)
    label = UNKNOWN if unknown else label
    return Prediction(path, label, confidence, top, labels, unknown, round(distance, 6), inside)


@dataclass(frozen=True)
class Predicted:
    """The answers for some images, those that could be read apart from the others."""

    predictions: tuple[Prediction, ...]
    unread: tuple[Unread, ...]

    @classmethod
    def of(cls, answers: Iterable[Prediction | Unread]) -> Predicted:
        """What `predict` yields, all of it."""
        predictions, unread = list[Prediction](), list[Unread]()
        for answer in answers:
            if isinstance(answer, Prediction):
                predictions.append(answer)
            else:
                unread.append(answer)
        return cls(tuple(predictions), tuple(unread))

    def as_json(self) -> dict[str, Json]:
        """What `featx predict --json` prints."""
        return {
            "predictions": [one.as_json() for one in self.predictions],
            "bad": [asdict(one) for one in self.unread],
        }
