"""Augmentation policies: how the altered versions (views) of an image look.

It is the same for cached views, fine-tuning and test-time averaging. What is done to an image is drawn from (seed,
digest of its file, number of the view, operation) and from nothing else, so that every view can be made again by
itself: neither the batch, nor the order, nor what other operations are on has a part in it.

`Augmenter` is the policy at work; `Change` is one draw of it, and alters an image of any size.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from featx.config import AugmentOptions
from featx.images.resize import PAD_COLOUR, Box

GEOMETRIC = ("flip", "rotation", "shift", "shear", "zoom", "crop")
_COLOURS = ("brightness", "contrast", "saturation")
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow mixes grey
_PadMode = Literal["edge", "symmetric"]
_PAD_MODES: dict[str, _PadMode] = {"nearest": "edge", "reflect": "symmetric"}
_MOST_STRETCH = 4 / 3  # of a crop's proportions, as in Szegedy et al., "Going deeper with convolutions" (2015)
_PROBE_DIGEST = b"probe".ljust(32, b"\0")  # as long as every digest; it is part of what identifies cached views
_MOST_SLENDER = 3.0  # of an erased rectangle's, near the 1 / 0.3 of Zhong et al., "Random Erasing" (2017)


@dataclass(frozen=True)
class Change:
    """What is done to one image. The default changes nothing.

    The image is flipped, sheared, magnified and rotated about its centre, then shifted, then cropped: one affine map
    and one bilinear resampling. Brightness, contrast and saturation follow, then the rectangle is painted.

    flip : whether it is mirrored left to right, and upside down
    rotation : degrees counter-clockwise
    shift : shares of width and height, to the right and down
    shear : how far the bottom moves to the right against the top, as a share of the height
    zoom : magnification
    crop : left, top, right and bottom of what is kept, as shares of width and height
    brightness, contrast, saturation : factors
    erasing : left, top, right and bottom of a rectangle that becomes grey
    """

    flip: tuple[bool, bool] = (False, False)
    rotation: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    shear: float = 0.0
    zoom: float = 1.0
    crop: Box = (0.0, 0.0, 1.0, 1.0)
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    erasing: Box | None = None

    def apply(self, image: np.ndarray, fill_mode: str = "nearest", fill_value: int = 0) -> np.ndarray:
        """The altered image: uint8 (h, w, 3) of uint8 (h, w, 3).

        fill_mode : what comes in from outside: "nearest" the edge (aaaa|abcd|dddd), "reflect" the mirror image
            (dcba|abcd|dcba), "constant" the grey `fill_value`
        """
        pixels = _move(image, self.matrix(image.shape[0], image.shape[1]), fill_mode, fill_value)
        for name in _COLOURS:
            if getattr(self, name) != 1:
                pixels = _mix(pixels, name, getattr(self, name))
        altered = np.array(pixels)
        if self.erasing is not None:
            left, top, right, bottom = _pixels(self.erasing, *altered.shape[:2])
            altered[top:bottom, left:right] = PAD_COLOUR
        return altered

    def matrix(self, height: int, width: int) -> np.ndarray:
        """Float64 (2, 3): from the place (x, y, 1) in the altered image to (x, y) in the image, in pixels.

        The upper left corner of the upper left pixel is (0, 0), its middle (0.5, 0.5).
        """
        turn = math.radians(self.rotation)
        unrotate = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        unshear = np.array([[1.0, -self.shear], [0.0, 1.0]])
        unflip = np.diag([-1.0 if mirrored else 1.0 for mirrored in self.flip])
        back = unflip @ unshear @ unrotate / self.zoom
        size = np.array([width, height], float)
        left, top, right, bottom = self.crop
        corner = size * (left, top) - size / 2 - size * self.shift
        matrix = np.column_stack([back * (right - left, bottom - top), size / 2 + back @ corner])
        return np.round(matrix, 9)  # Pillow cuts off fractions of values: a right angle has to be exactly one


def _move(image: np.ndarray, matrix: np.ndarray, fill_mode: str, fill_value: int) -> np.ndarray:
    """Resample an image by the map from the new places to the old ones."""
    height, width = image.shape[:2]
    if np.array_equal(matrix, [[1, 0, 0], [0, 1, 0]]):
        return image
    if fill_mode in _PAD_MODES:
        image, offset = _pad(image, matrix, _PAD_MODES[fill_mode])
        matrix = matrix + np.column_stack([np.zeros((2, 2)), offset])
    moved = np.empty((height, width, 3), np.uint8)
    for channel in range(3):
        resampled = Image.fromarray(image[..., channel].astype(np.float32)).transform(
            (width, height),
            Image.Transform.AFFINE,
            tuple(matrix.ravel()),
            Image.Resampling.BILINEAR,
            fillcolor=float(fill_value),
        )
        # of uint8, Pillow cuts off fractions, which darkens images by half a level
        moved[..., channel] = np.rint(np.asarray(resampled))
    return moved


def _mix(pixels: np.ndarray, name: str, factor: float) -> np.ndarray:
    """Pixels mixed with black, their mean grey or their own grey; what is beyond uint8 is cut, the rest is rounded."""
    exact = pixels.astype(np.float32)
    base = np.zeros(1, np.float32)
    if name != "brightness":
        grey = (exact @ _GREY)[..., None]
        base = grey.mean(keepdims=True, dtype=np.float64).astype(np.float32) if name == "contrast" else grey
    return np.asarray(np.clip(np.rint(base + np.float32(factor) * (exact - base)), 0, 255).astype(np.uint8))


def _pad(image: np.ndarray, matrix: np.ndarray, mode: _PadMode) -> tuple[np.ndarray, np.ndarray]:
    """The image with as much around it as the map reaches, and where its corner (x, y) is now."""
    height, width = image.shape[:2]
    corners = matrix @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    before = np.maximum(0, np.ceil(-corners.min(axis=1))).astype(int)
    after = np.maximum(0, np.ceil(corners.max(axis=1) - (width, height))).astype(int)
    if not before.any() and not after.any():
        return image, before
    before, after = before + 1, after + 1  # what the last pixel is interpolated with
    return np.pad(image, ((before[1], after[1]), (before[0], after[0]), (0, 0)), mode), before


def _pixels(box: Box, height: int, width: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = box
    return round(left * width), round(top * height), round(right * width), round(bottom * height)


@dataclass(frozen=True)
class Augmenter:
    """A policy at work. Of equal policies and seeds, one digest and view always give the same pixels."""

    policy: AugmentOptions
    seed: int

    def __call__(self, image: np.ndarray, digest: bytes, view: int) -> np.ndarray:
        """A view of an image.

        Parameters
        ----------
        image : uint8 (h, w, 3), at the network's size
        digest : SHA-256 of the image's file
        view : 0 for the image itself, which comes back unchanged; from 1 on an altered version each

        Returns
        -------
        uint8 (h, w, 3)
        """
        if view == 0:
            return image
        return self.draw(digest, view).apply(image, self.policy.fill_mode, self.policy.fill_value)

    def draw(self, digest: bytes, view: int) -> Change:
        """What is done to the image of this digest in this view."""
        if view == 0:
            return Change()
        return Change(
            **{
                name: _DRAWS[name](getattr(self.policy, name), self._uniforms(name, digest, view))
                for name in self.policy.operations
            }
        )

    def only(self, operation: str) -> Augmenter:
        """The same with a single one of its operations on, which does to every view what it does among the others."""
        off: dict[str, Any] = {name: getattr(AugmentOptions(), name) for name in self.policy.operations}
        return replace(self, policy=replace(self.policy, **off | {operation: getattr(self.policy, operation)}))

    def _uniforms(self, operation: str, digest: bytes, view: int) -> tuple[float, ...]:
        """Numbers in [0, 1), equally likely, that belong to this operation. They need no library's random stream."""
        drawn = hashlib.blake2b(f"{self.seed}/{operation}/{view}/".encode() + digest, digest_size=32).digest()
        return tuple(float(number >> 11) * 2.0**-53 for number in np.frombuffer(drawn, "<u8").tolist())

    @property
    def identity(self) -> str:
        """What a view depends on besides its image and number: the policy, the seed, and a digest of probe pixels.

        Options that have no effect are left out, and the pixels change only where an upgrade of Pillow changes them.
        """
        policy = self.policy
        terms = {name: getattr(policy, name) for name in policy.operations}
        if set(terms) & set(GEOMETRIC):
            terms["fill_mode"] = policy.fill_mode
            if policy.fill_mode == "constant":
                terms["fill_value"] = policy.fill_value
        terms = {name: float(value) if isinstance(value, int) else value for name, value in terms.items()}
        pixels = hashlib.sha256(b"".join(self(_probe(), _PROBE_DIGEST, view).tobytes() for view in range(1, 5)))
        terms |= {"seed": self.seed, "pixels": pixels.hexdigest()[:16]}
        return " ".join(f"{name}={value}" for name, value in terms.items())

    def as_json(self) -> dict[str, Any]:
        """The policy and the seed, as a bundle keeps them."""
        return {"policy": asdict(self.policy), "seed": self.seed}

    @classmethod
    def from_json(cls, about: dict[str, Any]) -> Augmenter:
        """The reverse of `as_json`."""
        return cls(AugmentOptions(**about["policy"]), int(about["seed"]))


