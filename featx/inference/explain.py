"""Class activation maps: which image regions support a class, for a bundle with any head.

Three methods, all in units of the class's logit; positive places speak for the class, negative ones against it:

cam : Zhou et al. 2016, for linear heads on maps, or tokens of patches, that were averaged, whole or in a grid, or
    flattened. Exact: the map takes the logit apart, its mean and the bias are the logit. What the class token adds to
    it belongs to no place and is part of the bias.
gradcam : Selvaraju et al. 2017, for every head that has a gradient. The channels of the layer's map, weighed by the
    logit's gradient averaged over all places. It is multiplied by the number of places, so that several layers can be
    added and linear heads on averaged maps give what `cam` gives, and it is kept signed: pictures cut it off at 0.
occlusion : Zeiler and Fergus 2014, for every head. What the logit loses when a square of the image is covered.

Of two classes the scores are opposite: their logits count only by their difference, which is what is explained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from featx.backbones.runtime import has_tensorflow
from featx.bundle.bundle import Bundle
from featx.errors import BundleError, UsageError
from featx.images.batches import Decoding, iter_batches
from featx.images.resize import Box
from featx.images.sources import Source, source_name
from featx.inference.map_network import MapNetwork
from featx.inference.maps import BATCH, MappedImage, Maps, cam, class_scores, gradcam, occlusion
from featx.inference.placing import WHOLE, spread
from featx.inference.predict import Unread
from featx.inference.sites import GraphMapNetwork, Site
from featx.io.progress import Progress, no_progress
from featx.io.suggest import did_you_mean
from featx.metrics.predictions import decide

Method = Literal["auto", "cam", "gradcam", "occlusion"]
METHODS: tuple[str, ...] = get_args(Method)
SUM = "sum"  # of the maps of several layers
_SHOWN = 20  # class names in a message


@dataclass(frozen=True)
class ClassMap:
    """Where an image speaks for one class.

    Attributes
    ----------
    confidence : the class's probability, in [0, 1]
    score : its logit; of two classes, its logit less the other's
    bias : of `cam`, the part of the score that belongs to no place, the class token's included; else None
    maps : float32 (height, width) in units of the score, by name. One for each layer, at the layer's own resolution;
        behind several of them their sum, at the resolution of the image that the backbone sees. An occlusion map is
        called "occlusion"
    boxes : left, top, right and bottom of what a map lies on, in shares of that image, where it is not the whole
    """

    label: str
    confidence: float
    score: float
    bias: float | None
    maps: Mapping[str, np.ndarray]
    boxes: Mapping[str, Box]

    @property
    def box(self) -> Box:
        """What `map` lies on, in shares of the image that the backbone sees."""
        return WHOLE if SUM in self.maps else self.boxes.get(next(iter(self.maps)), WHOLE)

    @property
    def map(self) -> np.ndarray:
        """float32 (height, width): the one to look at, which is the only one or the sum."""
        return self.maps[SUM] if SUM in self.maps else next(iter(self.maps.values()))


@dataclass(frozen=True)
class Explanation:
    """What a bundle says of an image, and why.

    label, confidence : the likeliest class; labels : of a bundle that gives several, those at or above their thresholds
    method : cam, gradcam or occlusion; classes : the explained classes, the likeliest first
    """

    path: str
    label: str
    confidence: float
    labels: tuple[str, ...] | None
    method: str
    classes: tuple[ClassMap, ...]


class Explainer:
    """Explains images by one bundle, whose network is loaded once.

    bundle : with any head
    method : `auto` is cam where that is exact, else gradcam where there is a gradient, else occlusion
    labels : the classes to explain, whatever the image is taken for
    top : how many of the likeliest classes to explain; by default the likeliest, or all labels that are given to the
        image by a bundle that gives several

    Raises
    ------
    UsageError
        A method or a class that does not exist, or `labels` and `top` together.
    """

    def __init__(
        self, bundle: Bundle, method: str = "auto", labels: Sequence[str] = (), top: int | None = None
    ) -> None:
        if method not in METHODS:
            raise UsageError(f"No method {method!r}. Choose one of {', '.join(METHODS)}.")
        if labels and top is not None:
            raise UsageError("--class and --top exclude each other: name the classes, or say how many.")
        self.bundle = bundle
        by_keras = bundle.trainable and (has_tensorflow() or method in {"cam", "gradcam"})
        self._network: MapNetwork | GraphMapNetwork = MapNetwork(bundle) if by_keras else GraphMapNetwork(bundle)
        self._asked = method
        self._labels = [_position(bundle, label) for label in dict.fromkeys(labels)]
        self._top = top

    @cached_property
    def method(self) -> str:
        """What images are explained by: cam, gradcam or occlusion.

        Raises
        ------
        BundleError
            A method asked for that this bundle does not have.
        """
        if self._asked == "occlusion":  # which needs no Keras
            return self._asked
        return _choose_method(self.bundle, self._asked, self._network.sites)

    def explain(
        self, paths: Sequence[Source], workers: int = 0, progress: Progress = no_progress
    ) -> Iterator[Explanation | Unread]:
        """Yield one answer per image in the order of `paths`: files, URLs, or the bytes of files.

        Raises
        ------
        BundleError
            As `method`.
        """
        resize, done = str(self.bundle.manifest.backbone.resize), 0
        size = 1 if self.method == "occlusion" else BATCH  # where an image takes seconds, each is answered at once
        for batch in iter_batches(paths, range(len(paths)), Decoding(self.bundle.input_size, resize, size, workers)):
            answers: dict[int, Explanation | Unread] = {
                row: Unread(source_name(paths[row], row), reason) for row, reason in batch.unreadable
            }
            names = [source_name(paths[row], row) for row in batch.rows]
            answers |= zip(batch.rows.tolist(), self.explain_images(batch.images, names), strict=True)
            for row in sorted(answers):
                yield answers[row]
            done += len(answers)
            progress("explain", done, len(paths))

    def explain_images(self, images: np.ndarray, names: Sequence[str]) -> list[Explanation]:
        """Explain images uint8 (n, height, width, 3), as large as the backbone takes them.

        names : what stands in `path` of each answer
        """
        if not len(images):
            return []
        return [self._answer(*one) for one in zip(names, self._look(images), strict=True)]

    def _look(self, images: np.ndarray) -> Iterator[MappedImage]:
        if self.method == "occlusion":
            return occlusion(self.bundle, images, self._chosen)
        if self.method == "cam":
            return cam(self._network, images, self._chosen)
        assert isinstance(self._network, MapNetwork)  # gradients are Keras' alone
        return gradcam(self._network, images, self._chosen)

    def _answer(self, name: str, image: MappedImage) -> Explanation:
        bundle, probabilities, bias = self.bundle, image.probabilities, image.bias
        order, scores = np.argsort(-probabilities, kind="stable"), class_scores(bundle, image.logits[None])[0]
        boxes = self._network.boxes if self.method != "occlusion" and isinstance(self._network, MapNetwork) else {}
        classes = tuple(
            ClassMap(
                bundle.classes[k],
                round(float(probabilities[k]), 6),
                float(scores[k]),
                None if bias is None else float(bias[k]),
                _with_sum(found, boxes, bundle.input_size),
                boxes,
            )
            for k, found in image.maps.items()
        )
        labels = (
            [bundle.classes[k] for k in order if probabilities[k] >= bundle.thresholds[k]]
            if bundle.multilabel
            else None
        )
        given = int(decide(probabilities[None], bundle.calibration.emphasis)[0])
        return Explanation(
            name,
            bundle.classes[given],
            round(float(probabilities[given]), 6),
            None if labels is None else tuple(labels),
            self.method,
            classes,
        )

    def _chosen(self, probabilities: np.ndarray) -> list[int]:
        """Positions of the classes to explain, the likeliest first, of probabilities (classes,)."""
        order: list[int] = np.argsort(-probabilities, kind="stable").tolist()
        if self._top is None and not self._labels and not self.bundle.multilabel:
            return [int(decide(probabilities[None], self.bundle.calibration.emphasis)[0])]
        if self._labels:
            return [k for k in order if k in self._labels]
        if self._top is None and self.bundle.multilabel:
            return [k for k in order if probabilities[k] >= self.bundle.thresholds[k]] or order[:1]
        return order[: self._top or 1]


def _choose_method(bundle: Bundle, asked: str, sites: Sequence[Site]) -> str:
    kind, clf, names = bundle.manifest.head.kind, bundle.manifest.head.clf, ", ".join(bundle.manifest.output_names)
    exact = kind == "linear" and all(one.own and one.output.pooling != "max" for one in sites)
    exact = exact and any(one.placed for one in sites)
    sloping = bundle.trainable and bool(sites) and not any(one.placeless for one in sites)
    if asked == "auto":
        return "cam" if exact else "gradcam" if sloping else "occlusion"
    if asked == "cam" and not exact:
        raise BundleError(
            f"cam needs a linear head on averaged or flattened maps or tokens; {bundle.shown} has {clf} on {names}. "
            f"Choose --method auto{', gradcam' if sloping else ''} or occlusion."
        )
    if asked == "gradcam" and not sloping:
        why = "no layer below the head has a map"
        if kind in {"estimator", "pickle"}:
            why = f"the head {clf} has none"
        elif not bundle.trainable:
            why = f"{bundle.shown} was fitted on a graph file, which has none"
        elif sites:
            why = f"the class token in {names} has no place in the image"
        raise BundleError(f"gradcam needs a gradient at a map, and {why}. Choose --method auto or occlusion.")
    return asked


def _position(bundle: Bundle, label: str) -> int:
    classes = bundle.classes
    if label in classes:
        return classes.index(label)
    listed = ", ".join(classes[:_SHOWN]) + (f" and {len(classes) - _SHOWN} more" if len(classes) > _SHOWN else "")
    raise UsageError(f"{bundle.shown} has no class {label!r}.{did_you_mean(label, classes)} It has {listed}.")


def _with_sum(maps: Maps, boxes: Mapping[str, Box], size: tuple[int, int]) -> Maps:
    """Maps of several layers and their sum at `size` (height, width); a single one as it is."""
    if len(maps) == 1:
        return maps
    height, width = size
    total = np.zeros(size, np.float32)
    for name, one in maps.items():
        left, top, right, bottom = boxes.get(name, WHOLE)
        on = (left * width, top * height, right * width, bottom * height)
        total += spread(one, (width, height), on, (0.0, 0.0, float(width), float(height)))
    return maps | {SUM: total}
