"""Many rows: time and peak memory of what is done with a cache, at 20,000, 200,000 and 2,000,000 images.

    python benchmarks/bench_rows.py [--rows 20000 200000 2000000] [--only STEP ...] [--folder DIR]

The largest takes 15 GB of disk and some 20 minutes. Nothing that is measured knows how the rows were made:

- The images are files, PPM of 2 x 2 pixels, each with a content of its own, in ten class folders of many folders.
- Their SHA-256 digests are in the index of the cache, as a first run leaves them there; here the benchmark writes them.
- The rows (1,280 float16 values) are put into the store of EfficientNetLite0 by the writer of `featx extract`. They are
  made up: points about ten centres. The network sees only one photograph, which makes the store, and the query.

Every step is a process of its own, run once, in an order that leaves the cache as it was; `prune` comes last and finds
twice the number of rows, of which it drops one half.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness import featx_command, in_process, report, rows_arguments, run_command, write_photos

CLASSES, HIDDEN, FOLDER, SPREAD = 10, 64, 1000, 3.4
GOAL_PEAK_GB, GOAL_LISTING, GOAL_GROWTH = 1.5, 5.0, 1.0
CLAIM = "What is done with a cache of many rows"
LONG_AGO = 1_700_000_000  # a file that changed two seconds ago is not remembered
BLOCKS = """
import featx
rows = total = 0
for some in featx.iter_features("photos"):
    rows += len(some.X)
    total += float(some.X[:, 0].sum())
