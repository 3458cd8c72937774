"""Class activation maps as files: over the picture, alone, as arrays, and all pictures in one grid.

A map belongs to the square that the backbone sees. It is laid over the whole, upright picture, where that square came
from: what `crop` cut away has no colour, and the borders that `pad` added are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featx.bundle.bundle import Bundle
from featx.images.decoder import decode
from featx.images.grid import Picture, draw_grid
from featx.images.resize import Box, place
from featx.inference.explain import ClassMap, Explanation
from featx.inference.predict import Unread
from featx.io.files import atomic_path
from featx.io.urls import plain

COLOURS = "inferno"  # of matplotlib: perceptually uniform, and its darkest means nothing
GRID = "grid.png"
MOST_IN_GRID = 240  # pictures
_LEAST, _MOST = 256, 1024  # pixels of the longer side of what is drawn
_OPACITY = 0.8  # where a map is largest
_LONGEST = 60  # characters of a picture's or a class's name in a file name


def spread(values: np.ndarray, picture: tuple[int, int], box: Box) -> np.ndarray:
    """A map (h, w) that lies on `box` of a picture (width, height), for each of its pixels: float32 (height, width).

    Linear between the middles of the map's places; NaN outside of the box.
    """
    left, top, right, bottom = box
    x, y = values.shape[1] / (right - left), values.shape[0] / (bottom - top)
    large = Image.fromarray(np.ascontiguousarray(values, np.float32)).transform(
        picture,
        Image.Transform.AFFINE,
        (x, 0, -left * x, 0, y, -top * y),
        Image.Resampling.BILINEAR,
        fillcolor=float("nan"),
    )
    return np.asarray(large)


def strength(values: np.ndarray) -> np.ndarray:
    """What speaks for a class, 1 where it is strongest, else less, down to 0: float32, NaN where `values` are."""
    positive = np.maximum(values, 0)  # NaN stays NaN
    most = np.nanmax(positive, initial=0)
    return np.asarray(positive / most if most > 0 else positive, np.float32)


def colour(shares: np.ndarray) -> np.ndarray:
    """Shares in [0, 1], NaN for none, as colours: uint8 (height, width, 4), transparent where there is none."""
    from matplotlib import colormaps

    return np.asarray(colormaps[COLOURS].with_extremes(bad=(0, 0, 0, 0))(np.ma.masked_invalid(shares), bytes=True))


def overlay(picture: Image.Image, shares: np.ndarray) -> Image.Image:
    """The picture with its map: the stronger a place, the more of the map's colour; what was not seen is faded."""
    pixels = np.asarray(picture, np.float32)
    faded = np.isnan(shares)[..., None]
    opacity = _OPACITY * np.nan_to_num(shares)[..., None]
    mixed = pixels * (1 - opacity) + colour(shares)[..., :3] * opacity
    return Image.fromarray(np.where(faded, 0.3 * pixels + 0.7 * 255, mixed).round().astype(np.uint8))


def draw_map(found: ClassMap, source: str | Path | bytes, bundle: Bundle) -> tuple[Image.Image, Image.Image]:
    """(the picture with its map, RGB; the map alone, RGBA), both of the picture's proportions.

    Their longer side is that of the picture, but at least 256 and at most 1,024 pixels.

    Raises
    ------
    BadImage
        When the picture cannot be read.
    """
    picture = decode(source, (_MOST, _MOST))
    scale = min(max(max(picture.size), _LEAST), _MOST) / max(picture.size)
    drawn = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    box = place(picture.size, bundle.input_size, bundle.manifest.backbone.resize).seen
    x, y = drawn[0] / picture.width, drawn[1] / picture.height
    shares = strength(spread(found.map, drawn, (box[0] * x, box[1] * y, box[2] * x, box[3] * y)))
    large = picture.resize(drawn, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
    return overlay(large, shares), Image.fromarray(colour(shares))


@dataclass
class Album:
    """Writes explanations into a folder, one after the other, and at last the grid of them all.

    entries : what was written of each image, as `featx explain --json` prints it; bad : the images that were not read
    """

    out: Path
    bundle: Bundle
    entries: list[dict[str, Any]] = field(default_factory=list)
    bad: list[dict[str, str]] = field(default_factory=list)
    _pictures: list[Picture] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)

    def add(self, answers: Iterable[Explanation | Unread], sources: Sequence[str | Path | bytes]) -> None:
        """Write the files of every answer; `sources` are what the answers are about, in the same order."""
        for answer, source in zip(answers, sources, strict=True):
            if isinstance(answer, Unread):
                self.bad.append({"path": answer.path, "reason": answer.reason})
                continue
            classes = [self._write(answer, found, source) for found in answer.classes]
            labels = {} if answer.labels is None else {"labels": list(answer.labels)}
            entry = {"path": answer.path, "label": answer.label, "confidence": answer.confidence, **labels}
            self.entries.append(entry | {"method": answer.method, "classes": classes})

    def finish(self) -> Path | None:
        """Draw the grid of the first 240 pictures; None where there is no picture at all."""
        if not self._pictures:
            return None
        return draw_grid(self._pictures[:MOST_IN_GRID], self.out / GRID)

    @property
    def left_out(self) -> int:
        """How many pictures the grid has no place for."""
        return max(0, len(self._pictures) - MOST_IN_GRID)

    def _write(self, answer: Explanation, found: ClassMap, source: str | Path | bytes) -> dict[str, Any]:
        name = self._name(Path(plain(answer.path)).stem, found.label)
        over, alone = draw_map(found, source, self.bundle)
        files = {"overlay": self.out / f"{name}-overlay.png", "heatmap": self.out / f"{name}-heatmap.png"}
        _save(over, files["overlay"])
        _save(alone, files["heatmap"])
        arrays = {}
        for layer, values in found.maps.items():
            suffix = "" if len(found.maps) == 1 else f"-{_plain(layer)}"
            arrays[layer] = self.out / f"{name}{suffix}.npy"
            with atomic_path(arrays[layer]) as temporary, open(temporary, "wb") as file:
                np.save(file, values)
        said = answer.label if answer.labels is None else " | ".join(answer.labels) or "no label"
        caption = (Path(plain(answer.path)).name, f"{found.label} {found.confidence:.1%}")
        other = () if said == found.label else (f"taken for {said}",)
        self._pictures.append(Picture(str(files["overlay"]), (*caption, *other)))
        return {
            "label": found.label,
            "confidence": found.confidence,
            "score": found.score,
            "bias": found.bias,
            "range": [float(found.map.min()), float(found.map.max())],
            "files": {kind: str(path) for kind, path in files.items()},
            "arrays": {layer: str(path) for layer, path in arrays.items()},
        }

    def _name(self, picture: str, label: str) -> str:
        """A name for files that no other picture and class of this album has, on any file system."""
        wanted = f"{_plain(picture)}-{_plain(label)}"
        number, name = 1, wanted
        while name.casefold() in self._taken:
            number += 1
            name = f"{wanted}-{number}"
        self._taken.add(name.casefold())
        return name


def _plain(text: str) -> str:
    return re.sub(r"[^\w.@+ -]", "_", text).strip(" .")[:_LONGEST] or "_"


def _save(image: Image.Image, path: Path) -> None:
    with atomic_path(path) as temporary:
        image.save(temporary, "PNG")
