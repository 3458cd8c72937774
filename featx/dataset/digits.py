"""Handwritten digits that come with scikit-learn, as PNG files in a folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featx.dataset.png_files import write_images


def write_digits(out: Path) -> int:
    """Write scikit-learn's 1,797 digits of 8 x 8 pixels as `out/<digit>/<number>.png`; return how many there are.

    Their grey levels 0 to 16 become 0 to 255.
    """
    from sklearn.datasets import load_digits  # takes most of a second

    digits = load_digits()
    images = grey_levels(digits.images)
    names = (f"{label}/{number:04d}.png" for number, label in enumerate(digits.target))
    return write_images(out, zip(names, images, strict=True))


def grey_levels(digits: np.ndarray) -> np.ndarray:
    """uint8 of scikit-learn's digits, whose levels are 0 to 16."""
    return np.rint(digits * (255 / 16)).astype(np.uint8)
