"""What comes after the first model, at 10,000, 100,000 and 2,000,000 images: time and peak memory of every command.

    python benchmarks/bench_active.py [--rows 10000 100000 2000000] [--only STEP ...] [--folder DIR]

The largest takes 3 GB of disk. The images are links to PPM files of 2 x 2 pixels, in ten class folders of many folders;
each has a SHA-256 digest of its own in the index of the cache, as a first run leaves it there, and a row of 112 float16
values in the store of EfficientNetLite0 (`block5c_add`), written by the writer of `featx extract`. The rows are made
up: points about ten centres. The model is a logistic regression of 10,000 other such images.

Every step is a process of its own, run once. Of `label` two times are taken from its start on: to the first picture,
and until its model has suggested a class for every image.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from harness import featx_command, in_process, report, rows_arguments, run_command, write_photos

CLASSES, HIDDEN, WIDTH, FOLDER, SPREAD, LINKS = 10, 48, 112, 1000, 1.7, 60_000
KNOWN = 10_000  # images that the model is fitted on
GOAL_PEAK_GB = 1.5
LONG_AGO = 1_700_000_000  # a file that changed two seconds ago is not remembered
LAYER = ("--layer", "block5c_add")
MODEL = ("--model", "runs/known")
CACHED = ("--cache", "cache")
HEAD = ("--clf", "logreg", "--strength", "0.01", "--no-html")
STEPS: dict[str, tuple[str, ...]] = {
    "next, from nothing": ("next", "photos", *LAYER),
    "next, with a model": ("next", "photos", *MODEL),
    "enough": ("enough", "photos", *LAYER),
    "map": ("map", "photos", *LAYER),
    "map, with a model": ("map", "photos", *MODEL),
    "drift": ("drift", "photos", *MODEL),
    "predict --coverage 0.9": ("predict", "photos", *MODEL, *CACHED, "--coverage", "0.9", "--out", "answers.csv"),
    "label": ("label", "photos", *MODEL),
}


def write_one(root: str) -> dict[str, Any]:
    """One image, and the store that its extraction makes."""
    write_photos(Path(root, "one"), 1, (500, 400))
    run_command(featx_command("extract", "one", *LAYER), root)
    return {}


def write_images(root: str, name: str, first: int, rows: int) -> dict[str, Any]:
    """The links and the index; numbers begin with `first`."""
    from featx.store.cache import Cache

    home = Path(root)
    with Cache(home / "cache") as cache:
        for start in range(first, first + rows, FOLDER):
            source = home / f"{name}-{start // LINKS}.ppm"
            if not source.exists():
                source.write_bytes(b"P6 2 2 255\n" + b"a few pixels")
                os.utime(source, (LONG_AGO, LONG_AGO))
            folder = home / name / f"class{start // FOLDER % CLASSES}" / f"{start // FOLDER:05d}"
            folder.mkdir(parents=True)
            paths = [folder / f"{number:08d}.ppm" for number in range(start, min(start + FOLDER, first + rows))]
            for path in paths:
                os.link(source, path)
            digests = map(digest_of, range(start, start + len(paths)))
            cache.index.remember_digests(
                (str(path), path.stat(), one) for path, one in zip(paths, digests, strict=True)
            )
    return {}


def digest_of(number: int) -> bytes:
    """A digest of its own."""
    return hashlib.sha256(number.to_bytes(8, "big")).digest()


def write_rows(root: str, first: int, rows: int) -> dict[str, Any]:
    """The rows of the images from `first` on, written as `featx extract` writes them."""
    import numpy as np

    from featx.store.cache import Cache
    from featx.store.writer import TableWriter

    random = np.random.default_rng(first)
    shared = np.random.default_rng(0)
    centres = shared.standard_normal((CLASSES, HIDDEN), np.float32)
    mix = shared.standard_normal((HIDDEN, WIDTH), np.float32)
    mix *= np.arange(1, HIDDEN + 1, dtype=np.float32)[:, None] ** -0.5
    with Cache(Path(root) / "cache") as cache:
        (store,) = cache.stores()
        (name,) = store.tables()
        table = store.folder(*name.rsplit("@", 1))
        with TableWriter({name: table}, "float16", "none") as writer:
            for start in range(first, first + rows, FOLDER):
                numbers = range(start, min(start + FOLDER, first + rows))
                noise = random.standard_normal((len(numbers), HIDDEN), np.float32)
                inner = centres[start // FOLDER % CLASSES] + SPREAD * noise
                digest = np.array([digest_of(number) for number in numbers], "V32")
                writer.add(name, digest, [f"{number:08d}.ppm" for number in numbers], np.maximum(inner @ mix - 0.5, 0))
    return {"gb": sum(path.stat().st_size for path in table.directory.iterdir()) / 1e9}


def step(command: list[str], root: str) -> dict[str, Any]:
    """A command to its end."""
    return {"seconds": run_command(command, root)["seconds"]}


def label(command: list[str], root: str) -> dict[str, Any]:
    """The page that labels: its first picture, its suggestions, ten answers, and its end."""
    start, said = time.perf_counter(), ""
    process = subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        said += line
        if found := re.search(r"Label at (\S+)", line):
            break
    else:
        raise RuntimeError(said)
    address = found[1]
    image = post(f"{address}next", {"tab": "a", "wanted": {"show": "given"}})["image"]
    urllib.request.urlopen(f"{address}image/{image['number']}").read()
    first = time.perf_counter() - start
    while json.load(urllib.request.urlopen(f"{address}state"))["round"]["running"]:
        time.sleep(0.2)
    suggested = time.perf_counter() - start
    began = time.perf_counter()
    for _ in range(10):
        body = {"tab": "a", "number": image["number"], "labels": image["given"], "wanted": {"show": "given"}}
        image = post(f"{address}answer", body)["image"]
    answer = (time.perf_counter() - began) / 10
    process.terminate()
    process.communicate()
    return {"seconds": first, "seconds_to_suggestions": suggested, "seconds_of_an_answer": answer}


def post(url: str, body: dict[str, Any]) -> Any:
    """The answer to a JSON body."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def measure(root: str, rows: int, only: list[str] | None) -> dict[str, dict[str, Any]]:
    """Every step at one size."""
    in_process(write_one, (root,))
    found = {}
    for name, first, count in (("known", 0, KNOWN), ("photos", 60 * LINKS, rows)):
        in_process(write_images, (root, name, first, count))
        found[f"{rows:,} rows: writing {name}"] = in_process(write_rows, (root, first, count))
    run_command(featx_command("fit-head", "known", *LAYER, *HEAD), root)
    for name, command in STEPS.items():
        if only and name not in only:
            continue
        case = label if name == "label" else step
        one = found[f"{rows:,} rows: {name}"] = in_process(case, (featx_command(*command), root))
        print(f"{rows:,} rows: {name}: {json.dumps(one)}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Parse, measure, print one JSON object."""
    arguments = rows_arguments(__doc__, [10_000, 100_000, 2_000_000], list(STEPS))
    results: dict[str, dict[str, Any]] = {}
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as root:
            results |= measure(root, rows, arguments.only)
    largest = f"{max(arguments.rows):,} rows"
    peaks = {name: one["peak_mb"] / 1000 for name, one in results.items() if name.startswith(f"{largest}: ")}
    highest = max((name for name in peaks if "writing" not in name), key=peaks.__getitem__)
    goals: dict[str, tuple[float, float, str]] = {
        f"highest peak of memory ({highest}), GB": (GOAL_PEAK_GB, peaks[highest], "max")
    }
    report("What comes after the first model, of many images", results, goals)


if __name__ == "__main__":
    main()
