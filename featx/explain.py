"""Class activation maps: which places of an image speak for a class, by a bundle with any head.

Three methods, all in units of the class's logit; positive places speak for the class, negative ones against it:

cam : Zhou et al. 2016, for linear heads on maps that were averaged, whole or in a grid, or flattened. Exact: the map
    takes the logit apart, its mean and the bias are the logit.
gradcam : Selvaraju et al. 2017, for every head that has a gradient. The channels of the layer's map, weighed by the
    logit's gradient averaged over all places. It is multiplied by the number of places, so that several layers can be
    added and linear heads on averaged maps give what `cam` gives, and it is kept signed: pictures cut it off at 0.
occlusion : Zeiler and Fergus 2014, for every head. What the logit loses when a square of the image is covered.

Of two classes the scores are opposite: their logits count only by their difference, which is what is explained.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from PIL import Image

from featx.backbones import LayerGraph, Output, import_keras
from featx.bundle import Bundle
from featx.errors import BundleError, UsageError
from featx.heads import persist
from featx.images import iter_batches
from featx.predict import Unread
from featx.progress import Progress, no_progress

if TYPE_CHECKING:
    import keras

Method = Literal["auto", "cam", "gradcam", "occlusion"]
METHODS: tuple[str, ...] = get_args(Method)
SUM = "sum"  # of the maps of several layers

_BATCH = 32  # images; the network runs without being traced, which takes longer than most calls of this command
_PLACES = 16  # of an occlusion map, along each side
_WINDOW = 3  # side of the covered square, in places
_SHOWN = 20  # class names in a message
_TINY = 1e-12  # the least length that features are divided by, as in `featx.heads.front`


@dataclass(frozen=True)
class ClassMap:
    """Where an image speaks for one class.

    Attributes
    ----------
    confidence : the class's probability, in [0, 1]
    score : its logit; of two classes, its logit less the other's
    bias : of `cam`, the part of the score that belongs to no place; else None
    maps : float32 (height, width) in units of the score, by name. One for each layer, at the layer's own resolution;
        behind several of them their sum, at the resolution of the image that the backbone sees. An occlusion map is
        called "occlusion"
    """

    label: str
    confidence: float
    score: float
    bias: float | None
    maps: Mapping[str, np.ndarray]

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
        self._network = _Network(bundle)
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
        self, paths: Sequence[str | Path | bytes], workers: int = 0, progress: Progress = no_progress
    ) -> Iterator[Explanation | Unread]:
        """Yield one answer per image in the order of `paths`: files, or the bytes of files.

        Raises
        ------
        BundleError
            As `method`.
        """
        resize, done = str(self.bundle.about["backbone"]["resize"]), 0
        size = 1 if self.method == "occlusion" else _BATCH  # where an image takes seconds, each is answered at once
        for batch in iter_batches(paths, range(len(paths)), self.bundle.input_size, resize, size, workers):
            answers: dict[int, Explanation | Unread] = {
                row: Unread(_name(paths[row], row), reason) for row, reason in batch.bad
            }
            names = [_name(paths[row], row) for row in batch.rows]
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
        if self.method == "occlusion":
            seen = _occlusion(self.bundle, images, self._chosen)
        else:
            seen = {"cam": _cam, "gradcam": _gradcam}[self.method](self._network, images, self._chosen)
        return [self._answer(name, *one) for name, one in zip(names, seen, strict=True)]

    def _answer(self, name: str, logits: np.ndarray, chances: np.ndarray, maps: dict[int, _Maps]) -> Explanation:
        bundle, order = self.bundle, np.argsort(-chances, kind="stable")
        scores = _scores(bundle, logits[None])[0]
        bias = _scores(bundle, self._network.linear[1][None])[0] if self.method == "cam" else None
        classes = tuple(
            ClassMap(
                bundle.classes[k],
                round(float(chances[k]), 6),
                float(scores[k]),
                None if bias is None else float(bias[k]),
                _with_sum(found, bundle.input_size),
            )
            for k, found in maps.items()
        )
        given = [bundle.classes[k] for k in order if chances[k] >= bundle.thresholds[k]] if bundle.multilabel else None
        return Explanation(
            name,
            bundle.classes[order[0]],
            round(float(chances[order[0]]), 6),
            None if given is None else tuple(given),
            self.method,
            classes,
        )

    def _chosen(self, chances: np.ndarray) -> list[int]:
        """Positions of the classes to explain, the likeliest first, of probabilities (classes,)."""
        order: list[int] = np.argsort(-chances, kind="stable").tolist()
        if self._labels:
            return [k for k in order if k in self._labels]
        if self._top is None and self.bundle.multilabel:
            return [k for k in order if chances[k] >= self.bundle.thresholds[k]] or order[:1]
        return order[: self._top or 1]


# --- the network, as far as maps need it ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Site:
    """Where the places of an output are read off.

    tensor : Keras' (n, height, width, channels); own : whether it is of the output's layer, not of one below it
    pool : from the tensor's values to the output's, of which each image has `width`
    """

    output: Output
    tensor: Any
    own: bool
    pool: Callable[[Any], Any]
    width: int


class _Network:
    """A bundle's backbone, taken apart at its maps, and what follows them, with gradients."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    @cached_property
    def sites(self) -> list[_Site]:
        """One for each of the bundle's outputs; none where the head has no gradient or an output has no map."""
        if self.bundle.about["head"]["kind"] == "estimator":
            return []
        made = self._backbone.output
        tensors = made if isinstance(made, dict) else {self.bundle.outputs[0].name: made}
        found = [_find_site(self._backbone, output, tensors[output.name]) for output in self.bundle.outputs]
        return [site for site in found if site is not None] if None not in found else []

    def maps(self, images: np.ndarray) -> list[Any]:
        """Tensors float32 (n, height, width, channels), one for each site, of images uint8."""
        import tensorflow as tf

        found = self._to_maps(images.astype(np.float32), training=False)
        return [tf.cast(found[site.output.name], tf.float32) for site in self.sites]

    def features(self, maps: Sequence[Any]) -> Any:
        """Tensor float32 (n, d), which the head takes, of what `maps` gives."""
        import tensorflow as tf

        pooled = [site.pool(tensor) for site, tensor in zip(self.sites, maps, strict=True)]
        return tf.concat([tf.reshape(tf.cast(one, tf.float32), (len(one), -1)) for one in pooled], axis=1)

    def logits(self, features: Any) -> Any:
        """Tensor (n, classes) of features (n, d): the bundle's front and head as operations that have a gradient."""
        import tensorflow as tf

        front = self.bundle.front
        if front.unit:
            features = features / tf.maximum(tf.norm(features, axis=1, keepdims=True), _TINY)
        if self.bundle.about["head"]["kind"] == "linear":
            kernel, bias = self.linear
            return features @ kernel + bias
        if front.mean is not None and front.components is not None:
            features = (features - front.mean) @ front.components.T
        return self._head(features, training=False) / self.bundle.temperature

    @cached_property
    def linear(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernel (d, classes) and bias (classes,) of a linear head on the features, a projection folded in."""
        kernel, bias = persist.load_dense(self.bundle.path / persist.FILES["linear"])
        mean, components = self.bundle.front.mean, self.bundle.front.components
        if mean is None or components is None:
            return kernel, bias
        return components.T @ kernel, bias - (components @ mean) @ kernel

    @cached_property
    def _head(self) -> keras.Model:
        return persist.load_network(self.bundle.path / persist.FILES["network"])

    @cached_property
    def _backbone(self) -> keras.Model:
        return persist.load_network(self.bundle.path / "backbone.keras")

    @cached_property
    def _to_maps(self) -> keras.Model:
        outputs = {site.output.name: site.tensor for site in self.sites}
        return import_keras().Model(self._backbone.inputs[0], outputs)


def _find_site(backbone: keras.Model, output: Output, made: Any) -> _Site | None:
    """The output's own layer where that has a map; else the last layer with one that everything passes through."""
    keras = import_keras()
    own = backbone.get_layer(output.layer).output
    if _is_map(own):
        tensor = own
    else:
        graph = LayerGraph(keras.Model(backbone.inputs[0], made))
        maps = [
            layer.output
            for layer, clean in zip(graph.layers, graph.clean, strict=True)
            if clean and _is_map(layer.output) and layer.output.shape[-1] > 3  # three channels are still the image
        ]
        if not maps:
            return None
        tensor = maps[-1]
    tail = keras.Model(tensor, made)
    return _Site(
        output, tensor, tensor is own, lambda values: tail(values, training=False), int(np.prod(made.shape[1:]))
    )


def _is_map(tensor: Any) -> bool:
    shape: tuple[int, ...] = tuple(getattr(tensor, "shape", ()))
    return len(shape) == 4 and shape[1] * shape[2] > 1


# --- the methods: yield (logits, probabilities, {position of a class: its maps}) of each image ------------------------

_Maps = dict[str, np.ndarray]
_Seen = tuple[np.ndarray, np.ndarray, dict[int, _Maps]]
_Choose = Callable[[np.ndarray], list[int]]  # probabilities (classes,) -> positions of the classes to explain


def _cam(network: _Network, images: np.ndarray, choose: _Choose) -> Iterator[_Seen]:
    bundle, tensors = network.bundle, network.maps(images)
    features = np.asarray(network.features(tensors))
    logits = bundle.head(bundle.front.apply(features))
    chances = bundle.calibration.probabilities(logits)
    lengths = np.ones(len(images), np.float32)  # a head on features of unit length is linear in the rest
    if bundle.front.unit:
        lengths = np.maximum(np.linalg.norm(features, axis=1), _TINY)
    ends = np.cumsum([site.width for site in network.sites])[:-1]
    kernels = np.split(_scores(bundle, network.linear[0]), ends)
    maps = [np.asarray(tensor) for tensor in tensors]
    for row, length in enumerate(lengths):
        found: dict[int, _Maps] = {k: {} for k in choose(chances[row])}
        for site, values, kernel in zip(network.sites, maps, kernels, strict=True):
            for k, named in found.items():
                named[site.output.name] = _dissect(values[row], kernel[:, k], site.output.pooling) / length
        yield logits[row], chances[row], found


def _gradcam(network: _Network, images: np.ndarray, choose: _Choose) -> Iterator[_Seen]:
    import tensorflow as tf

    maps, names = network.maps(images), [site.output.name for site in network.sites]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(maps)
        tensor = network.logits(network.features(maps))
        logits = tensor.numpy()
        chances = network.bundle.calibration.probabilities(logits)
        chosen = [choose(one) for one in chances]
        columns = np.array([[one[min(turn, len(one) - 1)] for one in chosen] for turn in range(max(map(len, chosen)))])
        scores = _scores(network.bundle, tensor)
        # the first class of every image at once, then the second, ...: images do not depend on one another
        turns = [tf.reduce_sum(tf.gather(scores, column, axis=1, batch_dims=1)) for column in columns]
    found = []
    for turn in turns:
        slopes = [tf.reduce_sum(gradient, axis=(1, 2)) for gradient in tape.gradient(turn, maps)]
        found.append([tf.einsum("nhwc,nc->nhw", *pair).numpy() for pair in zip(maps, slopes, strict=True)])
    for row, classes in enumerate(chosen):
        mine = {k: {name: part[row] for name, part in zip(names, found[i], strict=True)} for i, k in enumerate(classes)}
        yield logits[row], chances[row], mine


def _occlusion(bundle: Bundle, images: np.ndarray, choose: _Choose) -> Iterator[_Seen]:
    def infer(some: np.ndarray) -> np.ndarray:
        return bundle.head(bundle.front.apply(bundle.features(some)))

    for image in images:
        logits = infer(image[None])
        chances = bundle.calibration.probabilities(logits)[0]
        lost = _scores(bundle, logits) - _scores(bundle, np.concatenate([infer(some) for some in _cover(image)]))
        maps = lost.astype(np.float32).reshape(_PLACES, _PLACES, -1)
        yield logits[0], chances, {k: {"occlusion": maps[..., k]} for k in choose(chances)}


def _choose_method(bundle: Bundle, asked: str, sites: Sequence[_Site]) -> str:
    kind, clf = bundle.about["head"]["kind"], bundle.about["head"]["clf"]
    exact = bool(sites) and kind == "linear" and all(one.own and one.output.pooling != "max" for one in sites)
    if asked == "auto":
        return "cam" if exact else "gradcam" if sites else "occlusion"
    if asked == "cam" and not exact:
        raise BundleError(
            f"cam needs a linear head on averaged or flattened maps; {bundle.path} has {clf} on "
            f"{', '.join(bundle.about['outputs'])}. Choose --method auto, gradcam or occlusion."
        )
    if asked == "gradcam" and not sites:
        why = f"the head {clf} has none" if kind == "estimator" else "no layer below the head has a map"
        raise BundleError(f"gradcam needs a gradient at a map, and {why}. Choose --method auto or occlusion.")
    return asked


def _position(bundle: Bundle, label: str) -> int:
    classes = bundle.classes
    if label in classes:
        return classes.index(label)
    near = difflib.get_close_matches(label, classes, n=1)
    listed = ", ".join(classes[:_SHOWN]) + (f" and {len(classes) - _SHOWN} more" if len(classes) > _SHOWN else "")
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"{bundle.path} has no class {label!r}.{hint} It has {listed}.")


