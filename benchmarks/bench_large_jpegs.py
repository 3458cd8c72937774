"""Decoding 3000x2000 JPEG files to 224x224: featx.images against plain Pillow (open, convert, resize).

    python benchmarks/bench_large_jpegs.py [--images 80] [--threads 0] [--rounds 3]

Both sides decode in the same number of threads and resize with the same filter. How far the pixels of the two are
apart is part of the result.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import compare, in_process, report

SIZE = (224, 224)


def write_large(folder: str, count: int, size: tuple[int, int]) -> dict[str, Any]:
    """Write JPEG files as detailed as photographs: a part of one, twice its size, mirrored until the area is full."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(image) for image in load_sample_images().images]
    random = np.random.default_rng(0)
    sizes = []
    for number in range(count):
        photo = photos[number % 2]
        share = random.uniform(0.8, 1.0)
        width, height = int(photo.width * share), int(photo.height * share)
        left, top = int(random.integers(photo.width - width + 1)), int(random.integers(photo.height - height + 1))
        box = (left, top, left + width, top + height)
        part = np.asarray(photo.resize((2 * width, 2 * height), Image.Resampling.BICUBIC, box))
        down, across = max(0, size[1] - part.shape[0]), max(0, size[0] - part.shape[1])
        full = np.pad(part, ((0, down), (0, across), (0, 0)), "symmetric")[: size[1], : size[0]]
        path = Path(folder) / f"{number:04d}.jpg"
        Image.fromarray(full).save(path, quality=90)
        sizes.append(path.stat().st_size)
    return {"megabytes per file": float(np.mean(sizes)) / 1e6}


def _paths(folder: str) -> list[str]:
    return sorted(str(path) for path in Path(folder).glob("*.jpg"))


def featx_way(folder: str, threads: int) -> dict[str, Any]:
    from featx.images import iter_batches

    paths = _paths(folder)
    start = time.perf_counter()
    decoded = sum(len(b.rows) for b in iter_batches(paths, range(len(paths)), SIZE, "stretch", 8, threads))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "images_per_second": decoded / seconds}


def pillow_way(folder: str, threads: int) -> dict[str, Any]:
    from concurrent.futures import ThreadPoolExecutor

    paths = _paths(folder)
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        decoded = sum(1 for _ in pool.map(_plain, paths))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "images_per_second": decoded / seconds}


def _plain(path: str) -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize(SIZE[::-1], Image.Resampling.BILINEAR))


def difference(folder: str, count: int) -> dict[str, Any]:
    """How far featx's pixels are from plain Pillow's, of 255."""
    import numpy as np

    from featx.images import load_image

    apart = [
        np.abs(load_image(path, SIZE, "stretch").astype(np.int16) - _plain(path)) for path in _paths(folder)[:count]
    ]
    return {"mean difference of 255": float(np.mean(apart)), "largest difference of 255": int(np.max(apart))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--width", type=int, default=3000)
    parser.add_argument("--height", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=0, help="Of either side; 0: one per core.")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    threads = arguments.threads or os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as root:
        files = in_process(write_large, (root, arguments.images, (arguments.width, arguments.height)))
        cases = {"featx": (featx_way, (root, threads)), "plain Pillow": (pillow_way, (root, threads))}
        results = compare(cases, arguments.rounds)
        apart = in_process(difference, (root, 8))
    ratio = results["featx"]["images_per_second"] / results["plain Pillow"]["images_per_second"]
    goals = {"featx / plain Pillow, images per second": (3.0, ratio, "min")}
    notes = [f"{threads} threads on either side. Pixels are compared after resizing to 224x224."]
    names = ("mean difference of 255", "largest difference of 255")
    figures = {name: apart[name] for name in names} | {"megabytes per file": files["megabytes per file"]}
    claim = f"Decoding {arguments.images} JPEG files of {arguments.width}x{arguments.height} to 224x224"
    report(claim, results, goals, figures, notes)


if __name__ == "__main__":
    main()
