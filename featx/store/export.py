"""Features as one plain file for other tools."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import StoreError
from featx.io.files import atomic_path, remove_stale
from featx.io.jsontypes import Json
from featx.io.suffixes import import_pyarrow, suffix_of
from featx.store.export_formats import Export, write_csv, write_hdf5, write_npz, write_parquet
from featx.store.store import FeatureStore
from featx.store.stored import StoredFeatures

SUFFIXES = {
    ".h5": write_hdf5,
    ".hdf5": write_hdf5,
    ".npz": write_npz,
    ".csv": write_csv,
    ".parquet": write_parquet,
}
_BYTES_OF_TEXT = 12  # of a number in a CSV


def export_features(
    out: Path,
    features: StoredFeatures,
    labels: np.ndarray | None,
    columns: dict[str, list[str] | np.ndarray],
    about: Mapping[str, Json],
) -> None:
    """Write one plain file for other tools, in the format of its suffix: `features`, `labels`, and `columns`.

    It appears whole or not at all.

    labels : codes int (n,), or of several labels (n, classes); columns : `paths`, `classes`, `split` and the like
    about : what the features are

    Raises
    ------
    UsageError
        A suffix that is none of `SUFFIXES`.
    """
    suffix = require_exportable(out)
    each = _BYTES_OF_TEXT if suffix == ".csv" else 4
    if shutil.disk_usage(out.parent if out.parent.exists() else Path()).free < int(np.prod(features.shape)) * each:
        raise StoreError(f"Not enough free space beside {out} for {features.shape} features.")
    remove_stale(out.parent, deep=False)
    with atomic_path(out) as temporary:
        SUFFIXES[suffix](temporary, Export(features, labels, columns, about))


def require_exportable(out: Path) -> str:
    """The suffix of a file of features; refuse what there is no format for, or no pyarrow."""
    suffix = suffix_of(out, list(SUFFIXES), "Features")
    if suffix == ".parquet":
        import_pyarrow(out)
    return suffix


def describe(store: FeatureStore) -> dict[str, Any]:
    """What `featx cache ls` shows of a store."""
    tables = {
        name: {"rows": table.rows, "parts": len(table.parts), "bytes": table.bytes_on_disk}
        for name, table in store.tables().items()
    }
    return {"store": str(store.directory), "key": asdict(store.key), "layers": tables}