print(rows, total)
"""
STEPS: dict[str, list[str]] = {
    "first look: nothing to extract, every part compared with its checksums": featx_command("extract", "photos"),
    "nothing to extract": featx_command("extract", "photos"),
    "cache ls": featx_command("cache", "ls"),
    "cache verify": featx_command("cache", "verify"),
    "iter_features": [sys.executable, "-c", BLOCKS],
    "similar": featx_command("similar", "query/class0/00000.jpg", "--data", "photos"),
    "fit-head logreg, --memory 1GB": featx_command(
        *("fit-head", "photos", "--clf", "logreg", "--strength", "0.01", "--memory", "1GB", "--no-html")
    ),
    "cache prune": featx_command("cache", "prune"),
}


def write_images(root: str, rows: int) -> dict[str, Any]:
    """The files and the index, and one true extraction, which makes the store."""
    from featx.store.cache import Cache

    home = Path(root)
    write_photos(home / "query", 1, (500, 400))
    write_photos(home / "one", 1, (500, 400), seed=1)
    run_command(featx_command("extract", "one"), root)
    with Cache(home / "cache") as cache:
        for start in range(0, rows, FOLDER):
            folder = home / "photos" / f"class{start // FOLDER % CLASSES}" / f"{start // FOLDER:05d}"
            folder.mkdir(parents=True)
            made = []
            for number in range(start, min(start + FOLDER, rows)):
                path, content = folder / f"{number:08d}.ppm", image(number)
                path.write_bytes(content)
                os.utime(path, (LONG_AGO, LONG_AGO))
                made.append((str(path), path.stat(), hashlib.sha256(content).digest()))
            cache.index.remember_digests(made)
    return {}


def image(number: int) -> bytes:
    """A PPM file of 2 x 2 pixels, no two alike."""
    return b"P6 2 2 255\n" + number.to_bytes(8, "big") + b"some"


def write_rows(root: str, first: int, rows: int) -> dict[str, Any]:
    """The rows of the images from `first` on, written as `featx extract` writes them."""
    import numpy as np

    from featx.store.cache import Cache
    from featx.store.writer import TableWriter

    home, random = Path(root), np.random.default_rng(0)
    decay = np.arange(1, HIDDEN + 1, dtype=np.float32) ** -0.5
    centres = random.standard_normal((CLASSES, HIDDEN), np.float32)
    with Cache(home / "cache") as cache:
        (store,) = cache.stores()
        (name,) = store.tables()
        table = store.folder(*name.rsplit("@", 1))
        mix = random.standard_normal((HIDDEN, 1280), np.float32) * decay[:, None]
        with TableWriter({name: table}, "float16", "none") as writer:
            for start in range(first, rows, FOLDER):
                numbers = range(start, min(start + FOLDER, rows))
                code = start // FOLDER % CLASSES
                inner = centres[code] + SPREAD * random.standard_normal((len(numbers), HIDDEN), np.float32)
                digest = np.array([hashlib.sha256(image(number)).digest() for number in numbers], "V32")
                paths = [f"{home}/photos/class{code}/{start // FOLDER:05d}/{number:08d}.ppm" for number in numbers]
                writer.add(name, digest, paths, np.maximum(inner @ mix - 0.5, 0))
    return {"gb": sum(path.stat().st_size for path in table.directory.iterdir()) / 1e9}


def step(command: list[str], root: str) -> dict[str, Any]:
    done = run_command(command, root)
    print(done["stdout"][-300:], file=sys.stderr)
    return {"seconds": done["seconds"]}


def measure(root: str, rows: int, only: list[str] | None) -> dict[str, dict[str, Any]]:
    """Every step at one size."""
    in_process(write_images, (root, rows))
    written = in_process(write_rows, (root, 0, rows))
    found = {f"{rows:,} rows: writing them": written}
    for name, command in STEPS.items():
        if only and name.split(":")[0] not in only and name not in only:
            continue
        if name == "cache prune":
            in_process(write_rows, (root, 0, rows))
        found[f"{rows:,} rows: {name}"] = in_process(step, (command, root))
        print(f"{rows:,} rows: {name}: {json.dumps(found[f'{rows:,} rows: {name}'])}", file=sys.stderr, flush=True)
    return found


def grown(results: dict[str, dict[str, Any]], name: str, fewer: int, more: int) -> float:
    """By what the CPU seconds of a step grew, as a part of what the rows grew by; 1: they are proportional."""
    before, after = (results[f"{rows:,} rows: {name}"]["cpu_seconds"] for rows in (fewer, more))
    return float(after / before / (more / fewer))


def goals_of(results: dict[str, dict[str, Any]], sizes: list[int]) -> dict[str, tuple[float, float, str]]:
    """The highest peak and the listing at the largest size, and the steepest growth over every step of size."""
    most = max(sizes)
    done = [name for name in STEPS if f"{most:,} rows: {name}" in results]
    highest = max(done, key=lambda name: results[f"{most:,} rows: {name}"]["peak_mb"])
    peak = results[f"{most:,} rows: {highest}"]["peak_mb"] / 1000
    goals = {f"{most:,} rows: highest peak of memory ({highest}), GB": (GOAL_PEAK_GB, peak, "max")}
    for fewer, more in pairwise(sizes):
        growth = {name: grown(results, name, fewer, more) for name in done}
        steepest = max(done, key=lambda name: growth[name])
        text = f"steepest growth of CPU seconds ({steepest}) from {fewer:,} to {more:,} rows, of that of the rows"
        goals[text] = (GOAL_GROWTH, growth[steepest], "max")
    if "cache ls" in done:
        seconds = results[f"{most:,} rows: cache ls"]["seconds"]
        goals[f"{most:,} rows: cache ls, seconds"] = (GOAL_LISTING, seconds, "max")
    return goals


def figures_of(results: dict[str, dict[str, Any]], sizes: list[int]) -> dict[str, float]:
    """The growth of every step of the benchmark over every step of size."""
    done = [name for name in STEPS if f"{max(sizes):,} rows: {name}" in results]
    return {
        f"{name}: CPU seconds from {fewer:,} to {more:,} rows, of the growth of the rows": grown(
            results, name, fewer, more
        )
        for name in done
        for fewer, more in pairwise(sizes)
    }


def main() -> None:
    arguments = rows_arguments(__doc__, [20_000, 200_000, 2_000_000], list(STEPS))
    results: dict[str, dict[str, Any]] = {}
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as root:
            results |= measure(root, rows, arguments.only)
    sizes = sorted(arguments.rows)
    report(CLAIM, results, goals_of(results, sizes), figures_of(results, sizes))


if __name__ == "__main__":
    main()
