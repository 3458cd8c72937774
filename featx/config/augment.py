"""The section augment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from featx.config.bounds import Ge, Le
from featx.config.option import Section, option

Share = Annotated[float, Ge(0), Le(1)]
Flip = Literal["none", "horizontal", "vertical", "both"]
FillMode = Literal["nearest", "reflect", "constant"]


@dataclass(frozen=True)
class AugmentOptions(Section):
    """How images are altered at random: one policy for cached views, fine-tuning and test-time averaging.

    Every operation is off at 0 (or none), which is the default. All act on the image at the network's size.
    """

    views: Annotated[int, Ge(0), Le(65_535)] = option(
        0, "Number of augmented versions of every training image to fit heads on, besides the image itself."
    )
    flip: Flip = option("none", "Flip half of the images left to right, upside down, or both independently.")
    rotation: Annotated[float, Ge(0), Le(180)] = option(0.0, "Rotate by up to this many degrees either way.")
    shift: Share = option(0.0, "Shift by up to this share of width and height, independently.")
    shear: Share = option(0.0, "Shear either way, by up to this share of the height.")
    zoom: Annotated[float, Ge(0), Le(0.9)] = option(0.0, "Zoom by a factor between 1 - ZOOM and 1 + ZOOM.")
    crop: Share = option(0.0, "Random crop of at least this share of the area, resized to full size (0: no crop).")
    brightness: Share = option(0.0, "Multiply brightness by a factor between 1 - BRIGHTNESS and 1 + BRIGHTNESS.")
    contrast: Share = option(0.0, "Multiply contrast by a factor between 1 - CONTRAST and 1 + CONTRAST.")
    saturation: Share = option(0.0, "Multiply saturation by a factor between 1 - SATURATION and 1 + SATURATION.")
    erasing: Share = option(0.0, "Random erasing: grey out a rectangle of up to this share of the area.")
    fill_mode: FillMode = option(
        "nearest", "Filling of uncovered pixels: the nearest edge, the mirror image, or a constant."
    )
    fill_value: Annotated[int, Ge(0), Le(255)] = option(
        0, "Grey value of --fill-mode constant, from 0, black, to 255, white."
    )

    @property
    def operations(self) -> tuple[str, ...]:
        """The names of the operations that are on."""
        return tuple(name for name in OPERATIONS if getattr(self, name) not in {"none", 0})


OPERATIONS = (
    *("flip", "rotation", "shift", "shear", "zoom", "crop"),
    *("brightness", "contrast", "saturation", "erasing"),
)
