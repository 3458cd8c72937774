"""Class activation maps as files: over the picture, alone, as arrays, and all overlays in one image grid.

A map belongs to the square that the backbone sees. It is laid over the whole, upright picture, where that square came
from: what `crop` cut away has no colour, and the borders that `pad` added are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from featx.bundle.bundle import Bundle
from featx.images.decoder import decode
from featx.images.grid import GridImage, draw_grid
from featx.images.resize import Box, ResizeRule, place
from featx.images.sources import held, taken
from featx.inference.explain import ClassMap, Explainer, Explanation
from featx.inference.placing import spread
from featx.inference.predict import Unread
from featx.io.files import atomic_path
from featx.io.jsontypes import Json
from featx.io.progress import Progress, no_progress
from featx.io.urls import plain
from featx.metrics.digits import confidence_text

COLOURS = "inferno"  # of matplotlib: perceptually uniform, and its darkest means nothing
GRID = "grid.png"
MOST_IN_GRID = 240  # pictures
_LEAST, _MOST = 256, 1024  # pixels of the longer side of what is drawn
_OPACITY = 0.8  # where a map is largest
_LONGEST = 60  # characters of a picture's or a class's name in a file name


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
    resize = bundle.manifest.backbone.resize
    picture = decode(source, (_MOST, _MOST), levels=ResizeRule.parse(resize).levels)
    scale = min(max(max(picture.size), _LEAST), _MOST) / max(picture.size)
    drawn = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    left, top, right, bottom = place(picture.size, bundle.input_size, resize).seen
    x, y = drawn[0] / picture.width, drawn[1] / picture.height
    seen = (left * x, top * y, right * x, bottom * y)
    shares = strength(spread(found.map, drawn, _within(seen, found.box), seen))
    large = picture.resize(drawn, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
    return overlay(large, shares), Image.fromarray(colour(shares))


def _within(seen: Box, shares: Box) -> Box:
    """What lies on these shares of a box."""
    width, height = seen[2] - seen[0], seen[3] - seen[1]
    left, top = seen[0] + shares[0] * width, seen[1] + shares[1] * height
    return left, top, left + (shares[2] - shares[0]) * width, top + (shares[3] - shares[1]) * height


@dataclass(frozen=True)
class DrawnMap:
    """The files of one class of an image.

    confidence, score, bias : as in `ClassMap`; range : the least and the largest value of its map
    files : overlay, heatmap -> path; arrays : layer -> path
    """

    label: str
    confidence: float
    score: float
    bias: float | None
    range: tuple[float, float]
    files: Mapping[str, str]
    arrays: Mapping[str, str]

    def as_json(self) -> dict[str, Json]:
        """What `featx explain --json` prints of it."""
        return asdict(self)


@dataclass(frozen=True)
class DrawnExplanation:
    """The files of one image. classes : those that were explained"""

    explanation: Explanation
    classes: tuple[DrawnMap, ...]

    def as_json(self) -> dict[str, Json]:
        """What `featx explain --json` prints of it; `labels` where images have several."""
        found = self.explanation
        labels = {} if found.labels is None else {"labels": found.labels}
        return {
            "path": found.path,
            "label": found.label,
            "confidence": found.confidence,
            **labels,
            "method": found.method,
            "classes": [one.as_json() for one in self.classes],
        }


@dataclass(frozen=True)
class DrawnExplanations:
    """Explanations as files in the folder `out`.

    grid : of the first 240 overlays; None where there is none at all; left_out : for how many it has no room
    """

    bundle: Bundle
    method: str
    out: Path
    grid: Path | None
    left_out: int
    images: tuple[DrawnExplanation, ...]
    unread: tuple[Unread, ...]

    def as_json(self) -> dict[str, Json]:
        """What `featx explain --json` prints."""
        return {
            "bundle": str(self.bundle.shown),
            "method": self.method,
            "out": str(self.out),
            "grid": None if self.grid is None else str(self.grid),
            "images": [one.as_json() for one in self.images],
            "bad": [asdict(one) for one in self.unread],
        }


def draw_explanations(
    explainer: Explainer, sources: Sequence[str | Path | bytes], out: Path, progress: Progress = no_progress
) -> DrawnExplanations:
    """Explain images and write the files of each as its answer comes, at last the grid of them all.

    sources : files, or the bytes of files

    Raises
    ------
    BundleError
        A method that the bundle does not have.
    StoreError
        A full disk, or a folder that cannot be written to.
    """
    writer = _Writer(out, explainer.bundle)
    images, unread = list[DrawnExplanation](), list[Unread]()
    once = list(map(held, sources))
    for answer, one in zip(explainer.explain(once, progress=progress), once, strict=True):
        source = taken(one)
        if isinstance(answer, Unread):
            unread.append(answer)
        else:
            maps = tuple(writer.write(answer, found, source) for found in answer.classes)
            images.append(DrawnExplanation(answer, maps))
    cells = writer.overlays
    grid = draw_grid(cells[:MOST_IN_GRID], out / GRID) if cells else None
    left_out = max(0, len(cells) - MOST_IN_GRID)
    return DrawnExplanations(explainer.bundle, explainer.method, out, grid, left_out, tuple(images), tuple(unread))


class _Writer:
    """Writes maps into a folder, one after the other, under names that no two share; `overlays` are cells of a grid."""

    def __init__(self, out: Path, bundle: Bundle) -> None:
        self.out, self.bundle = out, bundle
        self.overlays: list[GridImage] = []
        self._taken: set[str] = set()

    def write(self, answer: Explanation, found: ClassMap, source: str | Path | bytes) -> DrawnMap:
        """The overlay, the map alone and its values."""
        name = self._choose_name(Path(plain(answer.path)).stem, found.label)
        over, alone = draw_map(found, source, self.bundle)
        files = {"overlay": self.out / f"{name}-overlay.png", "heatmap": self.out / f"{name}-heatmap.png"}
        _save(over, files["overlay"])
        _save(alone, files["heatmap"])
        self.overlays.append(
            GridImage(str(files["overlay"]), _caption(answer, found, self.bundle.manifest.calibrated_on))
        )
        return DrawnMap(
            found.label,
            found.confidence,
            found.score,
            found.bias,
            (float(found.map.min()), float(found.map.max())),
            {kind: str(path) for kind, path in files.items()},
            self._write_arrays(name, found),
        )

    def _write_arrays(self, name: str, found: ClassMap) -> dict[str, str]:
        arrays = {}
        for layer, values in found.maps.items():
            suffix = "" if len(found.maps) == 1 else f"-{_plain(layer)}"
            path = self.out / f"{name}{suffix}.npy"
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.save(file, values)
            arrays[layer] = str(path)
        return arrays

    def _choose_name(self, picture: str, label: str) -> str:
        """A name for files that no other image and class in this folder has, on any file system."""
        wanted = f"{_plain(picture)}-{_plain(label)}"
        number, name = 1, wanted
        while name.casefold() in self._taken:
            number += 1
            name = f"{wanted}-{number}"
        self._taken.add(name.casefold())
        return name


def _caption(answer: Explanation, found: ClassMap, images: int | None) -> tuple[str, ...]:
    predicted = answer.label if answer.labels is None else " | ".join(answer.labels) or "no label"
    caption = (Path(plain(answer.path)).name, f"{found.label} {confidence_text(found.confidence, images)}")
    return caption if predicted == found.label else (*caption, f"predicted {predicted}")


def _plain(text: str) -> str:
    return re.sub(r"[^\w.@+ -]", "_", text).strip(" .")[:_LONGEST] or "_"


def _save(image: Image.Image, path: Path) -> None:
    with atomic_path(path) as temporary:
        image.save(temporary, "PNG")
