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
        0, "Fit heads on so many altered versions of every training image, besides the image."
    )
    flip: Flip = option("none", "Mirror every second image, left to right, upside down, or each by its own chance.")
    rotation: Annotated[float, Ge(0), Le(180)] = option(0.0, "Rotate by up to so many degrees either way.")
    shift: Share = option(0.0, "Move by up to this share of width and of height, either way, each by its own.")
    shear: Share = option(0.0, "Slant either way: bottom against top by up to this share of the height.")
    zoom: Annotated[float, Ge(0), Le(0.9)] = option(0.0, "Magnify by a factor between 1 - ZOOM and 1 + ZOOM.")
    crop: Share = option(0.0, "Cut out at least this share of the area, brought back to size (0: no crop).")
    brightness: Share = option(0.0, "Multiply values by 1 - BRIGHTNESS to 1 + BRIGHTNESS.")
    contrast: Share = option(0.0, "Multiply the distance to the mean grey by 1 - CONTRAST to 1 + CONTRAST.")
    saturation: Share = option(0.0, "Multiply the distance of colours to grey by 1 - SATURATION to 1 + SATURATION.")
    erasing: Share = option(0.0, "Paint a rectangle grey, of up to this share of the area, somewhere.")
    fill_mode: FillMode = option(
        "nearest", "What comes in where the image has moved away: its edge, its mirror image, or one value."
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
