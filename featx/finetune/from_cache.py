"""Train on cached maps: only the layers above a cached one are trained.

Its outputs are in the feature store (pooling `none`), so the layers at and below it never run again. What is trained is
made of the layers of the whole network, whose lower ones stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from featx.backbones import Output, clean_cuts, require_clean_cut, resolve, split_network
from featx.bundle.bundle import Bundle
from featx.config import AugmentOptions, FeaturesOptions
from featx.errors import BundleError, UsageError
from featx.extraction.flow import Extraction, extract, frozen_files, make_key
from featx.extraction.views import ViewPolicy, extract_views
from featx.finetune.examples import make_examples
from featx.heads import persist
from featx.images.augment import Augmenter
from featx.io.progress import Progress, no_progress
from featx.io.suggest import did_you_mean
from featx.runs.prepared import Prepared
from featx.store.cache import Cache

if TYPE_CHECKING:
    import keras

_SAME = ("backbone", "architecture", "weights", "input_size", "resize", "preprocessing")  # of the key
_OFFERED = 8  # layers that an error names


def part_above(model: keras.Model, bundle: Bundle, layer: str, unfreeze: str) -> keras.Model:
    """The part of a grafted model above a layer: from its output (n, ...) to logits. It has the model's own layers.

    unfreeze : what is to train, which must be in that part

    Raises
    ------
    UsageError
        The features of the bundle are not at or above the layer, or what is to train is not above it.
    BackboneError
        The network cannot be cut there.
    """
    cuts = [name for name in clean_cuts(model) if not _is_added(name)]
    layers = ", ".join(bundle.manifest.output_names)
    names = [one.name for one in model.layers]
    if layer not in names or _is_added(layer) or layer == names[0]:
        raise UsageError(
            f"--from-cache {layer!r} is not a layer of the network of {bundle.shown}, which ends where its head takes "
            f"its features ({layers}).{did_you_mean(layer, cuts, most=3)} {_offer(cuts)} "
            "To train above a higher layer, fit a head there first: featx fit-head --layer LAYER"
        )
    require_clean_cut(model, layer, cuts)
    if unfreeze in names[: names.index(layer) + 1]:
        raise UsageError(
            f"--unfreeze {unfreeze!r} is not above --from-cache {layer!r}: layers at or below that, whose outputs are "
            "cached, cannot train. Give all, none, a number of layers, or the name of a layer above it."
        )
    return split_network(model, layer, cuts).upper


def _is_added(name: str) -> bool:
    """Whether featx put the layer into the network: preprocessing, poolings, the head."""
    return name.startswith("featx_")


def _offer(cuts: Sequence[str]) -> str:
    if not cuts:
        return "It has no layer to cut at."
    return f"Choose one of {', '.join(cuts[-_OFFERED:])}" + (", or one below." if len(cuts) > _OFFERED else ".")


class MapSource:
    """A layer's outputs, read from the store in the place of images; those that are missing are computed first.

    Where the pipeline augments, every epoch sees the next of the cached views of each training image, and after the
    last of them the first again: as many views as epochs are what images altered anew in every epoch would be.
    """

    def __init__(self, bundle: Bundle, prepared: Prepared, layer: str, progress: Progress = no_progress) -> None:
        self.examples = make_examples(bundle, prepared)
        self._digests, pipeline, output = prepared.sample.digests, prepared.pipeline, Output(layer, "none")
        policy = pipeline.augment
        _require_views(policy)
        # written plainly, whatever is done with other features: rows of compressed parts cannot be read one by one
        options = replace(pipeline.features, layer=(output.name,), pooling=(), compression="none")
        require_same_network(bundle, options, prepared.cache)
        extraction = extract(prepared.extraction.images, options, prepared.cache, progress)
        _require_unchanged(bundle, extraction, output)
        self._maps = extraction.store.table(output.layer, output.pooling)
        self._views, self._each = self._maps, policy.views if policy.operations else 0
        if self._each:
            wanted = ViewPolicy(Augmenter(policy, pipeline.data.seed), self._each)
            views = extract_views(extraction, prepared.sample.train_rows, wanted, prepared.cache, progress)
            self._views = views.extraction.store.table(output.layer, output.pooling)
        parts = [*self._maps.parts, *self._views.parts]
        self._dtype = np.result_type(*{part.dtype for part in parts})  # one, of which the step is traced

    def batches(self, rows: np.ndarray, size: int, epoch: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield maps (n, height, width, channels) of the type that they are stored in, which the network converts."""
        table, view = (self._maps, 0) if epoch is None or not self._each else (self._views, 1 + epoch % self._each)
        there = ~table.missing(self._digests[rows], view)
        batches = [rows[some][there[some]] for some in np.split(np.arange(len(rows)), range(size, len(rows), size))]
        batches = [batch for batch in batches if len(batch)]
        maps = table.read(self._digests[rows[there]], view)
        ends = np.cumsum([len(batch) for batch in batches])
        places = [np.arange(end - len(batch), end) for end, batch in zip(ends, batches, strict=True)]
        for batch, read in zip(batches, maps.batches(places), strict=True):
            yield batch, read.astype(self._dtype, copy=False)


def _require_views(policy: AugmentOptions) -> None:
    if policy.operations and not policy.views:
        raise UsageError(
            f"--from-cache reads maps, which cannot be altered any more by {', '.join(policy.operations)}. Add --views "
            "5, for instance, to cache so many altered versions of every training image, or switch augmentation off."
        )


def require_same_network(bundle: Bundle, options: FeaturesOptions, cache: Cache) -> None:
    """Refuse options that describe another network than the bundle's, which is the one that is trained.

    Raises
    ------
    BundleError
        They do; what differs is named.
    """
    spec = resolve(options)
    key, fitted = make_key(options, spec, bundle.outputs, cache.index).as_json(), bundle.manifest.key.as_json()
    differing = [name for name in _SAME if key[name] != fitted.get(name)]
    if differing:
        raise BundleError(
            f"{bundle.shown} has features of another network than these options describe ({', '.join(differing)} "
            f"differ): {bundle.manifest.backbone.name} at {bundle.input_size[0]} pixels against {spec.label} at "
            f"{spec.input_size[0]}. Leave these options out, or give those that its features were extracted with, such "
            "as --backbone, --weights and --input-size."
        )


def _require_unchanged(bundle: Bundle, extraction: Extraction, output: Output) -> None:
    """Refuse a bundle whose network was trained at or below the layer after the features were extracted."""
    if not bundle.manifest.backbone.finetuned:
        return
    cached = persist.load_network(frozen_files(extraction, (output,))["backbone.keras"])
    tuned = {layer.name: layer for layer in persist.load_network(bundle.path / "backbone.keras").layers}
    changed = [
        layer.name
        for layer in cached.layers
        if any(
            not np.array_equal(*pair) for pair in zip(layer.get_weights(), tuned[layer.name].get_weights(), strict=True)
        )
    ]
    if changed:
        names = [layer.name for layer in cached.layers]
        below = [cut for cut in clean_cuts(cached) if names.index(cut) < names.index(changed[0]) and not _is_added(cut)]
        raise BundleError(
            f"{bundle.shown} was fine-tuned from {changed[0]!r} on, so the cached outputs of {output.layer!r} are not "
            "those of its network. "
            + (f"Choose --from-cache {below[-1]} or one below it, " if below else "Leave --from-cache out, ")
            + "or start --from the bundle that it was fine-tuned from."
        )
