"""The one resizer of every stage: an image brought to the size of a network's input."""

from __future__ import annotations

# Importing a format registers it. Done here once: registering at the first image would race between threads.
from PIL import (
    Image,
)

from featx.errors import UsageError

RESIZES = ("stretch", "crop", "pad")
PAD_COLOUR = (127, 127, 127)  # near zero after every preprocessing


def fit(image: Image.Image, size: tuple[int, int], resize: str) -> Image.Image:
    """Bring an RGB image to `size` (height, width), antialiased; `resize` as in `load_image`."""
    height, width = size
    across, down = width / image.width, height / image.height
    if resize == "stretch":
        return image.resize((width, height), Image.Resampling.BILINEAR)
    if resize == "crop":
        scale = max(across, down)
        # rounded, 49 - 64 / (64 / 49) is less than 0, and Pillow refuses the box
        left, top = max(0.0, (image.width - width / scale) / 2), max(0.0, (image.height - height / scale) / 2)
        box = (left, top, image.width - left, image.height - top)
        return image.resize((width, height), Image.Resampling.BILINEAR, box)
    if resize == "pad":
        scale = min(across, down)
        inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        padded = Image.new("RGB", (width, height), PAD_COLOUR)
        middle = ((width - inner[0]) // 2, (height - inner[1]) // 2)
        padded.paste(image.resize(inner, Image.Resampling.BILINEAR), middle)
        return padded
    raise UsageError(f"No way to resize is called {resize!r}. Choose one of {', '.join(RESIZES)}.")
