"""Fashion-MNIST from its four published files, as PNG files in a folder per part and class."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from featx.dataset.png_files import write_images
from featx.errors import DataError
from featx.io.counting import counted

# As published with the data set (https://github.com/zalandoresearch/fashion-mnist), "/" replaced for file systems.
FASHION_CLASSES = (
    "T-shirt_top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_FASHION_PARTS = {"train": "train", "test": "t10k"}
_IMAGES_MAGIC, _LABELS_MAGIC = 2051, 2049  # uint8 with three axes, with one


def write_fashion_mnist(source: Path, out: Path) -> int:
    """Write Fashion-MNIST as `out/train/<class>/<number>.png` and `out/test/...`; return how many images there are.

    Parameters
    ----------
    source : folder of the four published files, such as `train-images-idx3-ubyte.gz`, compressed or not (Debian's
        package dataset-fashion-mnist puts them in /usr/share/datasets/fashion-mnist)
    out : folder to write to

    Raises
    ------
    DataError
        When a file is missing, cut short, or not what its name says.
    """
    parts = read_fashion_mnist(source)
    written = 0
    for split, (images, labels) in parts.items():
        names = (f"{split}/{FASHION_CLASSES[label]}/{number:05d}.png" for number, label in enumerate(labels, 1))
        written += write_images(out, zip(names, images, strict=True))
    return written


def read_fashion_mnist(source: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images uint8 (n, 28, 28) and labels uint8 (n,), positions in `FASHION_CLASSES`, of "train" and "test".

    Raises
    ------
    DataError
        When a file is missing, cut short, or not what its name says.
    """
    parts = {}
    for split, prefix in _FASHION_PARTS.items():
        images = _read_idx(_find(source, f"{prefix}-images-idx3-ubyte"), _IMAGES_MAGIC)
        labels_file = _find(source, f"{prefix}-labels-idx1-ubyte")
        labels = _read_idx(labels_file, _LABELS_MAGIC)
        if len(images) != len(labels):
            raise DataError(
                f"{labels_file} has {counted(len(labels), 'label')} for {counted(len(images), 'image')}: get the files "
                "again."
            )
        if len(labels) and labels.max() >= len(FASHION_CLASSES):
            raise DataError(f"{labels_file} has the label {labels.max()}; Fashion-MNIST has 0 to 9.")
        parts[split] = (images, labels)
    return parts


def _find(source: Path, name: str) -> Path:
    for candidate in (source / name, source / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise DataError(
        f"No {name} or {name}.gz in {source}. Fashion-MNIST is four files, for images and labels of train and t10k: "
        "Debian's package dataset-fashion-mnist has them, and so has https://github.com/zalandoresearch/fashion-mnist."
    )


def _read_idx(path: Path, magic: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes: a magic number, the length of every axis (big-endian), the values."""
    content = _read(path)
    axes = magic & 0xFF
    header = 4 * (1 + axes)
    if len(content) < header:
        raise DataError(f"{path} has {len(content)} bytes, too few for an IDX file: get it again.")
    found, *shape = struct.unpack(f">{1 + axes}I", content[:header])
    if found != magic:
        raise DataError(f"{path} begins with the number {found}, not {magic}: it is not the file its name says.")
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise DataError(f"{path} has {len(content)} bytes where its header says {expected}: get it again.")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}): get it again.") from error
