"""Feature files: size, and speed of writing, of reading in order (cold and warm) and of reading 256 random rows.

    python benchmarks/bench_hdf5.py [--rounds 3]

featx's parts, contiguous and with zstd, against h5py with gzip and lzf, for pooled and for flattened features in
float16, half of them zeros. Speeds are MB/s of uncompressed float16; every side hands out float32 blocks of 32 MB.
Cold: the file was flushed and then dropped from the system's cache. zstd needs the package hdf5plugin.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import compare, in_process, report

LAYOUTS = {"featx, contiguous": "none", "featx, zstd": "zstd", "h5py, gzip 4": "gzip", "h5py, lzf": "lzf"}
RANDOM_ROWS = 256
BLOCK_BYTES = 32_000_000
_ATTRIBUTES = {"key": "made up", "layer": "layer", "pooling": "avg"}


def write_features(path: str, rows: int, width: int) -> dict[str, Any]:
    """Features after a ReLU: half zeros, the others correlated, in float16."""
    import numpy as np

    random = np.random.default_rng(0)
    mix = random.standard_normal((64, width), np.float32)
    out = np.lib.format.open_memmap(path, "w+", np.float16, (rows, width))
    for start in range(0, rows, 1000):
        some = random.standard_normal((min(1000, rows - start), 64), np.float32)
        out[start : start + len(some)] = np.maximum(some @ mix / 8, 0)
    out.flush()
    return {"rows": rows}


def measure(layout: str, source: str, chunk_rows: int) -> dict[str, Any]:
    import h5py  # noqa: F401 - importing it is no part of the seconds
    import numpy as np

    features = np.load(source)
    rows = np.random.default_rng(1).choice(len(features), min(RANDOM_ROWS, len(features)), replace=False)
    with tempfile.TemporaryDirectory(dir=Path(source).parent) as folder:
        way = (
            _Parts(folder, LAYOUTS[layout])
            if layout.startswith("featx")
            else _File(folder, LAYOUTS[layout], chunk_rows)
        )
        start = time.perf_counter()
        way.write(features)
        seconds = {"write": time.perf_counter() - start}
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        _drop(folder)
        seconds["cold read"] = _seconds(way.read)
        seconds["warm read"] = _seconds(way.read)
        start = time.perf_counter()
        found = way.take(rows)
        random_seconds = time.perf_counter() - start
        if not np.array_equal(found, features[rows].astype(np.float32)):
            raise ValueError(f"{layout} gives other rows back")
    rates = {f"{name}, MB/s": features.nbytes / 1e6 / spent for name, spent in seconds.items()}
    rates["random rows, MB/s"] = features[rows].nbytes / 1e6 / random_seconds
    return {"size": size / features.nbytes, **rates}


class _Parts:
    """featx's own files."""

    def __init__(self, folder: str, compression: str) -> None:
        from featx.store.table import FeatureTable

        self._open: Callable[[], Any] = lambda: FeatureTable(Path(folder), _ATTRIBUTES)
        self._compression = compression
        self._digest: Any = None

    def write(self, features: Any) -> None:
        import numpy as np

        from featx.store.writer import TableWriter

        self._digest = np.array([number.to_bytes(32, "big") for number in range(1, len(features) + 1)], "V32")
        with TableWriter({"table": self._open()}, "float16", self._compression) as writer:
            for start in range(0, len(features), 256):
                some = slice(start, start + 256)
                digest = self._digest[some]
                writer.add("table", digest, ["x.png"] * len(digest), features[some])

    def read(self) -> Iterator[Any]:
        yield from self._open().read(self._digest).blocks()

    def take(self, rows: Any) -> Any:
        return self._open().read(self._digest).take(rows).asarray()


class _File:
    """One file by h5py, in chunks of whole rows, written a chunk at a time."""

    def __init__(self, folder: str, compression: str, chunk_rows: int) -> None:
        self._path = Path(folder) / "features.h5"
        self._filter = (
            {"compression": "gzip", "compression_opts": 4} if compression == "gzip" else {"compression": "lzf"}
        )
        self._rows = chunk_rows

    def write(self, features: Any) -> None:
        import h5py

        with h5py.File(self._path, "w") as file:
            chunks = (min(self._rows, len(features)), features.shape[1])
            data = file.create_dataset("features", features.shape, features.dtype, chunks=chunks, **self._filter)
            for start in range(0, len(features), self._rows):
                data[start : start + self._rows] = features[start : start + self._rows]
            file.flush()
            os.fsync(file.id.get_vfd_handle())

    def read(self) -> Iterator[Any]:
        import h5py
        import numpy as np

        with h5py.File(self._path, "r") as file:
            data = file["features"]
            step = max(1, BLOCK_BYTES // (4 * data.shape[1]) // self._rows) * self._rows
            for start in range(0, len(data), step):
                yield data[start : start + step].astype(np.float32)

    def take(self, rows: Any) -> Any:
        import h5py
        import numpy as np

        order = np.argsort(rows)  # h5py takes rows in ascending order only
        with h5py.File(self._path, "r") as file:
            found = file["features"][rows[order]]
        out = np.empty(found.shape, np.float32)
        out[order] = found
        return out


def _drop(folder: str) -> None:
    """Take the files, which were flushed when they were written, out of the system's cache, where that can be asked."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in Path(folder).iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _seconds(read: Callable[[], Iterator[Any]]) -> float:
    start = time.perf_counter()
    for block in read():
        del block
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pooled-rows", type=int, default=20_000)
    parser.add_argument("--pooled-width", type=int, default=1_280)
    parser.add_argument("--flattened-rows", type=int, default=2_000)
    parser.add_argument("--flattened-width", type=int, default=37_632, help="7 x 7 x 768 by default.")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    shapes = {  # rows, width, rows of a chunk
        "pooled": (arguments.pooled_rows, arguments.pooled_width, 32),
        "flattened": (arguments.flattened_rows, arguments.flattened_width, 8),
    }
    notes = [
        f"{name}: {rows:,} x {width:,}; h5py in chunks of {chunk} rows" for name, (rows, width, chunk) in shapes.items()
    ]
    layouts = list(LAYOUTS)
    if importlib.util.find_spec("hdf5plugin") is None:
        layouts.remove("featx, zstd")
        notes.append("zstd was left out: the package hdf5plugin is not installed.")
    with tempfile.TemporaryDirectory() as root:
        cases: dict[str, Any] = {}
        for name, (rows, width, chunk) in shapes.items():
            source = f"{root}/{name}.npy"
            in_process(write_features, (source, rows, width))
            for layout in layouts:
                cases[f"{name}: {layout}"] = (measure, (layout, source, chunk))
        results = compare(cases, arguments.rounds)
    figures: dict[str, float] = {}
    for name in shapes:
        ours, theirs = results[f"{name}: featx, contiguous"], results[f"{name}: h5py, gzip 4"]
        figures |= {
            f"{name}: contiguous / gzip 4, {what}": ours[what] / theirs[what] for what in ours if "MB/s" in what
        }
    report("Feature files: size, and MB/s of uncompressed data", results, {}, figures, notes)


if __name__ == "__main__":
    main()
