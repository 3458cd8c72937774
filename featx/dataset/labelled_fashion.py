"""Fashion-MNIST with several labels per image: the type and use of a garment, and images of two garments.

It shows, and its test proves, what featx does with several labels on images that anyone has. The labels are made of the
ten classes, so that they are as right as those.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from featx.dataset.fashion_mnist import FASHION_CLASSES, read_fashion_mnist
from featx.dataset.png_files import write_images
from featx.errors import DataError
from featx.io.counting import counted
from featx.io.files import write_atomic

SEPARATOR = "$"
INDEX = "index.csv"
# What else is true of every garment of a class; dresses are with and without sleeves, so nothing is said of these.
ALSO_TRUE: dict[str, tuple[str, ...]] = {
    "T-shirt_top": ("upper body", "sleeves"),
    "Trouser": ("lower body",),
    "Pullover": ("upper body", "sleeves"),
    "Dress": ("upper body", "lower body"),
    "Coat": ("upper body", "sleeves"),
    "Sandal": ("footwear",),
    "Shirt": ("upper body", "sleeves"),
    "Sneaker": ("footwear",),
    "Bag": ("accessory",),
    "Ankle boot": ("footwear",),
}
_TEST = 5  # every fifth image is of the official test images
_PAIR = 3  # every third image shows two garments


def write_labelled_fashion(source: Path, out: Path, count: int = 3000, seed: int = 0) -> int:
    """Write `count` images as `out/<part>/<numbers>.png`, and their labels as `out/index.csv`; return how many.

    Every third image shows two garments side by side on a square of twice the side, and has the labels of both. No
    garment is in two images. A fifth are made of the official test images; they are the part `test`. `index.csv` has
    the columns path, label (several, separated by "$") and split.

    Parameters
    ----------
    source : folder of Fashion-MNIST's four IDX files
    out : folder to write to
    count : images, at least 5
    seed : of which garments are taken

    Raises
    ------
    DataError
        When a source file is wrong, or there are too few garments for so many images.
    """
    parts = read_fashion_mnist(source)
    rows = [("path", "label", "split")]
    written = 0
    for part, wanted in (("train", count - count // _TEST), ("test", count // _TEST)):
        images, labels = parts[part]
        garments = _draw_garments(part, len(labels), wanted, seed)
        names = [f"{part}/" + "-".join(f"{garment + 1:05d}" for garment in some) + ".png" for some in garments]
        written += write_images(out, zip(names, (_compose(images[some]) for some in garments), strict=True))
        rows += [
            (name, SEPARATOR.join(label_names(labels[some])), part) for name, some in zip(names, garments, strict=True)
        ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomic(out / INDEX, text.getvalue())
    return written


def _draw_garments(part: str, there: int, count: int, seed: int) -> list[np.ndarray]:
    """Which garments each image shows: one, or in every third image two; none is shown twice."""
    pairs = count // _PAIR
    if count + pairs > there:
        raise DataError(
            f"{counted(count, 'image')} of the part {part!r} would show {count + pairs:,} garments, and there are "
            f"{there:,}. Ask for fewer with --images."
        )
    order = np.random.default_rng((seed, part == "test")).permutation(there)
    two, one = order[: 2 * pairs].reshape(-1, 2), order[2 * pairs : count + pairs].reshape(-1, 1)
    return [*one, *two]


def label_names(codes: np.ndarray) -> list[str]:
    """The labels of an image that shows garments of these classes, each once, the classes first."""
    classes = [FASHION_CLASSES[code] for code in np.unique(codes)]
    return list(dict.fromkeys([*classes, *(label for name in classes for label in ALSO_TRUE[name])]))


def _compose(garments: np.ndarray) -> np.ndarray:
    """One image of garments uint8 (m, side, side): side by side, in the middle of a black square."""
    if len(garments) == 1:
        return np.asarray(garments[0])
    m, side, _ = garments.shape
    square = np.zeros((m * side, m * side), np.uint8)
    top = (m - 1) * side // 2
    square[top : top + side] = np.concatenate(list(garments), axis=1)
    return square
