"""Recompute damaged rows of a store from their images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from featx.config import FeaturesOptions
from featx.dataset.folders import read_files
from featx.errors import StoreError
from featx.extraction.flow import extract
from featx.extraction.job import settle
from featx.extraction.views import repair_views
from featx.images.augment import Augmenter
from featx.io.modules import named_modules
from featx.io.progress import Progress
from featx.io.remote import shared_remote
from featx.io.urls import is_url
from featx.store.cache import Cache
from featx.store.damage import Damage
from featx.store.key import NO_VIEWS
from featx.store.store import FeatureStore


def repair_store(store: FeatureStore, damages: Sequence[Damage], cache: Cache, progress: Progress) -> tuple[int, int]:
    """Compute damaged rows again into a new part, and set the damaged ones aside.

    Returns how many rows were computed, and how many could not be since their image is gone, or since the damage hit
    its path. Of a part that cannot be read at all the images are unknown. The next extraction computes all of those.

    Raises
    ------
    StoreError
        When this machine would compute other values. The damaged rows are gone then, the others are kept.
    """
    names = {table.directory: name for name, table in store.tables().items()}
    bad = sum(len(damage.rows) for damage in damages)
    left = _count_rows(store) - bad
    images: dict[str, set[tuple[str, int]]] = {}
    for damage in damages:
        if damage.rows:
            rows = zip(damage.images, damage.views, strict=True)
            images.setdefault(names[Path(damage.part).parent], set()).update(rows)
            store.doubt(damage)
    try:
        for name, wanted in sorted(images.items()):
            _compute(store, name, _still_there(wanted), cache, progress)
    except _OtherValuesError:
        _set_aside(store, damages)
        raise
    _set_aside(store, damages)  # not before: an interrupted repair would leave rows that nobody knows to be missing
    computed = min(bad, _count_rows(store) - left)
    return computed, bad - computed


class _OtherValuesError(StoreError):
    """Other versions or weights are installed, which would compute other values than the store holds."""


def _set_aside(store: FeatureStore, damages: Sequence[Damage]) -> None:
    for damage in damages:
        store.repair(damage)


def _still_there(wanted: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Those (path, view) whose image can still be read, in order."""
    rows = sorted(wanted)
    gone = shared_remote().faults({path for path, _ in rows})
    return [one for one in rows if (one[0] not in gone if is_url(one[0]) else Path(one[0]).is_file())]


def _count_rows(store: FeatureStore) -> int:
    return sum(table.rows for table in store.tables().values())


def _compute(store: FeatureStore, name: str, wanted: list[tuple[str, int]], cache: Cache, progress: Progress) -> None:
    """These rows (path, view) of the one table `layer@pooling`; those that it has stay as they are."""
    if not wanted:
        return
    _require_named(store)
    options = options_of(store, cache, (name,))
    augmenter = None if store.key.views == NO_VIEWS else Augmenter.from_json(store.made_of()["augment"])
    if settle(options, cache, augmenter).store.key != store.key:
        raise _OtherValuesError(
            f"{store.directory} was made by other versions or with other weights, so its rows cannot be computed "
            "again here. The damaged ones were removed; featx extract fills a new store."
        )
    if augmenter is None:
        extract(read_files([path for path, _ in wanted]), options, cache, progress)
    else:
        repair_views(wanted, options, augmenter, cache, progress)


def _require_named(store: FeatureStore) -> None:
    """Refuse to compute with a network whose modules nobody has named in this process."""
    missing = [module for module in store.made_of().get("imports", ()) if not named_modules().hold(module)]
    if missing:
        raise StoreError(
            f"{store.directory} has features of a network with layers from {', '.join(missing)}. Add "
            f"{' '.join(f'--import {module}' for module in missing)} to compute its damaged rows again; the code of "
            "such a module is executed."
        )


def options_of(store: FeatureStore, cache: Cache, names: tuple[str, ...]) -> FeaturesOptions:
    """The options that the store was made with, for these layers and poolings.

    Of the modules that its network needs, those that were named in this process: no file says what is imported.

    names : each as LAYER@POOLING
    """
    made = store.made_of()
    plugin, (height, width) = made.get("plugin"), made["input_size"]
    precision, _, engine = store.key.precision.partition("/")
    return FeaturesOptions(
        backbone=plugin["name"] if plugin else made["name"],
        weights=made["weights"],
        weights_seed=made["weights_seed"],
        layer=tuple(made.get("cut", names)),  # of int8 the whole network, since its key names that
        input_size=height if height == width else None,  # only a file has another shape than a square: its own
        resize=made["resize"],
        preprocessing=made["preprocessing"],
        imports=tuple(module for module in made.get("imports", ()) if named_modules().hold(module)),
        precision=precision,  # type: ignore[arg-type]
        storage=store.key.storage,  # type: ignore[arg-type]
        engine=engine or "auto",  # type: ignore[arg-type]
        cache=str(cache.path),
    )
