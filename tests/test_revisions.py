"""A mended decoder: wrong rows of a cache of featx 0.1.0 are computed again, and no others."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cached import extract, plan
from conftest import SIDE
from dicom_format_cells import described, dicom_file
from odd_files import bitmap, icon, png, tiff
from tiff_more_cells import old_jpeg, ycbcr
from unkind import encode
from window_format_cells import few_colours, gif_within, run_length_bmp, sixteen_bits_with_alpha

from featx.config import DataOptions, FeaturesOptions
from featx.dataset import ImageSet, read_images
from featx.extraction import stale
from featx.images.classes import REVISION
from featx.store.cache import Cache
from featx.store.part import PartRows, open_part, read_rows, write_part


def _numbers(bits: int, channels: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << bits, (SIDE, SIDE, channels))


def _sound() -> dict[str, bytes]:
    """Files of classes that 0.1.0 read right, near to those that it did not."""
    grey8, rgb8 = _numbers(8, 1, 1), _numbers(8, 3, 2)
    rgba = _numbers(8, 4, 3).astype(np.uint8)
    return {
        "sound.jpg": encode(rgb8.astype(np.uint8), "JPEG"),
        "sound-8-trns.png": png(rgb8, 8, rgb8[1, 1].tolist()),
        "sound-16.png": png(_numbers(16, 3, 4), 16),
        "sound-white-is-zero.tif": tiff(grey8, 8, 0),
        "sound-plane.tif": tiff(_numbers(8, 1, 19), 8, 1, separate=True),
        "sound-16.tif": tiff(_numbers(16, 1, 5), 16, 1),
        "sound-separate.tif": tiff(rgb8, 8, 2, separate=True),
        "sound-16-separate-deflated.tif": tiff(_numbers(16, 3, 6), 16, 2, separate=True, deflated=True),
        "sound.jp2": encode(rgb8.astype(np.uint8), "JPEG2000"),
        "sound.bmp": encode(rgba[..., :3], "BMP"),
        "sound.gif": gif_within(0),
        "sound-runs.bmp": run_length_bmp(0),
        "sound-few.bmp": few_colours(4, 3),
        "sound-ycbcr.tif": ycbcr(False),
        "sound-old-jpeg.tif": old_jpeg(6),
        "sound.ico": encode(rgba, "ICO", sizes=[(SIDE, SIDE)]),
    }


def _wrong() -> dict[str, bytes]:
    """One file of every class that 0.1.0 read wrong, and that can be read."""
    transparent = _numbers(8, 4, 7).astype(np.uint8)
    transparent[..., 3] = 0
    rgb16, grey16 = _numbers(16, 3, 8), _numbers(16, 1, 9)
    return {
        "wrong-4-trns.png": png(_numbers(4, 1, 10)[..., 0], 4, [5]),
        "wrong-16-trns.png": png(rgb16, 16, rgb16[1, 1].tolist()),
        "wrong-white-is-zero.tif": tiff(grey16, 16, 0),
        "wrong-12.tif": tiff(_numbers(12, 1, 11), 12, 1),
        "wrong-separate.tif": tiff(rgb16, 16, 2, separate=True),
        "wrong-plane-of-4.tif": tiff(_numbers(4, 1, 16), 4, 1, separate=True),
        "wrong-plane-inverted.tif": tiff(_numbers(8, 1, 17), 8, 0, separate=True),
        "wrong-grey-alpha-planes.tif": tiff(_numbers(8, 2, 18), 8, 1, separate=True, deflated=True, t338=(2,)),
        "wrong-palette.tif": tiff(_numbers(8, 1, 12), 8, 3, t320=list(range(256)) * 3),
        "wrong.bmp": bitmap(transparent),
        "wrong-3-within.gif": gif_within(3),
        "wrong-3-runs.bmp": run_length_bmp(1),
        "wrong-3-few.bmp": few_colours(4, 2),
        "wrong-3-alpha-16.bmp": sixteen_bits_with_alpha(),
        "wrong-3-ycbcr.tif": ycbcr(True),
        "wrong-3-old-jpeg.tif": old_jpeg(2),
        "wrong-3-predictor.tif": tiff(
            _numbers(8, 1, 20), 8, 1, content=_packed_differences(), t259=(32773,), t317=(2,)
        ),
        "wrong.ico": icon(transparent),
        "wrong.jp2": _deep_jpeg_2000(),
    }


def _packed_differences() -> bytes:
    return b"".join(bytes([SIDE - 1]) + row.astype(np.uint8).tobytes() for row in _numbers(8, 1, 20)[..., 0])


def _deep_jpeg_2000() -> bytes:
    imagecodecs = pytest.importorskip("imagecodecs")
    values = _numbers(12, 3, 13).astype(np.uint16)
    return bytes(imagecodecs.jpeg2k_encode(values, bitspersample=12, codecformat="jp2", reversible=True))


def _refused() -> dict[str, bytes]:
    """Files of classes of which 0.1.0 took something else for the picture."""
    signed = _numbers(7, 1, 14).astype("i1")
    return {
        "refused-signed.tif": tiff(signed, 8, 1, content=signed.tobytes(), t339=(2,)),
        "refused-3-bits.dcm": dicom_file(
            described("MONOCHROME2", 12, high=15), _numbers(16, 1, 21)[..., 0].astype("u2")
        ),
        "refused.dng": tiff(_numbers(8, 3, 15), 8, 2, t254=(1,), t330=(8,), t50706=(1, 4)),
    }


@pytest.fixture
def options(tiny_backbone: Path, cache: Path) -> FeaturesOptions:
    return FeaturesOptions(backbone=str(tiny_backbone), layer=("high",), cache=str(cache))


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    pytest.importorskip("tifffile")
    folder = tmp_path / "images" / "all"
    folder.mkdir(parents=True)
    for name, content in {**_sound(), **_wrong(), **_refused()}.items():
        (folder / name).write_bytes(content)
    found = read_images(str(folder.parent), DataOptions())
    return replace(found, labels=None, classes=())


def _rewrite_as_0_1_0(options: FeaturesOptions, images: ImageSet) -> dict[str, np.ndarray]:
    """A cache with a row of 1000s for every file, even for those refused now, without a revision or an index."""
    done = extract(images, options)
    table = done.store.table("high", "avg")
    (part,) = table.parts
    part.path.unlink()
    for path in Path(options.cache).glob("index.sqlite*"):
        path.unlink()
    digests = done.digests
    names = np.array([path.encode() for path in images.paths])
    wrong = np.full((len(digests), *part.row_shape), 1000, np.float16)
    write_part(table.directory, PartRows(digests, np.zeros(len(digests), np.uint16), names, wrong), table.attributes)
    return {Path(path).name: digest for path, digest in zip(images.paths, digests, strict=True)}


def test_exactly_the_wrong_rows_are_computed_again(options: FeaturesOptions, images: ImageSet) -> None:
    whole = extract(images, options)
    assert (whole.computed, {Path(one["path"]).name for one in whole.bad}) == (
        len(_sound()) + len(_wrong()),
        set(_refused()),
    )
    named = _rewrite_as_0_1_0(options, images)
    todo = plan(images, options)
    assert len(todo.rows) == len(_wrong()) + len(_refused())
    done = extract(images, options)
    assert (done.computed, done.reused) == (len(_wrong()), len(_sound()))
    assert {Path(one["path"]).name for one in done.bad} == set(_refused())
    table = done.store.table("high", "avg")
    for name in (*_sound(), *_wrong()):
        row = table.read(np.array([named[name]])).asarray()[0]
        assert (row == 1000).all() == name.startswith("sound"), name
    for name in _refused():
        assert table.missing(np.array([named[name]])).all()
    again = extract(images, options)
    assert (again.computed, again.reused) == (0, len(_sound()) + len(_wrong()))


def test_headers_are_looked_at_once_and_of_old_rows_alone(
    options: FeaturesOptions, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []
    look = stale._look
    monkeypatch.setattr(stale, "_look", lambda source: looked.append(source) or look(source))
    extract(images, options)
    extract(images, options)
    assert looked == []
    _rewrite_as_0_1_0(options, images)
    plan(images, options)
    assert len(looked) == len(images)
    plan(images, options)
    assert len(looked) == len(images)


@pytest.mark.parametrize("mended_first", [False, True])
def test_prune_keeps_the_row_of_the_later_decoder(
    options: FeaturesOptions, images: ImageSet, mended_first: bool
) -> None:
    _rewrite_as_0_1_0(options, images)
    store = extract(images, options).store
    if mended_first:  # parts are taken by name
        folder = store.table("high", "avg").directory
        parts = sorted(folder.glob("*.h5"))
        parts[-1].rename(folder / "00000000T000000-first.h5")
    with Cache(options.cache) as cache:
        (again,) = (one for one in cache.stores() if one.directory == store.directory)
        again.prune()
        (part,) = again.table("high", "avg").parts
    assert part.revision is not None
    assert int((part.revision == REVISION).sum()) == len(_wrong())
    rows, good = read_rows(part.path)
    assert good.all()
    assert [(row == 1000).all() for row in rows.features] == (rows.revisions == 0).tolist()
    done = extract(images, options)
    assert (done.computed, done.reused) == (0, len(_sound()) + len(_wrong()))


def test_a_part_without_the_column_is_of_revision_0(tmp_path: Path) -> None:
    names = np.array([bytes([number]) * 32 for number in range(1, 4)], "V32")
    rows = PartRows(names, np.zeros(3, np.uint16), np.array([b"a"] * 3), np.ones((3, 4), np.float16))
    path = write_part(tmp_path, rows, {"key": "k"})
    assert open_part(path, {"key": "k"}).revision is None
    assert read_rows(path)[0].revisions.tolist() == [0, 0, 0]
    path = write_part(tmp_path, replace(rows, revision=np.array([1, 0, 1], np.uint16)), {"key": "k"})
    found, good = read_rows(path)
    assert (found.revisions.tolist(), good.all()) == ([1, 0, 1], True)
    assert found.take(np.array([2, 1])).revisions.tolist() == [1, 0]


def test_an_image_remembered_as_unreadable_is_tried_by_a_mended_decoder(
    options: FeaturesOptions, images: ImageSet
) -> None:
    with Cache(options.cache) as cache:
        before = "0123456789abcdef Pillow 12.0.0"
        cache.index.remember_unreadable(before, [(digest, "damaged") for digest in extract(images, options).digests])
    assert len(extract(images, options).bad) == len(_refused())


def test_classes_are_told_by_content(images: ImageSet) -> None:
    for name, content in {**_sound(), **_wrong(), **_refused()}.items():
        assert stale.class_revision(io.BytesIO(content)) == (
            0 if name.startswith("sound") else 3 if "-3-" in name else 2 if "plane" in name else 1
        ), name