def _scores(bundle: Bundle, logits: Any) -> Any:
    """Logits, or columns of a kernel, (n, classes) as scores; of two classes, each less the other."""
    return logits - logits[:, ::-1] if len(bundle.classes) == 2 and not bundle.multilabel else logits


def _dissect(values: np.ndarray, column: np.ndarray, pooling: str) -> np.ndarray:
    """The share of every place in a linear score, times the number of places: float32 (height, width).

    values : (height, width, channels); column : the weights of their pooled values (d,)
    """
    height, width, channels = values.shape
    if pooling == "avg":
        return np.asarray(values @ column, np.float32)
    if pooling.startswith("grid:"):
        side = int(pooling[5:])
        cells = column.reshape(side, side, channels)
        weights = np.einsum("hi,wj,ijc->hwc", _shares(height, side), _shares(width, side), cells)
    else:
        weights = column.reshape(values.shape)
    return np.asarray(height * width * np.einsum("hwc,hwc->hw", values, weights), np.float32)


def _shares(length: int, count: int) -> np.ndarray:
    """(length, count): the share of each place in each cell's average, as `featx.backbones.pool` lays out the cells."""
    shares = np.zeros((length, count), np.float32)
    for i in range(count):
        start, stop = i * length // count, -(-(i + 1) * length // count)
        shares[start:stop, i] = 1 / (stop - start)
    return shares