def _probe() -> np.ndarray:
    """A small image, uint8 (24, 16, 3), with colours and edges in both directions."""
    down, across, channel = np.indices((24, 16, 3))
    return np.asarray((down * across * 7 + down * 11 * channel + across * 5) % 256, np.uint8)


Uniforms = Sequence[float]


def _between(least: float, most: float, uniform: float) -> float:
    return least + (most - least) * uniform


def _draw_flip(how: str, uniforms: Uniforms) -> tuple[bool, bool]:
    return how in {"horizontal", "both"} and uniforms[0] < 0.5, how in {"vertical", "both"} and uniforms[1] < 0.5


def _draw_either_way(most: float, uniforms: Uniforms) -> float:
    return _between(-most, most, uniforms[0])


def _draw_shift(most: float, uniforms: Uniforms) -> tuple[float, float]:
    return _between(-most, most, uniforms[0]), _between(-most, most, uniforms[1])


def _draw_factor(most: float, uniforms: Uniforms) -> float:
    return 1 + _between(-most, most, uniforms[0])


def _draw_crop(least: float, uniforms: Uniforms) -> Box:
    share = _between(least, 1.0, uniforms[0])
    return _place(share, min(_MOST_STRETCH, 1 / share), uniforms[1:])


def _draw_erasing(most: float, uniforms: Uniforms) -> Box:
    share = most * (1 - uniforms[0])  # more than 0
    return _place(share, min(_MOST_SLENDER, 1 / share), uniforms[1:])


def _place(share: float, most_stretch: float, uniforms: Uniforms) -> Box:
    """A box of this share of the area, in random proportions (width to height, of a square) at a random place.

    most_stretch : at most 1 / share, so that the box has room
    """
    stretch = most_stretch ** _between(-1.0, 1.0, uniforms[0])
    width, height = math.sqrt(share * stretch), math.sqrt(share / stretch)
    left, top = (1 - width) * uniforms[1], (1 - height) * uniforms[2]
    return left, top, left + width, top + height


_DRAWS: dict[str, Callable[[Any, Uniforms], Any]] = {
    "flip": _draw_flip,
    "rotation": _draw_either_way,
    "shift": _draw_shift,
    "shear": _draw_either_way,
    "zoom": _draw_factor,
    "crop": _draw_crop,
    "brightness": _draw_factor,
    "contrast": _draw_factor,
    "saturation": _draw_factor,
    "erasing": _draw_erasing,
}
