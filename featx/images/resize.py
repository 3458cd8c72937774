"""The one resizer of every stage: brings an image to a network's input size.

`place` is its geometry, in numbers alone; `fit` applies it to pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from PIL import Image

from featx.errors import UsageError
from featx.images.levels import FULL, LEVELS

RESIZES = ("stretch", "crop", "pad")
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_MOST_BETWEEN = 32_000_000  # pixels; the tallest JPEG, at 480 pixels across, has fewer
PAD_COLOUR = (127, 127, 127)  # near zero after every preprocessing

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class ResizeRule:
    """How an image is brought to a frame, written `method[:share[:filter[:levels]]]`, as in `crop:0.875:bicubic`.

    method : "stretch" changes the proportions; "crop" keeps the middle; "pad" adds grey borders
    share : how much of what the method would show is shown, from the middle; in (0, 1]
    filter : "bilinear" or "bicubic", antialiased
    levels : which values of deep files are black and white, before anything else; see `featx.images.levels`
    """

    method: str
    share: float = 1.0
    filter: str = "bilinear"
    levels: str = FULL

    @classmethod
    def parse(cls, text: str) -> ResizeRule:
        """The rule of a text.

        Raises
        ------
        UsageError
            An unknown method, filter or name of levels, or a share that is none.
        """
        method, share, name, levels = (*text.split(":"), "", "", "")[:4]
        if method not in RESIZES:
            raise UsageError(f"No way to resize is called {text!r}. Choose one of {', '.join(RESIZES)}.")
        try:
            rule = cls(method, float(share or 1.0), name or "bilinear", levels or FULL)
        except ValueError:
            rule = cls(method, 0.0)
        known = rule.filter in FILTERS and rule.levels in LEVELS
        if not known or not 0 < rule.share <= 1 or (method == "pad" and rule.share < 1):
            raise UsageError(
                f"Resizing is written METHOD:SHARE:FILTER:LEVELS, as in crop:0.875:bicubic; received {text!r}. The "
                f"share is above 0 and up to 1 (1 with pad), the filter one of {', '.join(FILTERS)}, the levels one of "
                f"{', '.join(LEVELS)}."
            )
        return rule

    def __str__(self) -> str:
        if self.levels != FULL:
            return f"{self.method}:{self.share:g}:{self.filter}:{self.levels}"
        if self.filter != "bilinear":
            return f"{self.method}:{self.share:g}:{self.filter}"
        return self.method if self.share == 1 else f"{self.method}:{self.share:g}"


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
    rule = ResizeRule.parse(resize)
    (width, height), frame = image, (size[1], size[0])
    across, down = frame[0] / width, frame[1] / height
    whole = (0.0, 0.0, float(width), float(height))
    if rule.method == "stretch" and rule.share == 1:
        return Placement(whole, frame, (0, 0), frame)
    if rule.method == "pad":
        scale = min(across, down)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        return Placement(whole, inner, ((frame[0] - inner[0]) // 2, (frame[1] - inner[1]) // 2), frame)
    if rule.method == "crop":
        across = down = max(across, down)
    # rounded, 49 - 64 / (64 / 49) is less than 0, and Pillow refuses the box
    left = max(0.0, (width - rule.share * frame[0] / across) / 2)
    top = max(0.0, (height - rule.share * frame[1] / down) / 2)
    return Placement((left, top, width - left, height - top), frame, (0, 0), frame)


def needed_size(size: tuple[int, int], resize: str) -> tuple[int, int]:
    """The (height, width) that an image may be decoded at before it is resized to `size` without a loss."""
    share = ResizeRule.parse(resize).share
    return ceil(size[0] / share), ceil(size[1] / share)


def fit(image: Image.Image, size: tuple[int, int], resize: str) -> Image.Image:
    """Bring an RGB image to `size` (height, width), antialiased; `resize` as in `load_image`."""
    where = place(image.size, size, resize)
    resized = _resample(image, where, FILTERS[ResizeRule.parse(resize).filter])
    if not where.padded:
        return resized
    padded = Image.new("RGB", where.frame, PAD_COLOUR)
    padded.paste(resized, where.corner)
    return padded


def _resample(image: Image.Image, where: Placement, method: Image.Resampling) -> Image.Image:
    """Pillow resamples across first; where a very tall image would take much memory in between, down comes first."""
    left, top, right, bottom = where.box
    between = where.inner[0] * (bottom - top)
    if between <= max(_MOST_BETWEEN, (right - left) * (bottom - top)):
        return image.resize(where.inner, method, where.box)
    low = image.resize((image.width, where.inner[1]), method, (0.0, top, float(image.width), bottom))
    return low.resize(where.inner, method, (left, 0.0, right, float(where.inner[1])))
