"""Images in two dimensions as one page: points on a canvas, pictures and names beside them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.images.sprites import ROW, SIDE, draw_sheets
from featx.io.files import write_atomic
from featx.io.jsontypes import Json
from featx.report.page import render

_STEPS = 65535


@dataclass(frozen=True)
class Colouring:
    """What points are coloured by.

    values : of each point, positions in `names` with -1 for none, or of a number float in [0, 1], NaN for none
    names : of the groups; None where it is a number
    """

    title: str
    values: np.ndarray
    names: tuple[str, ...] | None


@dataclass(frozen=True)
class MapText:
    """What the page says of itself. label : position in the colourings of the one whose names are labels, -1: none"""

    summary: str
    notes: tuple[str, ...]
    command: str
    label: int


def write_map(
    out: Path,
    paths: Sequence[str],
    places: np.ndarray,
    colourings: Sequence[Colouring],
    pictured: np.ndarray,
    text: MapText,
) -> Path:
    """Write the page.

    places : float32 (n, 2), within [-1, 1]; pictured : int64 (m,), points that have a picture

    Raises
    ------
    StoreError
        A full disk, or a folder that cannot be written to.
    """
    content: Mapping[str, Json] = {
        "places": _packed(np.round((places + 1) / 2 * _STEPS).astype("<u2")),
        "paths": list(paths),
        "colourings": [_colouring(one) for one in colourings],
        "pictured": pictured.tolist(),
        "sheets": draw_sheets([paths[row] for row in pictured.tolist()]),
        "side": SIDE,
        "row": ROW,
        "label": text.label,
    }
    # "<" would let a name end the element that holds the data
    data = json.dumps(content, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    page = render("map.html", title="Map of the images", text=text, data=data, plots={}, script="map.js")
    write_atomic(out, page)
    return out


def _colouring(one: Colouring) -> dict[str, Json]:
    if one.names is None:
        numbers = np.where(np.isnan(one.values), _STEPS, np.round(np.clip(one.values, 0, 1) * (_STEPS - 1)))
        return {"title": one.title, "names": None, "values": _packed(numbers.astype("<u2"))}
    codes = np.where(one.values < 0, _STEPS, one.values)
    return {"title": one.title, "names": list(one.names), "values": _packed(codes.astype("<u2"))}


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
