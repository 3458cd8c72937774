"""The checksums of rows: what comparing a part with them costs beside a fit on its rows.

    python benchmarks/bench_checksums.py [--megabytes 100] [--rounds 3]

Readers compare every row with its CRC-32 the first time; it is remembered that a part was sound. Rows of 256, 1,280 and
32,768 values in float16 are written as a part, read with their checksums, and the heads that are fitted fastest are
fitted on them in memory, with one strength and no search. Processor seconds are compared, since they do not depend on
what else the machine does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import compare, report

WIDTHS = (256, 1_280, 32_768)
HEADS = ("logreg", "ridge")


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
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
