"""The answers of a server for one bundle: predictions, and maps of where the model looked."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from featx import __version__
from featx.bundle.bundle import Bundle
from featx.bundle.records import MetricsRecord
from featx.images.batches import usable_cores
from featx.images.decoder import load_image, read_stated
from featx.images.fault import BadImage
from featx.inference.predict import AnswerOptions, Prediction, Unread, make_prediction
from featx.inference.sets import SetGuarantee, guarantee
from featx.report.report import INDEX
from featx.runs.run import report_folder
from featx.serve.batching import Batcher
from featx.serve.limits import Limits
from featx.serve.measured import measured_text
from featx.serve.uploads import Upload

if TYPE_CHECKING:
    from featx.bundle.novelty import Reference
    from featx.inference.explain import Explainer

_MOST_TOGETHER = 32  # images; more at once only make the first of them wait
_LARGE, _LARGE_JPEG = 4_000_000, 16_000_000  # pixels
_MAPS = 3  # classes that are explained of an image with one label
_QUALITY = 90  # of JPEG
Result = TypeVar("Result")


@dataclass(frozen=True)
class Terms:
    """On what terms a server answers.

    top : classes that are listed, unless a request asks for another number
    min_confidence, max_distance : as in `featx.inference.predict.predict`
    maps : whether it explains; report : whether it shows the bundle's report
    coverage, per_class : of the sets of classes that answers hold, as in `featx.inference.predict.predict`
    """

    top: int = 5
    min_confidence: float = 0.0
    max_distance: float | None = None
    maps: bool = True
    report: bool = True
    coverage: float | None = None
    per_class: bool = False


@dataclass(frozen=True)
class Map:
    """Where a class was seen.

    Attributes
    ----------
    confidence : its probability, in [0, 1]; score : its logit, in units of which the map is
    overlay : the picture with the map over it, a JPEG as a `data:` URI
    """

    label: str
    confidence: float
    score: float
    overlay: str


@dataclass(frozen=True)
class Explained:
    """What an image is taken for, and why.

    Attributes
    ----------
    label, confidence : the likeliest class; labels : of a model that gives several, those that it gives
    method : cam, gradcam or occlusion; classes : the explained ones, the likeliest first
    """

    path: str
    label: str
    confidence: float
    method: str
    classes: tuple[Map, ...]
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ModelInfo:
    """What a bundle is, and how it is served.

    Attributes
    ----------
    thresholds : of a model that gives several labels, from which probability on it gives each of `classes`
    input_size : height and width, in pixels, that the network sees; layers : whose features the head takes
    metrics : what was measured when it was made, by part of the data; measured : the same for people, in a few words
    calibrated_on : images that its confidence was fitted on; 0: none, so that it is unmeasured
    min_confidence, max_distance : answers are "unsure" below, "unknown" beyond
    coverage : what is guaranteed of the sets of classes in answers; None where there are none
    maps : whether it explains; report : whether it has a report to show
    limits : upload (bytes of a request), images (in one), megapixels (of an image), seconds, requests (at once)
    version : of featx
    """

    name: str
    classes: tuple[str, ...]
    multilabel: bool
    thresholds: tuple[float, ...] | None
    backbone: str
    input_size: tuple[int, int]
    layers: tuple[str, ...]
    head: str
    metrics: dict[str, dict[str, float | None]]
    measured: str
    calibrated_on: int | None
    top: int
    min_confidence: float
    max_distance: float | None
    coverage: SetGuarantee | None
    maps: bool
    report: bool
    limits: Limits
    version: str


@dataclass(frozen=True)
class _Picture:
    """An upload that can be read: its pixels as the network takes them, uint8 (height, width, 3)."""

    upload: Upload
    pixels: np.ndarray


class Service:
    """Answers of one bundle, to many at once.

    Results do not depend on what else is asked at the same time: they are those of `featx predict` and `featx explain`.

    name : what people call the bundle
    """

    def __init__(self, bundle: Bundle, name: str, terms: Terms, limits: Limits) -> None:
        self.bundle, self.name, self.terms, self.limits = bundle, name, terms, limits
        self._prepared = False

    def start(self) -> None:
        """Load what predicting takes, and begin to answer.

        Raises
        ------
        BundleError
            `max_distance` or `coverage` with a bundle that does not keep what it takes.
        EngineError
            A network that cannot run here.
        """
        _ = self._reference
        if self.terms.coverage is not None:
            guarantee(self.bundle, self.terms.coverage, self.terms.per_class)
        height, width = self.bundle.input_size
        self._judge([np.zeros((height, width, 3), np.uint8)])
        self._predictions.start()
        self._explanations.start()

    def close(self) -> None:
        """End; what has not been begun is not answered."""
        self._predictions.close()
        self._explanations.close()

    async def is_large(self, uploads: Sequence[Upload]) -> bool:
        """Whether any of them takes long to decode, by its header."""
        return any([await asyncio.to_thread(_is_heavy, upload.content) for upload in uploads])

    async def predict(self, uploads: Sequence[Upload], top: int | None = None) -> list[Prediction | Unread]:
        """One answer for each upload, in their order.

        top : how many classes to list; by default as the terms have it
        """
        results = await _settle([self._predictions.submit(upload.content) for upload in uploads])
        answers: list[Prediction | Unread] = []
        for upload, result in zip(uploads, results, strict=True):
            if isinstance(result, BaseException):
                answers.append(Unread(upload.name, _reason(result)))
            else:
                probabilities, distance = result
                terms = self.terms
                options = AnswerOptions(
                    top or terms.top, terms.min_confidence, terms.max_distance, terms.coverage, terms.per_class
                )
                answers.append(make_prediction(upload.name, probabilities, self.bundle, options, distance))
        return answers

    async def explain(self, upload: Upload) -> Explained | Unread:
        """Where the model looked; of an image with one label, for the likeliest classes."""
        (result,) = await _settle([self._explanations.submit(upload)])
        return Unread(upload.name, _reason(result)) if isinstance(result, BaseException) else result

    def prepare_maps(self) -> None:
        """Begin to load what maps take, which is seconds of work, before the first one is asked for."""
        if self.terms.maps and not self._prepared:
            self._prepared = True
            self._explanations.submit(Upload("a grey pixel", b"P6\n1 1\n255\n\x7f\x7f\x7f"))

    @property
    def info(self) -> ModelInfo:
        """What is served."""
        bundle, terms, manifest = self.bundle, self.terms, self.bundle.manifest
        return ModelInfo(
            name=self.name,
            classes=bundle.classes,
            multilabel=bundle.multilabel,
            thresholds=tuple(bundle.thresholds.tolist()) if bundle.multilabel else None,
            backbone=manifest.backbone.name,
            input_size=bundle.input_size,
            layers=tuple(output.name for output in bundle.outputs),
            head=manifest.head.clf,
            metrics={part: _numbers(one) for part, one in manifest.metrics.items() if one is not None},
            measured=measured_text(manifest),
            calibrated_on=manifest.calibrated_on,
            top=terms.top,
            min_confidence=terms.min_confidence,
            max_distance=terms.max_distance,
            coverage=None if terms.coverage is None else guarantee(bundle, terms.coverage, terms.per_class),
            maps=terms.maps,
            report=self.report is not None,
            limits=self.limits,
            version=__version__,
        )

    @property
    def report(self) -> Path | None:
        """The page of the bundle's report, where there is one and it is shown."""
        path = report_folder(self.bundle.path) / INDEX
        return path if self.terms.report and path.is_file() else None

    @cached_property
    def _reference(self) -> Reference | None:
        return None if self.terms.max_distance is None else self.bundle.reference()

    @cached_property
    def _explainer(self) -> Explainer:
        from featx.inference.explain import Explainer

        # An engine serves one thread at a time, and covering an image takes it for seconds: a copy has one of its own.
        bundle = replace(self.bundle)
        return Explainer(bundle, top=None if bundle.multilabel else min(_MAPS, len(bundle.classes)))

    @cached_property
    def _predictions(self) -> Batcher[bytes, np.ndarray, tuple[np.ndarray, float | None]]:
        # One batch for each core: with more, all clients wait together, and no core works while they ask again.
        size = min(self.bundle.engine.batch_size * usable_cores(), _MOST_TOGETHER)
        return Batcher(self._load, self._judge, size, usable_cores(), _is_heavy)

    @cached_property
    def _explanations(self) -> Batcher[Upload, _Picture, Explained]:
        return Batcher(self._look, lambda pictures: [self._explain(one) for one in pictures], 1, 1)

    def _load(self, content: bytes) -> np.ndarray:
        stated = read_stated(content)
        if stated is not None and self.limits.is_strip(stated.width, stated.height):
            sides = f"{stated.width:,} x {stated.height:,} pixels"
            raise BadImage(f"{sides}: one side is more than {self.limits.ratio:g} times the other")
        resize = str(self.bundle.manifest.backbone.resize)
        return load_image(content, self.bundle.input_size, resize, self.limits.pixels)

    def _judge(self, images: Sequence[np.ndarray]) -> list[tuple[np.ndarray, float | None]]:
        """The probabilities of each image, float64 (classes,), and its distance from the nearest training image."""
        features = self.bundle.features(np.stack(images))
        probabilities = self.bundle.probabilities(features)
        distances: list[float | None] = [None] * len(images)
        if self._reference is not None:
            distances = self._reference.distances(features).tolist()
        return list(zip(probabilities, distances, strict=True))

    def _look(self, upload: Upload) -> _Picture:
        return _Picture(upload, self._load(upload.content))

    def _explain(self, picture: _Picture) -> Explained:
        from featx.inference.overlays import draw_map

        upload = picture.upload
        (found,) = self._explainer.explain_images(picture.pixels[None], [upload.name])
        drawn = [(one, draw_map(one, upload.content, self.bundle)[0]) for one in found.classes]
        maps = tuple(Map(one.label, one.confidence, one.score, _as_uri(over)) for one, over in drawn)
        return Explained(found.path, found.label, found.confidence, found.method, maps, found.labels)


def _is_heavy(content: bytes) -> bool:
    """Whether decoding an image takes long, however small its file; JPEG is decoded at a part of its size."""
    stated = read_stated(content)
    return stated is not None and stated.pixels > (_LARGE_JPEG if stated.format == "JPEG" else _LARGE)


async def _settle(asked: Sequence[Future[Result]]) -> list[Result | BaseException]:
    """What comes of the futures; when the waiting is given up, so are they."""
    return await asyncio.gather(*map(asyncio.wrap_future, asked), return_exceptions=True)


def _reason(error: BaseException) -> str:
    """Why an image cannot be answered; what is no fault of the image is raised."""
    if isinstance(error, BadImage):
        return error.reason
    raise error


def _numbers(measured: MetricsRecord) -> dict[str, float | None]:
    return {"images": measured.images, **measured.values}


def _as_uri(picture: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
