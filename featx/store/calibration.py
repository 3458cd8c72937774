"""The calibration images of int8: chosen once per network in a cache, and kept there.

    cache/calibration/<backbone>-<input size>-<key8>.json     digest and path of each, in order

Another choice, or another order, gives other weights, and with them other features. So the key holds the digests of
this list, and data that grow change neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featx.backbones.output import Output
from featx.errors import StoreError
from featx.io.digests import digest_json
from featx.io.files import make_folder, write_json
from featx.io.jsontypes import parse_json

SCHEMA = 1


@dataclass(frozen=True)
class CalibrationImage:
    """An image by its digest, as hexadecimal text, and the path where it was when it was chosen."""

    digest: str
    path: str


@dataclass(frozen=True)
class CalibrationImages:
    """The images of one network, in order.

    measured : by them the ranges of whole numbers are found; held : others, on which int8 is compared with float32
    """

    measured: tuple[CalibrationImage, ...]
    held: tuple[CalibrationImage, ...]

    @classmethod
    def read(cls, path: Path) -> CalibrationImages | None:
        """Those that were chosen; None before that.

        Raises
        ------
        StoreError
            The file is damaged or from a newer featx.
        """
        if not path.exists():
            return None
        try:
            content = parse_json(path.read_text(encoding="utf-8"))
            if content["schema"] > SCHEMA:
                raise StoreError(f"{path} is from a newer featx. Install it, or choose another folder with --cache.")
            lists = [tuple(CalibrationImage(str(d), str(p)) for d, p in content[name]) for name in ("measured", "held")]
            found = cls(*lists)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{path} is damaged ({error}). Delete it: images are then chosen again, and int8 "
                f"features computed again."
            ) from error
        return found

    def write(self, path: Path) -> None:
        """Keep them for all later runs."""
        make_folder(path.parent)
        write_json(path, {"schema": SCHEMA, "measured": _listed(self.measured), "held": _listed(self.held)})


@dataclass(frozen=True)
class NetworkCalibration:
    """What one quantised network is made by.

    images : by their digests; cut : all outputs of the network, by name: what lies behind a tensor decides how it is
    rounded, so that a network that is cut elsewhere gives other features
    """

    images: CalibrationImages
    cut: tuple[Output, ...]

    @classmethod
    def of(cls, images: CalibrationImages, outputs: tuple[Output, ...]) -> NetworkCalibration:
        """The calibration of a network with these outputs, in whatever order."""
        return cls(images, tuple(sorted(outputs, key=lambda output: output.name)))

    @property
    def digest(self) -> str:
        """What the key holds of it: SHA-256 over the digests of the images, in order, and the names of the outputs."""
        lists = [[one.digest for one in images] for images in (self.images.measured, self.images.held)]
        return digest_json([*lists, [output.name for output in self.cut]])


def _listed(images: tuple[CalibrationImage, ...]) -> list[list[Any]]:
    return [[one.digest, one.path] for one in images]
