"""Features as one plain HDF5 file for other tools."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import StoreError
from featx.io.files import atomic_path, remove_stale
from featx.store.store import FeatureStore
from featx.store.stored import StoredFeatures


def export_features(
    out: Path,
    features: StoredFeatures,
    labels: np.ndarray | None,
    columns: dict[str, list[str] | np.ndarray],
    about: dict[str, Any],
) -> None:
    """Write one plain HDF5 file for other tools: `features`, `labels`, and `columns` of text or numbers.

    It appears whole or not at all.
    """
    import h5py

    if shutil.disk_usage(out.parent if out.parent.exists() else Path()).free < int(np.prod(features.shape)) * 4:
        raise StoreError(f"Not enough free space beside {out} for {features.shape} float32 features.")
    remove_stale(out.parent, deep=False)
    with atomic_path(out) as temporary, h5py.File(temporary, "w", locking=False) as file:
        file.attrs.update(
            {name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in about.items()}
        )
        data = file.create_dataset("features", features.shape, features.dtype)
        start = 0
        for block in features.blocks():
            data[start : start + len(block)] = block.reshape(len(block), *features.shape[1:])
            start += len(block)
        if labels is not None:
            file.create_dataset("labels", data=labels)
        for name, values in columns.items():
            if isinstance(values, np.ndarray):
                file.create_dataset(name, data=values)
            else:
                file.create_dataset(name, data=np.array(values, dtype=object), dtype=h5py.string_dtype())


def describe(store: FeatureStore) -> dict[str, Any]:
    """What `featx cache ls` shows of a store."""
    tables = {
        name: {"rows": table.rows, "parts": len(table.parts), "bytes": table.bytes_on_disk}
        for name, table in store.tables().items()
    }
    return {"store": str(store.directory), "key": asdict(store.key), "layers": tables}
