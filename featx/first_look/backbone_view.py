"""The image as the backbone receives it, as a picture that exposes wrong preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from featx.backbones import BackboneSpec, open_network
from featx.backbones.values import write_values
from featx.dataset import ImageSet
from featx.first_look.contact_sheet import ContactSheet
from featx.images.decoder import load_image
from featx.images.grid import GridImage
from featx.report.figure_folder import FigureFolder

_SHOWN = 6  # images


@dataclass(frozen=True)
class BackboneView:
    """An image as a backbone sees it.

    values : float32 (height, width, 3), what the network is given
    pixels : uint8 (height, width, 3), these values as the picture that the network takes them for: the preprocessing
        that it was trained with undone, and cut off at black and white
    difference : mean absolute difference of these pixels from those that were decoded, in grey levels of 255
    """

    values: np.ndarray
    pixels: np.ndarray
    difference: float


@dataclass(frozen=True)
class BackboneViews:
    """Some images as a backbone sees them, drawn.

    picture : the image grid; input_size : (height, width)
    preprocessing, own : what the images are given, and what the network was trained with; None where nobody knows
    mean_difference : over the images, in grey levels of 255; warning : where the two are not the same
    """

    picture: str
    backbone: str
    input_size: tuple[int, int]
    resize: str
    preprocessing: str
    own: str | None
    mean_difference: float
    warning: str | None


def view_as_backbone(path: str, spec: BackboneSpec) -> BackboneView:
    """Decode, resize and preprocess an image as every stage does, and undo what the network expects.

    With the network's own preprocessing the image comes back; with another it looks as wrong as it is to the network.
    What a network of a .keras file expects is not known; what it is given is undone, so that the image comes back.

    Raises
    ------
    BadImage
        When no image can be made of the file.
    """
    network = open_network(spec)
    decoded = load_image(path, spec.input_size, spec.resize)
    values = network.preprocessing.formula.apply(decoded)
    expected = (network.trained_with or network.preprocessing).formula
    taken = np.clip(np.rint(expected.undo(values)), 0, 255).astype(np.uint8)
    return BackboneView(values, taken, float(np.abs(taken.astype(np.float32) - decoded).mean()))


def _own(spec: BackboneSpec) -> str | None:
    """The preprocessing that a network was trained with; None where nobody knows."""
    own = open_network(spec).trained_with
    return None if own is None else write_values(own)


def draw_views(sheet: ContactSheet, images: ImageSet, spec: BackboneSpec, folder: FigureFolder) -> BackboneViews:
    """Draw images of the contact sheet as their files are and as the backbone sees them, and compare the two."""
    turns = zip_longest(*(line.rows for line in sheet.lines))  # the first of every class, then the second
    rows = list(dict.fromkeys(row for turn in turns for row in turn if row is not None))[:_SHOWN]
    views = [view_as_backbone(images.paths[row], spec) for row in rows]
    names = [Path(images.paths[row]).name for row in rows]
    files = [GridImage(name, ("file", name), pixels=sheet.pixels[row]) for row, name in zip(rows, names, strict=True)]
    given = [
        GridImage(name, ("as seen", f"{one.values.min():.4g} to {one.values.max():.4g}"), pixels=one.pixels)
        for one, name in zip(views, names, strict=True)
    ]
    picture = folder.grid("seen", [*files, *given], len(rows))
    own, difference = _own(spec), float(np.mean([one.difference for one in views]))
    warning = None
    if own is not None and own != spec.preprocessing:
        warning = (
            f"{spec.label} was trained with the preprocessing {own} and is given {spec.preprocessing}: what it sees is "
            f"off by {difference:.0f} of 255 grey levels. Leave --preprocessing out."
        )
    return BackboneViews(
        picture=picture,
        backbone=spec.label,
        input_size=spec.input_size,
        resize=spec.resize,
        preprocessing=spec.preprocessing,
        own=own,
        mean_difference=difference,
        warning=warning,
    )
