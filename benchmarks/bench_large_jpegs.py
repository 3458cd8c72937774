"""Decoding JPEG files to 224x224: featx.images against plain Pillow (open, convert, resize) and simplejpeg.

    python benchmarks/bench_large_jpegs.py [--images 80] [--threads 0] [--rounds 3]

All decode in the same number of threads and resize with the same filter. How far the pixels are from those of plain
Pillow is part of the result. simplejpeg, which scales while it decodes as featx does, but in finer steps, is left out
where it is not installed. There are ten times as many of the small files.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import compare, in_process, report

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = (224, 224)
LARGE, SMALL = (3000, 2000), (500, 400)


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
    from featx.images.batches import Decoding, iter_batches

    paths = _paths(folder)
    start = time.perf_counter()
    decoded = sum(len(b.rows) for b in iter_batches(paths, range(len(paths)), Decoding(SIZE, "stretch", 8, threads)))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "images_per_second": decoded / seconds}


def pillow_way(folder: str, threads: int) -> dict[str, Any]:
    return _in_threads(_plain, folder, threads)


def simplejpeg_way(folder: str, threads: int) -> dict[str, Any]:
    return _in_threads(_scaled, folder, threads)


def _in_threads(decode: Callable[[str], Any], folder: str, threads: int) -> dict[str, Any]:
    from concurrent.futures import ThreadPoolExecutor

    paths = _paths(folder)
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        decoded = sum(1 for _ in pool.map(decode, paths))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "images_per_second": decoded / seconds}


def _scaled(path: str) -> Any:
    import numpy as np
    import simplejpeg
    from PIL import Image

    content = Path(path).read_bytes()
    pixels = simplejpeg.decode_jpeg(content, min_height=SIZE[0], min_width=SIZE[1], min_factor=1)
    return np.asarray(Image.fromarray(pixels).resize(SIZE[::-1], Image.Resampling.BILINEAR))


def _plain(path: str) -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize(SIZE[::-1], Image.Resampling.BILINEAR))


def difference(folder: str, count: int, with_simplejpeg: bool) -> dict[str, Any]:
    """How far the pixels of featx and of simplejpeg are from plain Pillow's, of 255."""
    import numpy as np

    from featx.images.decoder import load_image

    ways: dict[str, Callable[[str], Any]] = {"featx": lambda path: load_image(path, SIZE, "stretch")}
    if with_simplejpeg:
        ways["simplejpeg"] = _scaled
    found = {}
    for name, decode in ways.items():
        apart = [np.abs(decode(path).astype(np.int16) - _plain(path)) for path in _paths(folder)[:count]]
        found[f"{name}: mean difference of 255"] = float(np.mean(apart))
        found[f"{name}: largest difference of 255"] = int(np.max(apart))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--threads", type=int, default=0, help="Of every side; 0: one per core.")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    threads = arguments.threads or os.cpu_count() or 1
    with_simplejpeg = importlib.util.find_spec("simplejpeg") is not None
    ways: dict[str, Callable[..., dict[str, Any]]] = {"featx": featx_way, "plain Pillow": pillow_way}
    if with_simplejpeg:
        ways["simplejpeg"] = simplejpeg_way
    counts = {LARGE: arguments.images, SMALL: 10 * arguments.images}
    cases: dict[str, Any] = {}
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as root:
        for size, count in counts.items():
            folder = f"{root}/{_name(size)}"
            Path(folder).mkdir()
            files = in_process(write_large, (folder, count, size))
            apart = in_process(difference, (folder, 8, with_simplejpeg))
            apart = {name: value for name, value in apart.items() if "difference" in name}
            found = {"megabytes per file": files["megabytes per file"], **apart}
            figures |= {f"{_name(size)}, {name}": value for name, value in found.items()}
            cases |= {f"{_name(size)}, {name}": (way, (folder, threads)) for name, way in ways.items()}
        results = compare(cases, arguments.rounds)
    rates = {name: one["images_per_second"] for name, one in results.items()}
    if with_simplejpeg:
        for size in counts:
            ratio = rates[f"{_name(size)}, featx"] / rates[f"{_name(size)}, simplejpeg"]
            figures[f"{_name(size)}, featx / simplejpeg, images per second"] = ratio
    large = rates[f"{_name(LARGE)}, featx"] / rates[f"{_name(LARGE)}, plain Pillow"]
    goals = {f"{_name(LARGE)}, featx / plain Pillow, images per second": (3.0, large, "min")}
    notes = [f"{threads} threads on every side. Pixels are compared after resizing to 224x224."]
    report("Decoding JPEG files to 224x224", results, goals, figures, notes)


def _name(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


if __name__ == "__main__":
    main()
