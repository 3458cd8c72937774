"""The one resizer of every stage: an image brought to the size of a network's input.

`place` is its geometry, in numbers alone; `fit` applies it to pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from featx.errors import UsageError

RESIZES = ("stretch", "crop", "pad")
PAD_COLOUR = (127, 127, 127)  # near zero after every preprocessing

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Placement:
    """Which part of an image is resampled to which part of the frame (the network's input).

    box : what is resampled, in pixels of the image
    inner : (width, height) of what it becomes
    corner : (left, top) of that in the frame; what is outside of it is padding
    frame : (width, height)
    """

    box: Box
    inner: tuple[int, int]
    corner: tuple[int, int]
    frame: tuple[int, int]

    @property
    def padded(self) -> bool:
        """Whether the frame has borders."""
        return self.inner != self.frame

    @property
    def seen(self) -> Box:
        """What the whole frame shows, in pixels of the image: beyond it where that is padded."""
        left, top, right, bottom = self.box
        x, y = (right - left) / self.inner[0], (bottom - top) / self.inner[1]
        rest = self.frame[0] - self.inner[0] - self.corner[0], self.frame[1] - self.inner[1] - self.corner[1]
        return left - self.corner[0] * x, top - self.corner[1] * y, right + rest[0] * x, bottom + rest[1] * y


def place(image: tuple[int, int], size: tuple[int, int], resize: str) -> Placement:
    """Where an image (width, height) goes in a frame of `size` (height, width); `resize` as in `load_image`.

    Raises
    ------
    UsageError
        An unknown way to resize.
    """
    (width, height), frame = image, (size[1], size[0])
    across, down = frame[0] / width, frame[1] / height
    whole = (0.0, 0.0, float(width), float(height))
    if resize == "stretch":
        return Placement(whole, frame, (0, 0), frame)
    if resize == "crop":
        scale = max(across, down)
        # rounded, 49 - 64 / (64 / 49) is less than 0, and Pillow refuses the box
        left, top = max(0.0, (width - frame[0] / scale) / 2), max(0.0, (height - frame[1] / scale) / 2)
        return Placement((left, top, width - left, height - top), frame, (0, 0), frame)
    if resize == "pad":
        scale = min(across, down)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        return Placement(whole, inner, ((frame[0] - inner[0]) // 2, (frame[1] - inner[1]) // 2), frame)
    raise UsageError(f"No way to resize is called {resize!r}. Choose one of {', '.join(RESIZES)}.")


def fit(image: Image.Image, size: tuple[int, int], resize: str) -> Image.Image:
    """Bring an RGB image to `size` (height, width), antialiased; `resize` as in `load_image`."""
    where = place(image.size, size, resize)
    resized = image.resize(where.inner, Image.Resampling.BILINEAR, where.box)
    if not where.padded:
        return resized
    padded = Image.new("RGB", where.frame, PAD_COLOUR)
    padded.paste(resized, where.corner)
    return padded
