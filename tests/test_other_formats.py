"""HEIC, JPEG XL and DICOM: right values, and true words without what reads them."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cached import extract
from dicom_files import JPEG_2000, JPEG_LOSSLESS, JPEG_LS, dicom, element, sequence
from PIL import Image
from unkind import encode, gradient

from featx.config import DataOptions, FeaturesOptions
from featx.dataset import read_images
from featx.images.decoder import check_image, decode, decoder_version, read_stated

HEIGHT, WIDTH = 22, 34
HALF = 0.501  # what rounding to whole numbers takes
ALPHA = 1.5  # colour, alpha and what is laid over white are rounded one after the other


def numbers(bits: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 1 << bits, (HEIGHT, WIDTH, channels))
    values[0, 0], values[0, 1] = 0, (1 << bits) - 1
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


def over_white(values: np.ndarray, bits: int) -> np.ndarray:
    """What RGB, or grey, with or without alpha, is over white: 0 to 255, in fractions."""
    shares = values / ((1 << bits) - 1)
    if shares.shape[2] in (1, 2):
        shares = np.concatenate([np.repeat(shares[..., :1], 3, 2), shares[..., 1:]], axis=2)
    if shares.shape[2] == 4:
        shares = shares[..., :3] * shares[..., 3:] + 1 - shares[..., 3:]
    return shares * 255


def differ(source: bytes, expected: np.ndarray) -> float:
    found = np.asarray(decode(source)).astype(float)
    assert found.shape == expected.shape
    stated = read_stated(source)
    assert stated is not None
    assert stated.pixels == found.shape[0] * found.shape[1]
    return float(np.abs(found - expected).max())


# --- JPEG XL -----------------------------------------------------------------------------------------------------


def jpeg_xl(values: np.ndarray, **options: Any) -> bytes:
    codecs = pytest.importorskip("imagecodecs")
    return bytes(codecs.jpegxl_encode(values[..., 0] if values.shape[2] == 1 else values, lossless=True, **options))


@pytest.mark.parametrize("boxes", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_jpeg_xl(bits: int, channels: int, boxes: bool) -> None:
    values = numbers(bits, channels)
    source = jpeg_xl(values, bitspersample=bits, usecontainer=boxes)
    assert differ(source, over_white(values, bits)) <= (ALPHA if channels in (2, 4) else HALF)


SIZES = [(8, 8), (256, 256), (40, 48), (30, 40), (100, 150), (1, 3), (300, 7), (9, 16), (90, 160)]


@pytest.mark.parametrize("size", SIZES)
def test_the_size_of_jpeg_xl_is_known_by_its_header(size: tuple[int, int]) -> None:
    stated = read_stated(jpeg_xl(np.zeros((*size, 3), np.uint8)))
    assert stated is not None
    assert (stated.height, stated.width) == size


def test_lossy_jpeg_xl_is_near_its_picture() -> None:
    picture = gradient(64, 96)
    source = pytest.importorskip("imagecodecs").jpegxl_encode(picture, distance=0.5)
    assert np.abs(np.asarray(decode(source)).astype(float) - picture).mean() < 1.5


def test_fractions_of_jpeg_xl_are_refused() -> None:
    values = np.random.default_rng(0).random((HEIGHT, WIDTH, 3)).astype(np.float32)
    assert "fractions" in str(check_image(jpeg_xl(values)))


def test_a_large_jpeg_xl_is_refused_by_its_header() -> None:
    source = jpeg_xl(np.zeros((400, 400, 3), np.uint8))
    with pytest.raises(Exception, match="over the limit"):
        decode(source, max_pixels=100_000)


# --- HEIC --------------------------------------------------------------------------------------------------------


def heic(values: np.ndarray, mode: str) -> bytes:
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    file = heif.from_bytes(mode, values.shape[1::-1], values.tobytes())
    file.save(buffer, quality=-1, chroma=444, matrix_coefficients=0)  # without a loss
    return buffer.getvalue()


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("RGBA", 4)])
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_heic(monkeypatch: pytest.MonkeyPatch, bits: int, mode: str, channels: int) -> None:
    heif = pytest.importorskip("pillow_heif")
    monkeypatch.setattr(heif.options, "SAVE_HDR_TO_12_BIT", bits == 12)
    values = numbers(bits, channels)
    source = heic(values if bits == 8 else values << (16 - bits), mode if bits == 8 else f"{mode};16")
    assert differ(source, over_white(values, bits)) <= (ALPHA if channels == 4 else HALF)


def test_grey_heic() -> None:
    values = numbers(8)
    assert differ(heic(values[..., 0], "L"), over_white(values, 8)) <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_turned_once(orientation: int) -> None:
    heif = pytest.importorskip("pillow_heif")
    picture = Image.fromarray(gradient(40, 64))
    exif = Image.Exif()
    exif[0x112] = orientation
    plain, buffer = io.BytesIO(), io.BytesIO()
    picture.save(plain, "TIFF", exif=exif)
    heif.from_pillow(picture).save(buffer, quality=-1, chroma=444, matrix_coefficients=0, exif=exif.tobytes())
    assert differ(buffer.getvalue(), np.asarray(decode(plain.getvalue())).astype(float)) <= 1


def test_a_large_heic_is_refused_by_its_header() -> None:
    with pytest.raises(Exception, match="over the limit"):
        decode(heic(np.zeros((300, 400, 3), np.uint8), "RGB"), max_pixels=100_000)


# --- DICOM -------------------------------------------------------------------------------------------------------

CENTRE, WIDE, FUNCTION = (0x0028, 0x1050, "DS"), (0x0028, 0x1051, "DS"), (0x0028, 0x1056, "CS")
INTERCEPT, SLOPE = (0x0028, 0x1052, "DS"), (0x0028, 0x1053, "DS")
GREY = pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])


def needs_pydicom() -> None:
    pytest.importorskip("pydicom")


def shown(shares: np.ndarray, kind: str = "MONOCHROME2") -> np.ndarray:
    shares = np.clip(shares, 0, 1)
    return np.repeat(255 * (1 - shares if kind == "MONOCHROME1" else shares)[..., None], 3, axis=2)


@GREY
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_dicom_without_a_window_shows_all_its_bits(bits: int, signed: bool, kind: str) -> None:
    needs_pydicom()
    values = numbers(bits)[..., 0].astype(int)
    source = dicom(values - (signed << (bits - 1)), bits, kind=kind, signed=signed)
    assert differ(source, shown(values / ((1 << bits) - 1), kind)) <= HALF


@GREY
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (1, -1024), (0.5, 10), (2, -100)])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
def test_a_window_of_rescaled_numbers(function: str | None, slope: float, intercept: float, kind: str) -> None:
    """The formulas are those of PS3.3, C.11.2.1.2 and C.11.2.1.3."""
    needs_pydicom()
    stored, centre, width = np.random.default_rng(0).integers(-2048, 2048, (HEIGHT, WIDTH)), 40.0, 400.0
    more = [element(*CENTRE, "40\\300"), element(*WIDE, "400\\1500")]  # of two windows the first counts
    more += [element(*INTERCEPT, intercept), element(*SLOPE, slope)]
    more += [element(*FUNCTION, function)] if function else []
    x = stored * slope + intercept
    if function == "SIGMOID":
        shares = 1 / (1 + np.exp(-4 * (x - centre) / width))
    elif function == "LINEAR_EXACT":
        shares = (x - centre) / width + 0.5
    else:
        shares = (x - (centre - 0.5)) / (width - 1) + 0.5
    assert differ(dicom(stored, 12, *more, kind=kind, signed=True), shown(shares, kind)) <= HALF


def test_a_table_in_place_of_a_window() -> None:
    needs_pydicom()
    stored = numbers(8)[..., 0]
    entries = np.linspace(0, 4095, 200).round().astype("<u2")[::-1]
    described = np.array([200, 30, 12], "<u2").tobytes()
    table = (element(0x0028, 0x3002, "US", described), element(0x0028, 0x3006, "OW", entries.tobytes()))
    shares = entries[np.clip(stored.astype(int) - 30, 0, 199)] / 4095
    assert differ(dicom(stored, 8, sequence(0x0028, 0x3010, *table)), shown(shares)) <= HALF


@pytest.mark.parametrize(
    ("syntax", "codec", "options"),
    [
        (JPEG_2000, "jpeg2k", {"codecformat": "j2k", "level": 0}),
        (JPEG_LS, "jpegls", {}),
        (JPEG_LOSSLESS, "ljpeg", {"bitspersample": 12}),
    ],
)
def test_compressed_dicom(syntax: str, codec: str, options: dict[str, Any]) -> None:
    needs_pydicom()
    values = numbers(12)[..., 0]
    encoded = getattr(pytest.importorskip("imagecodecs"), f"{codec}_encode")(values, **options)
    assert differ(dicom(values, 12, syntax=syntax, encoded=bytes(encoded)), shown(values / 4095)) <= HALF


def test_colour_and_frames_of_dicom() -> None:
    needs_pydicom()
    colours = numbers(8, 3)
    assert differ(dicom(colours, 8, kind="RGB"), colours.astype(float)) == 0
    frames = np.stack([numbers(16, seed=seed)[..., 0] for seed in range(3)])
    assert differ(dicom(frames, 16), shown(frames[0] / 65_535)) <= HALF


def test_dicom_without_an_image_is_refused() -> None:
    needs_pydicom()
    whole = dicom(numbers(8)[..., 0], 8)
    assert check_image(whole[: whole.index(b"\x28\x00\x02\x00US")]) == "a DICOM file without an image"
    assert "a damaged DICOM file" in str(check_image(whole[:-200]))


def test_a_large_dicom_is_refused_by_its_header() -> None:
    needs_pydicom()
    with pytest.raises(Exception, match="over the limit"):
        decode(dicom(np.zeros((300, 400), int), 8), max_pixels=100_000)


# --- what is installed -------------------------------------------------------------------------------------------


def test_a_file_whose_package_is_missing_names_it_and_it_alone_is_computed_with_it(
    tiny_backbone: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_pydicom()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "photo.heic").write_bytes(heic(numbers(8, 3), "RGB"))
    (tmp_path / "images" / "scan.dcm").write_bytes(dicom(numbers(12)[..., 0], 12))
    (tmp_path / "images" / "photo.png").write_bytes(encode(gradient(22, 34), "PNG"))
    images = read_images(str(tmp_path / "images"), DataOptions())
    options = FeaturesOptions(backbone=str(tiny_backbone), layer=("high",), cache=str(cache))
    found = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> Any:
        return None if name in ("pillow_heif", "pydicom") else found(name, package)

    decoder_version.cache_clear()
    with monkeypatch.context() as patched:
        for module in ("heif", "dicom", "decoder"):
            patched.setattr(f"featx.images.{module}.find_spec", without)
        done = extract(images, options)
    decoder_version.cache_clear()
    assert done.computed == 1
    assert {Path(one["path"]).name: one["reason"] for one in done.bad} == {
        "photo.heic": "a HEIC image: convert it to JPEG, or type pip install 'featx[heic]'",
        "scan.dcm": "a DICOM file: convert it to PNG, or type pip install 'featx[dicom]'",
    }
    with_them = extract(images, options)
    assert (with_them.computed, with_them.reused, with_them.bad) == (2, 1, [])


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("kind", ["heic", "jxl", "dicom"])
def test_damaged_files_are_refused_in_a_sentence(kind: str) -> None:
    needs_pydicom()
    values = numbers(8, 3)
    make = {
        "heic": lambda: heic(values, "RGB"),
        "jxl": lambda: jpeg_xl(values),
        "dicom": lambda: dicom(values[..., 0], 8),
    }
    whole, random = make[kind](), np.random.default_rng(0)
    for _ in range(300):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[random.integers(0, len(damaged), 4)] = random.integers(0, 256, 4)
        reason = check_image(damaged.tobytes()[: random.integers(len(whole) // 2, len(whole) + 1)])
        assert reason is None or 5 < len(reason) < 400
