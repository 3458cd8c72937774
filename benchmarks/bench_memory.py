"""Fitting on more features than the memory allowed: peak memory, accuracy and speed against fitting in memory.

    python benchmarks/bench_memory.py [--gigabytes 4] [--memory 1GB] [--heads logreg svm ridge dense] [--rounds 1]

The features are float16 rows in parts as `featx extract` writes them. Every head is fitted at one strength, compared on
a val part; dense for a fixed number of epochs. A pass is one reading of as many rows as there are: it is counted where
features hand out their blocks, and by the epochs of dense.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import compare, in_process, report

CLASSES = 10
EPOCHS = 3  # of dense
SPREAD = 3.4  # of a class about its centre, for an accuracy of about 0.9
GOAL_PEAK_GB, GOAL_POINTS, GOAL_SPEED = 1.5, 0.5, 1 / 3
_ATTRIBUTES = {"key": "made up", "layer": "layer", "pooling": "avg"}


def write_store(folder: str, rows: int, width: int) -> dict[str, Any]:
    """Write the parts of a table, and beside them the digests, the labels and the split of its rows."""
    import hashlib

    import numpy as np

    from featx.store.table import FeatureTable
    from featx.store.writer import TableWriter

    random = np.random.default_rng(0)
    hidden = 128
    decay = np.arange(1, hidden + 1) ** -0.5
    centres = random.standard_normal((CLASSES, hidden))
    mix = (random.standard_normal((hidden, width)) * decay[:, None]).astype(np.float32)
    y = random.integers(0, CLASSES, rows)
    digest = np.array([hashlib.sha256(number.to_bytes(8, "big")).digest() for number in range(rows)], "V32")
    table = FeatureTable(Path(folder) / "table", _ATTRIBUTES)
    with TableWriter({"table": table}, "float16", "none") as writer:
        for start in range(0, rows, 4096):
            some = slice(start, min(start + 4096, rows))
            inner = centres[y[some]] + SPREAD * random.standard_normal((some.stop - start, hidden))
            x = np.maximum(inner.astype(np.float32) @ mix - 0.5, 0)
            writer.add("table", digest[some], [f"{number:08d}.png" for number in range(start, some.stop)], x)
    split = random.choice(3, rows, p=[0.8, 0.1, 0.1]).astype(np.uint8)
    names = np.ascontiguousarray(digest).view(np.uint8).reshape(-1, 32)
    np.savez(Path(folder) / "rows.npz", digest=names, y=y, split=split)
    return {"megabytes": sum(path.stat().st_size for path in Path(folder, "table").iterdir()) / 1e6}


def fit(folder: str, clf: str, memory: str) -> dict[str, Any]:
    """Fit one head with the option `memory`, or without one where it is empty."""
    import numpy as np

    from featx.config import HeadOptions
    from featx.selection.heads import choose_head
    from featx.selection.problem import Problem
    from featx.selection.settings import SearchSettings
    from featx.store.table import FeatureTable

    with np.load(Path(folder) / "rows.npz") as held:
        digest, y, split = held["digest"].view("V32").ravel(), held["y"], held["split"]
    features = FeatureTable(Path(folder) / "table", _ATTRIBUTES).read(digest)
    options: dict[str, Any] = {"clf": clf, "search": "val"}
    options |= {"epochs": EPOCHS, "patience": EPOCHS} if clf == "dense" else {"strength": _strength(clf)}
    if memory:
        options["memory"] = memory
    handed_out = _count_rows()
    names = tuple(map(str, range(CLASSES)))
    start = time.perf_counter()
    choice = choose_head(Problem(features, y, split, names), SearchSettings(HeadOptions(**options)))
    seconds = time.perf_counter() - start
    passes = EPOCHS if clf == "dense" else handed_out[0] / len(y)
    test = np.flatnonzero(split == 2)
    accuracy = float((choice.head.logits(features.take(test)).argmax(axis=1) == y[test]).mean())
    return {"seconds": seconds, "passes": passes, "seconds_per_pass": seconds / passes, "accuracy": accuracy}


def _strength(clf: str) -> float:
    from featx.heads.table import head_kind

    return head_kind(clf).default


def _count_rows() -> list[int]:
    """Count from now on the rows that features in memory and in the store hand out in blocks."""
    from featx.features import ArrayFeatures
    from featx.store.stored import StoredFeatures

    count = [0]

    def counting(blocks: Any) -> Any:
        def counted(self: Any, rows: int = 0) -> Any:
            for block in blocks(self, rows):
                count[0] += len(block)
                yield block

        return counted

    kinds: tuple[Any, ...] = (ArrayFeatures, StoredFeatures)
    for kind in kinds:
        kind.blocks = counting(kind.blocks)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=4.0, help="Of float16 features.")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--memory", default="1GB")
    heads = ("logreg", "svm", "ridge", "dense")
    parser.add_argument("--heads", nargs="+", choices=heads, default=list(heads))
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    rows = int(arguments.gigabytes * 1e9 / 2 / arguments.width)
    with tempfile.TemporaryDirectory() as root:
        in_process(write_store, (root, rows, arguments.width))
        cases: dict[str, Any] = {}
        for clf in arguments.heads:
            cases[f"{clf}, in memory"] = (fit, (root, clf, ""))
            cases[f"{clf}, {arguments.memory}"] = (fit, (root, clf, arguments.memory))
        results = compare(cases, arguments.rounds)
    goals = {}
    for clf in arguments.heads:
        limited, free = results[f"{clf}, {arguments.memory}"], results[f"{clf}, in memory"]
        goals[f"{clf}: peak memory, GB"] = (GOAL_PEAK_GB, limited["peak_mb"] / 1000, "max")
        lost = 100 * (free["accuracy"] - limited["accuracy"])
        goals[f"{clf}: accuracy lost against in memory, points"] = (GOAL_POINTS, lost, "max")
        speed = free["seconds_per_pass"] / limited["seconds_per_pass"]
        goals[f"{clf}: speed per pass, of that in memory"] = (GOAL_SPEED, speed, "min")
    notes = [
        f"{rows:,} rows of {arguments.width:,} float16 features in {CLASSES} classes.",
        "Peak memory counts the pages of mapped files that are in memory, and the libraries that are loaded.",
    ]
    report(
        f"Heads fitted on {arguments.gigabytes:g} GB of features in a memory of {arguments.memory}",
        results,
        goals,
        notes=notes,
    )


if __name__ == "__main__":
    main()
