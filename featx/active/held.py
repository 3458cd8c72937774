"""Images that a model was not fitted on, with their features: the reference for new images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.bundle.bundle import Bundle
from featx.bundle.novelty import FILE
from featx.dataset import TEST, VAL
from featx.errors import BundleError
from featx.features import ArrayFeatures, Features
from featx.heads.transform import join
from featx.io.digest_arrays import digest_array
from featx.store.cache import Cache

MOST = 2000  # images of either side that are compared


@dataclass(frozen=True)
class HeldOut:
    """Features of images that the model was not fitted on.

    features : of at most 2,000 rows
    unseen : whether the head was not fitted on them either, so that what it answers to them is what it answers to any
    where : what they are, in words
    """

    features: Features
    unseen: bool
    where: str


def held_out(bundle: Bundle, cache: Cache, seed: int) -> HeldOut:
    """The val and test images of a model, of the cache where that has more of them than the bundle keeps.

    Raises
    ------
    BundleError
        There are none.
    """
    kept = bundle.reference().held if FILE in bundle.manifest.files else np.empty((0, bundle.manifest.head.features))
    cached = _cached(bundle, cache, seed)
    if cached is not None and cached.shape[0] > len(kept):
        return HeldOut(cached, unseen=True, where="val and test images in the cache")
    if not len(kept):
        raise BundleError(
            f"{bundle.shown} keeps no images that it was not fitted on, and the cache has none, so there is nothing to "
            "compare new ones with. Make it again, with val images: featx fit-head DATA --split 0.8,0.1,0.1"
        )
    return HeldOut(ArrayFeatures(kept), not bundle.manifest.head.refitted, "val images that the bundle keeps")


def _cached(bundle: Bundle, cache: Cache, seed: int) -> Features | None:
    """Rows of images that nothing was fitted on; None where the cache has no features of the bundle's network."""
    manifest = bundle.manifest
    if manifest.backbone.finetuned or manifest.baseline:
        return None
    key = manifest.key.as_json()
    store = next((one for one in cache.stores() if one.key.as_json() == key), None)
    if store is None:
        return None
    digests = digest_array(sorted(digest for digest, part in bundle.split().items() if part in {VAL, TEST}))
    digests = digests[~bundle.seen().trained_on(digests)]
    tables = [store.table(output.layer, output.pooling) for output in bundle.outputs]
    here = digests[~np.any([table.missing(digests) for table in tables], axis=0)]
    here = np.sort(np.random.default_rng(seed).permutation(here)[:MOST])
    return join([table.read(here) for table in tables]) if len(here) else None
