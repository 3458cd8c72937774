"""How well a linear head does at a few depths of a backbone: which layer suits the images, in seconds.

The layers are the last clean cut of every size of map: behind them the network goes on with a coarser map. Each is
judged averaged, and averaged over a grid, which keeps where on the image something is. Of a network that gives tokens
they are the last blocks, each by its class token and by the average of its patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from featx.backbones import BackboneSpec, Output, list_layers, resolve, resolve_outputs
from featx.backbones.tokens import choose_token_outputs
from featx.config import FeaturesOptions, Metric
from featx.dataset import ImageSet
from featx.extraction.flow import Extraction, extract
from featx.features import Features
from featx.heads.scaling import check_finite
from featx.heads.table import head_kind
from featx.io.index import StatIndex
from featx.io.progress import Progress, no_progress
from featx.metrics.predictions import target_of
from featx.metrics.scores import resolve_metric, score
from featx.selection.folds import make_folds
from featx.selection.problem import Problem
from featx.selection.search import try_strengths
from featx.selection.settings import SearchSettings
from featx.store.cache import Cache

_MOST_LAYERS = 5
_GRID = 4  # cells along each side, or as many as the map has places
_FOLDS = 5
_STEP = 2  # of the strengths that a fit would search, every second: layers are compared, not heads


@dataclass(frozen=True)
class ProbedLayer:
    """A layer to probe.

    share : of the network's multiply-adds that are done up to it; side : of its map, the smaller; 0: it has no map
    poolings : of a layer that gives tokens, what they are judged by
    """

    layer: str
    share: float
    side: int
    poolings: tuple[str, ...] = ()

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What is taken of it."""
        if self.poolings:
            return tuple(Output(self.layer, pooling) for pooling in self.poolings)
        cells = min(_GRID, self.side)
        return (Output(self.layer, "avg"), *([Output(self.layer, f"grid:{cells}")] if cells > 1 else []))


@dataclass(frozen=True)
class DepthFeatures:
    """The features of a few depths.

    extraction : of all their outputs, the lowest first; shares : layer -> `ProbedLayer.share`
    """

    extraction: Extraction
    shares: dict[str, float]


@dataclass(frozen=True)
class Probe:
    """One output, judged.

    score : of a ridge classifier on the rows that a fold left out, at the strength that does best
    right : bool (n,), which of those rows it was right about; None where images have several labels
    """

    output: Output
    share: float
    score: float
    right: np.ndarray | None


@dataclass(frozen=True)
class Probing:
    """All outputs, judged on the same images, the lowest layer first.

    metric : accuracy, or average_precision where images have several labels; rows : images that were judged
    """

    probes: tuple[Probe, ...]
    metric: Metric
    rows: int

    @property
    def last(self) -> tuple[Probe, ...]:
        """Those of the last layer."""
        return tuple(probe for probe in self.probes if probe.output.layer == self.probes[-1].output.layer)

    @property
    def inner(self) -> tuple[Probe, ...]:
        """Those of the layers below."""
        return self.probes[: len(self.probes) - len(self.last)]


def extract_depths(
    images: ImageSet, options: FeaturesOptions, cache: Cache, progress: Progress = no_progress
) -> DepthFeatures:
    """The features of images at a few depths, out of the store or computed now.

    They lie where those of `featx extract` do, so that a head on one of them need not compute them again.

    Raises
    ------
    DataError
        None of the images can be read.
    BackboneError
        What building the network raises.
    """
    depths = depths_of(options, cache)
    done = extract(images, depth_options(options, depths), cache, progress)
    return DepthFeatures(done, {depth.layer: depth.share for depth in depths})


def depths_of(options: FeaturesOptions, cache: Cache) -> list[ProbedLayer]:
    """The layers that are probed of the network of the options; see `find_depths`."""
    spec = resolve(options)
    (last,) = resolve_outputs(replace(options, layer=(), pooling=("avg",)), spec)
    return find_depths(spec, last.layer, cache.index)


