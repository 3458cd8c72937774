"""Grids of images: what is drawn is what was given."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

from featx.images.grid import GridImage, draw_grid, read_places, shorten


def test_a_grid_shows_every_image_and_survives_a_broken_one(tmp_path: Path) -> None:
    colours = [(250, 20, 20), (20, 250, 20), (20, 20, 250)]
    for number, colour in enumerate(colours):
        Image.new("RGB", (30, 20), colour).save(tmp_path / f"größe $_{number}.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    paths = [*(tmp_path / f"größe $_{number}.png" for number in range(3)), tmp_path / "broken.png"]
    pictures = [GridImage(str(path), (path.name, "90.0%"), bool(i % 2)) for i, path in enumerate(paths)]
    out = draw_grid(pictures, tmp_path / "grid.png", columns=3, title="some $ title")
    with Image.open(out) as grid:
        drawn = np.asarray(grid.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in colours:
        assert (np.abs(drawn - colour).sum(axis=1) < 12).sum() > 1000
    assert [path.name for path in tmp_path.glob(".tmp-*")] == []


def test_a_grid_says_where_its_photographs_are(tmp_path: Path) -> None:
    """Each ends with its frame; around them are paper, captions and what is left of frames between two pixels."""
    Image.new("RGB", (30, 20), (250, 20, 20)).save(tmp_path / "red.png")
    pictures = [GridImage(str(tmp_path / "red.png"), (str(i),), good=bool(i % 2)) for i in range(5)]
    with Image.open(draw_grid([*pictures, None], tmp_path / "grid.png", columns=3, title="title")) as grid:
        places = re.findall(r"M(\d+) (\d+)h(\d+)", read_places(grid))
        drawn = np.asarray(grid.convert("RGB")).astype(int)
    assert len(places) == 5
    around = np.ones(drawn.shape[:2], bool)
    for number, (x, y, side) in enumerate([int(value) for value in place] for place in places):
        around[y : y + side, x : x + side] = False
        square = drawn[y : y + side, x : x + side]
        for edge in (square[0], square[-1], square[:, 0], square[:, -1]):
            assert np.abs(edge - ((46, 125, 50) if number % 2 else (198, 40, 40))).max() < 25
    assert np.ptp(drawn[around], axis=1).max() < 40
    assert drawn[around].min() < 100  # the captions are among it
    with Image.open(tmp_path / "red.png") as image:
        assert read_places(image) == ""


def test_one_image_and_none_make_a_grid_too(tmp_path: Path) -> None:
    Image.new("RGB", (3, 200)).save(tmp_path / "thin.png")
    for pictures in ([GridImage(str(tmp_path / "thin.png"), ())], []):
        with Image.open(draw_grid(pictures, tmp_path / "grid.png")) as grid:
            assert grid.width > 100


def test_long_names_keep_their_ends() -> None:
    assert shorten("x" * 24) == "x" * 24
    assert shorten("beginning-of-a-very-long-name-ends.jpg", 11) == "begin…s.jpg"
