"""A few images that come with scikit-learn, to try a model on if none are given."""

from __future__ import annotations

import numpy as np
from PIL import Image

from featx.dataset.digits import grey_levels
from featx.images.resize import fit


def sample_images(size: tuple[int, int], resize: str) -> np.ndarray:
    """A few images to try a model on: uint8 (26, height, width, 3), RGB.

    Of the two photographs that come with scikit-learn the whole, the quarters and the middle, ten of its digits, and
    four images of noise.
    """
    from sklearn.datasets import load_digits, load_sample_images

    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    crops = [photograph.crop(box) for photograph in photographs for box in _boxes(*photograph.size)]
    noise = np.random.default_rng(0).integers(0, 256, (4, *size, 3), np.uint8)
    digits = [Image.fromarray(grey_levels(image)) for image in load_digits().images[:10]]
    fitted = [np.asarray(fit(image.convert("RGB"), size, resize)) for image in [*crops, *digits]]
    return np.stack([*fitted, *noise])


def _boxes(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """(left, top, right, bottom) of the whole, of its quarters and of its middle."""
    across, down = width // 2, height // 2
    quarters = [(x, y, x + across, y + down) for y in (0, down) for x in (0, across)]
    return [(0, 0, width, height), *quarters, (width // 4, height // 4, width // 4 + across, height // 4 + down)]
