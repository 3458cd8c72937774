"""Features with labels, paths and parts in the formats of other tools, block by block: HDF5, NPZ, CSV, Parquet."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.io.csvtext import csv_line
from featx.io.jsontypes import Json
from featx.io.shown import as_utf8
from featx.io.suffixes import import_pyarrow
from featx.store.stored import StoredFeatures


@dataclass(frozen=True)
class Export:
    """What is written.

    labels : codes int (n,), or of several labels (n, classes); None where there are none
    columns : `paths`, `split` and `view` of every row, and `classes`; about : what the features are
    """

    features: StoredFeatures
    labels: np.ndarray | None
    columns: dict[str, list[str] | np.ndarray]
    about: Mapping[str, Json]

    @property
    def attributes(self) -> dict[str, Json]:
        """What the features are, as texts and numbers."""
        return {
            name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in self.about.items()
        }

    @property
    def table(self) -> dict[str, list[Any]]:
        """The columns of a table of images, without the features: path, labels by name, and what else there is."""
        classes, found = list(self.columns["classes"]), {"path": list(map(as_utf8, self.columns["paths"]))}
        if self.labels is not None and self.labels.ndim == 2:
            found |= {f"label_{name}": self.labels[:, code].tolist() for code, name in enumerate(classes)}
        elif self.labels is not None:
            found["label"] = [classes[code] if code >= 0 else "" for code in self.labels.tolist()]
        others = {name: values for name, values in self.columns.items() if name not in {"classes", "paths"}}
        return found | {name: np.asarray(values).tolist() for name, values in others.items()}

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """The first row of a block, and its features (m, numbers of an image)."""
        start = 0
        for block in self.features.blocks():
            yield start, block.reshape(len(block), -1).astype(self.features.dtype, copy=False)
            start += len(block)


def write_hdf5(path: Path, export: Export) -> None:
    """Write data sets `features`, `labels` and one for every column."""
    import h5py

    shape = export.features.shape
    with h5py.File(path, "w", locking=False) as file:
        file.attrs.update(export.attributes)
        data = file.create_dataset("features", shape, export.features.dtype)
        for start, block in export.blocks():
            data[start : start + len(block)] = block.reshape(len(block), *shape[1:])
        if export.labels is not None:
            file.create_dataset("labels", data=export.labels)
        for name, values in export.columns.items():
            if isinstance(values, np.ndarray):
                file.create_dataset(name, data=values)
            else:
                file.create_dataset(name, data=np.array(values, dtype=object), dtype=h5py.string_dtype())


def write_npz(path: Path, export: Export) -> None:
    """Write the arrays of the HDF5 file, and `about` as a text of JSON: what `numpy.load` reads without pickles."""
    others = {} if export.labels is None else {"labels": export.labels}
    others |= {name: _plain_array(values) for name, values in export.columns.items()}
    others["about"] = np.array(json.dumps(export.attributes))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("features.npy", "w", force_zip64=True) as member:
            dtype = np.dtype(export.features.dtype)
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
            np.lib.format.write_array_header_2_0(member, header | {"shape": export.features.shape})
            for _, block in export.blocks():
                member.write(np.ascontiguousarray(block).tobytes())
        for name, values in others.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)


def _plain_array(values: list[str] | np.ndarray) -> np.ndarray:
    return values if isinstance(values, np.ndarray) else np.array(list(map(as_utf8, values)), dtype=str)


def write_csv(path: Path, export: Export) -> None:
    """Write a row for every image: what is known of it, then a column for every feature, named as by `to_pandas`."""
    table, output = export.table, export.about.get("output", "feature")
    names = [f"{output}_{number}" for number in range(int(np.prod(export.features.shape[1:])))]
    rows = zip(*table.values(), strict=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        file.write(csv_line([*table, *names]))
        for _, block in export.blocks():
            for numbers in block.astype(str):  # the shortest text that reads back the same
                file.write(csv_line(next(rows)).rstrip("\n") + "," + ",".join(numbers.tolist()) + "\n")


def write_parquet(path: Path, export: Export) -> None:
    """Write a row for every image: what is known of it, and `features`, a list of as many numbers in every row."""
    arrow, table = import_pyarrow(path), export.table
    width = int(np.prod(export.features.shape[1:]))
    numbers = arrow.list_(arrow.from_numpy_dtype(export.features.dtype), width)
    known = {name: arrow.array(values) for name, values in table.items()}
    fields = [*((name, column.type) for name, column in known.items()), ("features", numbers)]
    more = export.attributes | {"shape": json.dumps(export.features.shape[1:])}
    schema = arrow.schema(fields, {name: str(value) for name, value in more.items()})
    with arrow.parquet.ParquetWriter(path, schema) as file:
        for start, block in export.blocks():
            some = [column.slice(start, len(block)) for column in known.values()]
            values = arrow.array(np.ascontiguousarray(block).reshape(-1))
            some.append(arrow.FixedSizeListArray.from_arrays(values, width))
            file.write_table(arrow.Table.from_arrays(some, schema=schema))
