"""Compute damaged rows of a store again, from the images they were made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from featx.dataset.folders import read_files
from featx.errors import StoreError
from featx.extract import extract
from featx.options import FeaturesOptions
from featx.progress import Progress
from featx.store import Damage, FeatureStore


def repair_store(store: FeatureStore, damages: Sequence[Damage], cache: Path, progress: Progress) -> tuple[int, int]:
    """Set damaged rows aside and compute them again into a new part.

    Returns how many rows were computed, and how many could not be since their image is gone or has changed. Of a part
    that cannot be read at all the images are unknown: the next extraction computes those.
    """
    paths = sorted({image for damage in damages for image in damage.images})
    tables = sorted(name for name in store.tables())
    before = {name: table.rows for name, table in store.tables().items()}
    for damage in damages:
        store.repair(damage)
    here = [path for path in paths if Path(path).is_file()]
    if here:
        done = extract(read_files(here), _options(store, cache, tables), progress)
        if done.store.key != store.key:
            raise StoreError(
                f"{store.directory} was made by other versions or with other weights, so its rows cannot be computed "
                "again here. The damaged ones were removed; featx extract fills a new store."
            )
    bad_rows = sum(len(damage.rows) for damage in damages)
    after = {name: table.rows for name, table in FeatureStore(cache, store.key).tables().items()}
    lost = sum(max(0, before[name] - after.get(name, 0)) for name in tables)
    return bad_rows - min(lost, bad_rows), lost


def _options(store: FeatureStore, cache: Path, tables: list[str]) -> FeaturesOptions:
    """The options that the store was made with, for the layers and poolings it has."""
    made = store.made_of()
    names = [name.rsplit("@", 1) for name in tables]
    return FeaturesOptions(
        backbone=made["name"],
        weights=made["weights"],
        weights_seed=made["weights_seed"],
        layer=tuple(dict.fromkeys(layer for layer, _ in names)),
        pooling=tuple(dict.fromkeys(pooling for _, pooling in names)),
        input_size=int(np.max(made["input_size"])),
        resize=made["resize"],
        preprocessing=made["preprocessing"],
        precision=store.key.precision.split("/")[0],  # type: ignore[arg-type]
        storage=store.key.storage,  # type: ignore[arg-type]
        engine=made["engine"],
        cache=str(cache),
    )
