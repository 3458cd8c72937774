"""Decoding JPEG files to the size of a network: what other ways would gain, in CPU time, and what they alter.

    python benchmarks/bench_decode.py [--sizes 500x400 3000x2000 6000x4000] [--side 224] [--rounds 3]

featx has libjpeg give the smallest of 1/1, 1/2, 1/4 and 1/8 that is no smaller than what is wanted (Pillow's `draft`),
and Pillow's bilinear filter do the rest. Beside it: the whole picture, filtered or reduced by whole numbers first;
scaling to the nearest eighth by simplejpeg, where that is installed; and a box filter in place of the bilinear one.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import report, write_photos
from PIL import Image

COUNTS = {"500x400": 100, "3000x2000": 12, "6000x4000": 4}
Way = Callable[[Path, int], np.ndarray]


def featx(path: Path, side: int) -> np.ndarray:
    from featx.images.decoder import load_image

    return load_image(str(path), (side, side), "stretch")


def whole(path: Path, side: int) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))


def reduced(path: Path, side: int) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR, reducing_gap=1.0))


def drafted_box(path: Path, side: int) -> np.ndarray:
    with Image.open(path) as image:
        image.draft("RGB", (side, side))
        return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def eighths(path: Path, side: int) -> np.ndarray:
    import simplejpeg

    data = path.read_bytes()
    pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=side, min_width=side, fastdct=True)
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR))


WAYS: dict[str, Way] = {
    "featx": featx,
    "whole picture, bilinear": whole,
    "whole picture, reduced first": reduced,
    "draft, box filter": drafted_box,
    "nearest eighth by simplejpeg, bilinear": eighths,
}


def measure(paths: list[Path], side: int, rounds: int) -> dict[str, dict[str, Any]]:
    """CPU milliseconds of an image by each way, in turn on one thread, and how far its pixels are from the whole's."""
    ways = {name: way for name, way in WAYS.items() if way is not eighths or importlib.util.find_spec("simplejpeg")}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            for path in paths:
                way(path, side)
            if turn:  # the first imports
                taken[name].append((time.process_time() - start) / len(paths))
    exact = [whole(path, side).astype(float) for path in paths]
    return {
        name: {
            "CPU ms per image": 1e3 * float(np.median(taken[name])),
            "mean difference to the whole picture, of 255": float(
                np.mean([np.abs(way(path, side) - one).mean() for path, one in zip(paths, exact, strict=True)])
            ),
        }
        for name, way in ways.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(COUNTS))
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as root:
        for size in arguments.sizes:
            width, height = map(int, size.split("x"))
            write_photos(Path(root) / size, COUNTS.get(size, 20), (width, height))
            found = measure(sorted(Path(root, size).rglob("*.jpg")), arguments.side, arguments.rounds)
            results |= {f"{size}: {name}": one for name, one in found.items()}
            ours = found["featx"]["CPU ms per image"]
            figures |= {
                f"{size}: featx / {name}, CPU time": ours / one["CPU ms per image"]
                for name, one in found.items()
                if name != "featx"
            }
    report(f"Decoding JPEG files to {arguments.side} pixels, one thread", results, {}, figures)


if __name__ == "__main__":
    main()
