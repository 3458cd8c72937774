"""How many digits of a figure are shown: as many as the number of images supports. Files and JSON have all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal

_FEW, _SOME = 200, 2_000  # images; one image more that is right moves a share by 0.005 and by 0.0005
_MOST_DIGITS = 6


def decimals(images: int | None) -> int:
    """Digits after the point of a figure that was measured on so many images; None: on an unknown number."""
    if images is None or images >= _SOME:
        return 4
    return 2 if images < _FEW else 3


def rounded(value: float, digits: int, power: int = 0, rounding: str = ROUND_HALF_UP) -> Decimal | float:
    """The value times ten to a power with so many digits after the point, halves rounded up as people do.

    Floats are taken as they are written: 39 of 40, 0.975, is 0.98 and 98 %, though the float lies below. What is not
    finite stays as it is.
    """
    if not math.isfinite(value):
        return value
    written = Decimal(repr(round(float(value), 12)))
    return written.scaleb(power).quantize(Decimal(1).scaleb(-digits), rounding)


def exact_text(value: float, digits: int, power: int = 0, rounding: str = ROUND_HALF_UP, sign: str = "") -> str:
    """The value as `rounded` makes it, with more digits where it would seem to be 0 or 1 (100 %) and is not."""

    def seems_whole(more: int, how: str) -> bool:
        return abs(rounded(value, more, power, how)) in {0, Decimal(1).scaleb(power)}

    more = digits
    if 1e-9 < abs(value) < 1 - 1e-9:
        while more < _MOST_DIGITS and (seems_whole(more, ROUND_HALF_UP) or seems_whole(more, rounding)):
            more += 1
    if math.isfinite(value) and seems_whole(more, rounding):
        more, rounding = digits, ROUND_HALF_UP
    return f"{rounded(value, more, power, rounding):{sign}.{more}f}"


def figure_text(value: float, images: int | None, sign: str = "") -> str:
    """A share, a loss or a difference (`sign` "+") with the digits that `images` support; 0 and 1 only if exact."""
    return exact_text(value, decimals(images), sign=sign)


def outward(ends: Sequence[float], digits: int, power: int = 0, sign: str = "") -> tuple[str, str]:
    """The ends of an interval, rounded so that it holds all that it held, and 0 or 1 only where it did."""
    low, high = ends
    return exact_text(low, digits, power, ROUND_FLOOR, sign), exact_text(high, digits, power, ROUND_CEILING, sign)


def ends_text(ends: Sequence[float], images: int | None, sign: str = "", between: str = " to ") -> str:
    """An interval with the digits that so many images support, rounded outward."""
    return between.join(outward(ends, decimals(images), sign=sign))


def confidence_text(confidence: float, images: int | None) -> str:
    """A confidence in percent that was calibrated on so many images; None: on an unknown number.

    n images that are all right show no more than (n + 1) in (n + 2), by Laplace's rule of succession: what is beyond
    that is shown as over it, or under. 0 images show nothing.
    """
    if images is None:
        return f"{confidence:.1%}"
    if images == 0:
        return f"{confidence:.0%}, unmeasured"
    digits = 0 if images < _FEW else 1
    steps = 10 ** (digits + 2)
    lowest = 1 / (images + 2)
    if confidence > 1 - lowest:
        return f"over {math.floor((1 - lowest) * steps + 1e-9) / steps:.{digits}%}"
    if confidence < lowest:
        return f"under {math.ceil(lowest * steps - 1e-9) / steps:.{digits}%}"
    return f"{confidence:.{digits}%}"
