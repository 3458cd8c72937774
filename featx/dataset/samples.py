"""Images that come with installed packages: handwritten digits of scikit-learn, and Fashion-MNIST of its four files.

Both are written as PNG files in a folder per class. A file that is there already with the same bytes is not touched,
so that its remembered digest stays good. The PNG files are not compressed: their bytes, and with them every digest,
are the same whatever zlib Pillow was built with.
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from featx.errors import DataError
from featx.images.resize import fit
from featx.io.files import TEMPORARY, explain_os_error, make_folder, require_local

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


def write_digits(out: Path) -> int:
    """Write scikit-learn's 1,797 digits of 8 x 8 pixels as `out/<digit>/<number>.png`; return how many there are.

    Their grey levels 0 to 16 become 0 to 255.
    """
    from sklearn.datasets import load_digits  # takes most of a second

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    names = (f"{label}/{number:04d}.png" for number, label in enumerate(digits.target))
    return write_images(out, zip(names, images, strict=True))


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
            raise DataError(f"{labels_file} has {len(labels)} labels for {len(images)} images: get the files again.")
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


def write_images(out: Path, images: Iterable[tuple[str, np.ndarray]]) -> int:
    """Write images uint8 (height, width) as `out/<name>`, each a PNG file; return how many there are."""
    require_local(out)
    count = 0
    folders: set[Path] = set()
    for count, (name, pixels) in enumerate(images, 1):  # noqa: B007 - the last count is the result
        path = out / name
        try:
            if path.parent not in folders:
                make_folder(path.parent)
                folders.add(path.parent)
            _write_unless_same(path, _encode_png(pixels))
        except OSError as error:
            raise explain_os_error(error, path) from error
    return count


def _encode_png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def _write_unless_same(path: Path, content: bytes) -> None:
    # Renamed when whole, but not flushed to the disk one by one as results are: this data can be written again.
    if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
        return
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sample_images(size: tuple[int, int], resize: str) -> np.ndarray:
    """A few images to try a model on: uint8 (26, height, width, 3), RGB.

    Of the two photographs that come with scikit-learn the whole, the quarters and the middle, ten of its digits, and
    four images of noise.
    """
    from sklearn.datasets import load_digits, load_sample_images

    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    crops = [photograph.crop(box) for photograph in photographs for box in _boxes(*photograph.size)]
    noise = np.random.default_rng(0).integers(0, 256, (4, *size, 3), np.uint8)
    digits = [Image.fromarray(np.rint(image * (255 / 16)).astype(np.uint8)) for image in load_digits().images[:10]]
    fitted = [np.asarray(fit(image.convert("RGB"), size, resize)) for image in [*crops, *digits]]
    return np.stack([*fitted, *noise])


def _boxes(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """(left, top, right, bottom) of the whole, of its quarters and of its middle."""
    across, down = width // 2, height // 2
    quarters = [(x, y, x + across, y + down) for y in (0, down) for x in (0, across)]
    return [(0, 0, width, height), *quarters, (width // 4, height // 4, width // 4 + across, height // 4 + down)]
