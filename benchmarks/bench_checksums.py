"""The checksums of rows: what comparing a part with them costs beside a fit on its rows.

    python benchmarks/bench_checksums.py [--megabytes 100] [--rounds 3]
    python benchmarks/bench_checksums.py --store 4000 --width 2048 [--rounds 2]

Readers compare every row with its CRC-32 the first time; it is remembered that a part was sound. Rows of 256, 1,280 and
32,768 values in float16 are written as a part, read with their checksums, and the heads that are fitted fastest are
fitted on them in memory, with one strength and no search. Processor seconds are compared, since they do not depend on
what else the machine does.

With --store, the store's own writer makes a table of so many MB in parts of 64 MB. It is read for the first time, which
compares all parts, and once more, which remembers that; and heads are fitted on it in blocks, as features are that are
larger than the memory allowed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import compare, in_process, report

WIDTHS = (256, 1_280, 32_768)
HEADS = ("logreg", "ridge")
ATTRIBUTES = {"key": "made up", "layer": "t"}


def rows_of(width: int, megabytes: int) -> Any:
    """Rows of made-up features, their paths and digests, and a class of each that a few of the features decide."""
    import numpy as np

    from featx.store.part import PartRows, path_array

    count = megabytes * 1_000_000 // (2 * width)
    random = np.random.default_rng(0)
    features = np.abs(random.standard_normal((count, width), np.float32)).astype(np.float16)
    score = features[:, :8].astype(np.float32).sum(axis=1) + random.normal(0, 1, count)
    digests = random.integers(0, 256, (count, 32), np.uint8).view("V32")[:, 0]
    paths = path_array([f"pictures/class/{number:07}.jpg" for number in range(count)])
    return PartRows(digests, np.zeros(count, np.uint16), paths, features), (score > np.median(score)).astype(int)


def check(width: int, megabytes: int) -> dict[str, Any]:
    """Processor seconds of comparing a part with its checksums."""
    from featx.store.part import read_rows, write_part

    rows, _ = rows_of(width, megabytes)
    with tempfile.TemporaryDirectory() as folder:
        write_part(Path(folder), rows, {}, "none")
        start = time.process_time()
        _, good = read_rows(next(Path(folder).glob("*.h5")))
        seconds = time.process_time() - start
    if not good.all():
        raise SystemExit("rows do not hold their checksums")
    return {"seconds": seconds, "seconds per GB": seconds / (rows.features.nbytes / 1e9)}


def fit(width: int, megabytes: int, head: str) -> dict[str, Any]:
    """Processor seconds of fitting a head on the same rows."""
    from featx.heads.linear import LogisticRegression
    from featx.heads.ridge import Ridge

    rows, y = rows_of(width, megabytes)
    kind = {"logreg": LogisticRegression, "ridge": Ridge}[head]
    start = time.process_time()
    kind(C=0.01).fit(rows.features, y)
    seconds = time.process_time() - start
    return {"seconds": seconds, "seconds per GB": seconds / (rows.features.nbytes / 1e9)}


def make_store(folder: Path, width: int, megabytes: int) -> None:
    """Write a table of made-up features, in blocks of 64 MB, and the class of each row."""
    import numpy as np

    from featx.store.table import TableFolder
    from featx.store.writer import TableWriter

    count, random, labels = megabytes * 1_000_000 // (2 * width), np.random.default_rng(0), []
    with TableWriter({"t": TableFolder(folder / "t", ATTRIBUTES)}, "float16", "none") as writer:
        for start in range(0, count, 16_384):
            rows = min(16_384, count - start)
            bits = random.integers(0x3000, 0x4000, (rows, width), np.uint16)  # from 1/8 to 2
            features = bits.view(np.float16).astype(np.float32)
            score = features[:, :8].sum(axis=1) + random.normal(0, 1, rows)
            labels.append(score > np.median(score))
            digests = random.integers(0, 256, (rows, 32), np.uint8).view("V32")[:, 0]
            writer.add("t", digests, [f"pictures/class/{n:07}.jpg" for n in range(start, start + rows)], features)
            np.save(folder / f"digests-{start:09}.npy", digests.view(np.uint8).reshape(-1, 32))
    np.save(folder / "labels.npy", np.concatenate(labels))


def _open_store(folder: Path, remembered: bool) -> tuple[Any, Any, Any]:
    import numpy as np

    from featx.io.index import StatIndex
    from featx.store.damage import Checks
    from featx.store.table import FeatureTable

    class Timed(Checks):
        """Counts what comparing takes, without looking rows up, which every reading does."""

        seconds = 0.0

        def find_damage(self, path: Path) -> Any:
            start = time.process_time()
            damage = super().find_damage(path)
            Timed.seconds += time.process_time() - start
            return damage

    index = StatIndex(folder / "index.sqlite")
    table = FeatureTable(folder / "t", ATTRIBUTES, Timed(lambda: index if remembered else None))
    digests = np.concatenate([np.load(path) for path in sorted(folder.glob("digests-*.npy"))]).view("V32")[:, 0]
    return table, digests, Timed


def first_reading(folder: Path, remembered: bool) -> dict[str, Any]:
    """Processor seconds of comparing while every row of a table is looked up; remembered: of the second time."""
    table, digests, timed = _open_store(folder, remembered)
    if remembered:
        table.find(digests)
        table, digests, timed = _open_store(folder, remembered)
    timed.seconds, start = 0.0, time.process_time()
    part, _ = table.find(digests)
    whole = time.process_time() - start
    if (part < 0).any():
        raise SystemExit("rows are missing")
    return {"seconds": timed.seconds, "with looking up": whole, "parts": len(table.parts)}


def fit_store(folder: Path, head: str) -> dict[str, Any]:
    """Processor and wall seconds of a fit on a table in blocks, without what comparing checksums takes."""
    import numpy as np

    from featx.heads.linear import LogisticRegression
    from featx.heads.ridge import Ridge

    table, digests, _ = _open_store(folder, True)
    features = table.read(digests)  # larger than the memory that is allowed: never loaded as a whole
    labels = np.load(folder / "labels.npy").astype(int)
    start, wall = time.process_time(), time.perf_counter()
    {"logreg": LogisticRegression, "ridge": Ridge}[head](C=0.01).fit(features, labels)
    return {"seconds": time.process_time() - start, "wall": time.perf_counter() - wall}


def measure_store(width: int, megabytes: int, rounds: int) -> None:
    """The shares of a fit that the first and the second reading of a store take."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        in_process(_made, (folder, width, megabytes))
        cases: dict[str, Any] = {
            "first reading": (first_reading, (folder, False)),
            "second reading": (first_reading, (folder, True)),
        }
        cases |= {head: (fit_store, (folder, head)) for head in HEADS}
        results = compare(cases, rounds)
    goals = {}
    for head in HEADS:
        for name, most in (("first reading", 0.05), ("second reading", 0.01)):
            share = results[name]["seconds"] / results[head]["seconds"]
            goals[f"{name}, share of a fit of {head}"] = (most, share, "max")
    report(f"checksums of {megabytes:,} MB in rows of {width:,} values", results, goals, {})


def _made(folder: Path, width: int, megabytes: int) -> dict[str, Any]:
    start = time.process_time()
    make_store(folder, width, megabytes)
    return {"seconds": time.process_time() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--store", type=int, metavar="MEGABYTES", help="measure a whole store instead of single parts")
    parser.add_argument("--width", type=int, default=2_048, help="values in a row of the store")
    arguments = parser.parse_args()
    if arguments.store:
        measure_store(arguments.width, arguments.store, arguments.rounds)
        return
    cases: dict[str, Any] = {}
    for width in WIDTHS:
        cases[f"{width} values, checksums"] = (check, (width, arguments.megabytes))
        for head in HEADS:
            cases[f"{width} values, {head}"] = (fit, (width, arguments.megabytes, head))
    results = compare(cases, arguments.rounds)
    goals = {}
    for width in WIDTHS:
        for head in HEADS:
            share = results[f"{width} values, checksums"]["seconds"] / results[f"{width} values, {head}"]["seconds"]
            goals[f"{width} values, share of a fit of {head}"] = (0.05, share, "max")
    report("checksums of rows take at most 5 % of a fit", results, goals, {})


if __name__ == "__main__":
    main()