def _with_sum(maps: _Maps, size: tuple[int, int]) -> _Maps:
    """Maps of several layers and their sum at `size` (height, width); a single one as it is."""
    if len(maps) == 1:
        return maps
    height, width = size
    total = np.zeros(size, np.float32)
    for one in maps.values():
        total += np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BILINEAR))
    return maps | {SUM: total}


def _cover(image: np.ndarray) -> Iterator[np.ndarray]:
    """Batches uint8 (n, height, width, 3) of the image with one square covered, row by row of the places.

    The squares are three places wide and centred on a place. They take the image's mean colour, which is nearer to
    "nothing there" than a fixed grey on images that are all dark or all bright.
    """
    height, width = image.shape[:2]
    colour = np.round(image.mean(axis=(0, 1))).astype(np.uint8)
    rows, columns = _windows(height), _windows(width)
    for row in rows:
        batch = np.repeat(image[None], len(columns), axis=0)
        for one, column in zip(batch, columns, strict=True):
            one[row, column] = colour
        yield batch


def _windows(length: int) -> list[slice]:
    centres = (np.arange(_PLACES) + 0.5) * length / _PLACES
    half = _WINDOW * length / _PLACES / 2
    starts, stops = np.floor(centres - half + 0.5).astype(int), np.floor(centres + half + 0.5).astype(int)
    return [slice(max(0, a), max(b, a + 1)) for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]


def _name(path: str | Path | bytes, row: int) -> str:
    return f"image {row + 1}" if isinstance(path, bytes) else str(path)
