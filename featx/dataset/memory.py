"""Images in memory as an `ImageSet`.

An image in memory is taken for a file: the binary PPM file of its RGB pixels (a header with width and height, then the
bytes). That file is what is hashed, decoded and resized, by the same code as any other, and never written. So an array
and a file have one identity exactly when the file is that PPM file, and the same picture in another format is another
image, as it is among files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from featx.dataset.imageset import ImageSet
from featx.errors import DataError
from featx.images.fault import BadImage
from featx.images.upright import upright_rgb

_NAMED = 5  # columns of a table that an error names


def several(images: Any) -> Sequence[Any] | np.ndarray:
    """What was given as images, files or others, as something with a length whose items are one image each.

    images : a list, a tuple, a one-dimensional array, a column of pandas (also as a table of that one column); an array
        (n, height, width, channels), which is given back as it is

    Raises
    ------
    DataError
        One image, or what cannot be gone through.
    """
    shape: tuple[int, ...] = getattr(images, "shape", ())
    if len(shape) == 2 and shape[1] == 1:
        return list(np.asarray(images)[:, 0])
    if len(shape) == 2 and hasattr(images, "columns"):  # going through it would give the names of its columns
        columns = ", ".join(map(repr, list(images.columns)[:_NAMED]))
        raise DataError(f"Images are one column of a table, like table['path']; this one has {columns}.")
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return images
    one = isinstance(images, str | bytes | Path | Image.Image | np.ndarray) and len(shape) != 1
    if one or not isinstance(images, Iterable):
        kind = f"an array {shape}" if isinstance(images, np.ndarray) else f"one {type(images).__name__}"
        raise DataError(
            f"Images are a list, or an array uint8 (n, height, width, 3); got {kind}. Put a single image in a list."
        )
    return list(images)


def images_in_memory(images: Sequence[Any] | np.ndarray) -> ImageSet:
    """Images without labels, called "image 1", "image 2" and so on.

    images : as `several` gives them: an array uint8 (n, height, width, 3), RGB, or a sequence of arrays uint8 (height,
        width), (height, width, 1), (height, width, 3) or (height, width, 4) of any sizes and of Pillow's images. They
        are read when they are needed, and must not change until then.

    Raises
    ------
    DataError
        None, or an array of another type or shape; later, when it is read: an image that RGB cannot be made of.
    """
    if not len(images):
        raise DataError("No images given. Give at least one.")
    for row, image in enumerate(images):
        _check(image, row)
    names = tuple(f"image {row + 1}" for row in range(len(images)))
    return ImageSet("images in memory", "images", names, contents=_Files(images))


class _Files(Sequence[bytes]):
    """The file of every image, made when it is asked for."""

    def __init__(self, images: Sequence[Any] | np.ndarray) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, row: int) -> bytes: ...
    @overload
    def __getitem__(self, row: slice) -> list[bytes]: ...
    def __getitem__(self, row: int | slice) -> bytes | list[bytes]:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        image = self._images[row]
        if not isinstance(image, Image.Image):
            image = Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)
        try:
            pixels = upright_rgb(image)
        except BadImage as error:
            raise DataError(f"image {row + 1}: {error.reason}") from error
        return b"P6\n%d %d\n255\n" % pixels.size + pixels.tobytes()


def _check(image: Any, row: int) -> None:
    if isinstance(image, Image.Image):
        kind, right = f"a {image.width} x {image.height} image", min(image.size) > 0
    elif isinstance(image, np.ndarray):
        kind = f"{image.dtype} {image.shape}"
        shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3, 4))
        right = shaped and image.dtype == np.uint8 and image.size > 0
    else:
        kind, right = f"a {type(image).__name__}", False
    if not right:
        raise DataError(
            f"An image in memory is a Pillow image or an array uint8 (height, width, 3) of values from 0 to 255; "
            f"image {row + 1} is {kind}."
        )