def depth_options(options: FeaturesOptions, depths: Sequence[ProbedLayer]) -> FeaturesOptions:
    """The options that extract all outputs of these layers."""
    names = tuple(output.name for depth in depths for output in depth.outputs)
    return replace(options, layer=names, pooling=())


def probe_depths(
    features: DepthFeatures, rows: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None, seed: int = 0
) -> Probing | None:
    """Judge every output by folds; None where no row can be left out.

    Parameters
    ----------
    features : of `extract_depths`
    rows : positions in the images of its extraction, of different ones that could be read
    y : of these rows, int64 (n,) codes, or bool (n, k) which of k labels they have
    groups : int64 (n,); rows of one group are never in two folds
    """
    test_fold = make_folds(y, groups, _FOLDS, seed)
    judged = test_fold >= 0
    if not judged.any() or (y.ndim == 1 and len(np.unique(y)) < 2):
        return None
    metric: Metric = resolve_metric("auto", target_of(y))
    extraction, probes = features.extraction, []
    for output in extraction.outputs:
        found, right = judge_output(extraction.features(output, rows), y, test_fold, metric, seed)
        probes.append(Probe(output, features.shares[output.layer], found, right))
    return Probing(tuple(probes), metric, int(judged.sum()))


def judge_output(
    features: Features, y: np.ndarray, test_fold: np.ndarray, metric: Metric, seed: int
) -> tuple[float, np.ndarray | None]:
    """The best score among the strengths, and which rows it is right about."""
    check_finite(features)
    kind = head_kind("ridge")
    judged = np.flatnonzero(test_fold >= 0)
    index = np.unique(y, return_inverse=True)[1][judged] if y.ndim == 1 else y[judged]
    best, logits = -np.inf, np.empty(0)
    for trial in try_strengths(
        kind, kind.strengths[::_STEP], Problem.of_train(features, y), test_fold, SearchSettings(seed=seed)
    ):
        found = score(metric, trial.logits[judged], index)
        if found > best:
            best, logits = found, trial.logits[judged]
    return best, logits.argmax(axis=1) == index if y.ndim == 1 else None


def find_depths(spec: BackboneSpec, last: str, index: StatIndex | None = None) -> list[ProbedLayer]:
    """The layers to probe, the lowest first; builds the network where its layers are not remembered.

    last : the layer that features are taken from where nothing else is said; it is always among them
    """
    found = list_layers(spec, index, top=False)
    tokens = choose_token_outputs(spec, last, index)
    if tokens:
        shares = {one.name: one.share for one in found} | {last: 1.0}
        poolings = {one.layer: tuple(other.pooling for other in tokens if other.layer == one.layer) for one in tokens}
        return [ProbedLayer(layer, shares[layer], 0, some) for layer, some in poolings.items()]
    shapes = [one.shape for one in found if one.name == last]
    rows = [(one.name, one.block, one.share, one.shape) for one in found if one.clean_cut]
    return choose_depths(rows, last, shapes[0] if shapes else ())


def choose_depths(
    layers: Sequence[tuple[str, str, float, tuple[int | None, ...]]], last: str, shape: tuple[int | None, ...]
) -> list[ProbedLayer]:
    """The last one of each size of map among clean cuts (layer, block, share, shape of its output), and `last`.

    Only ends of blocks count: the first layers of the next block still have the size of the map.
    """
    ends = {
        block: ProbedLayer(layer, share, _side(size))
        for layer, block, share, size in layers
        if _side(size) and share > 0
    }
    by_side = {depth.side: depth for depth in ends.values()}
    depths = [depth for depth in by_side.values() if depth.layer != last and depth.side != _side(shape)]
    return [*depths[-(_MOST_LAYERS - 1) :], ProbedLayer(last, 1.0, _side(shape))]


def _side(shape: tuple[int | None, ...]) -> int:
    """The smaller side of a map (height, width, channels); 0 for what is none."""
    return min(int(shape[0] or 0), int(shape[1] or 0)) if len(shape) == 3 else 0
