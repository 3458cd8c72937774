"""Kinds of files that Pillow alone gets wrong, against pixels known by construction."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import environment
from odd_files import bitmap, chunk, icon, png, tiff
from PIL import Image
from unkind import encode, gradient

from featx.config import DataOptions
from featx.dataset import read_images
from featx.dataset.check import check_images
from featx.images import png as png_files
from featx.images.classes import class_revision
from featx.images.decoder import check_image, decode, decoder_identity, decoder_version, load_image
from featx.images.limits import MAX_SIDE
from featx.images.resize import FILTERS, fit, place
from featx.store.cache import Cache

HEIGHT, WIDTH = 11, 13


def pixels(source: bytes) -> np.ndarray:
    return np.asarray(decode(source)).astype(int)


def numbers(bits: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Random ones, the smallest and the largest among them."""
    values = np.random.default_rng(seed).integers(0, 1 << bits, (HEIGHT, WIDTH, channels))
    values[0, 0], values[0, 1] = 0, (1 << bits) - 1
    return values


def scaled(values: np.ndarray, bits: int) -> np.ndarray:
    return values / ((1 << bits) - 1) * 255


def grey_as_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey.reshape(HEIGHT, WIDTH, 1), 3, axis=2)


def differ(source: bytes, expected: np.ndarray) -> float:
    found = pixels(source)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max())


# --- transparent colours of PNG ----------------------------------------------------------------------------------


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_grey_is_white_at_every_depth(bits: int, interlaced: bool) -> None:
    values = numbers(bits)[..., 0]
    key = int(values[5, 5])
    expected = np.where(values == key, 255, scaled(values, bits))
    assert differ(png(values, bits, [key], interlaced=interlaced), grey_as_rgb(expected)) <= 0.5


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_the_transparent_colour_is_white_at_full_depth(bits: int, interlaced: bool) -> None:
    values = numbers(bits, 3)
    values[5:7] = values[5, 5]
    values[6, :, 1] ^= 1  # only the last bit differs from the transparent colour
    if bits == 16:
        values[7] = (values[5, 5] & 255) << 8 | 3  # high bytes like the low ones of it
    clear = np.all(values == values[5, 5], axis=-1, keepdims=True)
    expected = np.where(clear, 255, scaled(values, bits))
    assert differ(png(values, bits, values[5, 5].tolist(), interlaced=interlaced), expected) <= 1


def test_bits_of_a_transparent_grey_beyond_its_depth_do_not_count() -> None:
    values = numbers(4)[..., 0]
    expected = grey_as_rgb(np.where(values == 5, 255, scaled(values, 4)))
    assert differ(png(values, 4, [0xFF05]), expected) == 0


def test_deep_png_without_a_transparent_colour_is_what_it_was() -> None:
    values = numbers(16, 3)
    np.testing.assert_array_equal(pixels(png(values, 16)), values >> 8)
    assert class_revision(io.BytesIO(png(values, 16))) == 0
    assert class_revision(io.BytesIO(png(values, 16, [1, 2, 3]))) == 1


# --- TIFF --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_grey_tiff_of_every_depth_and_polarity(bits: int, order: str, deflated: bool, white_is_zero: bool) -> None:
    needs_second_decoder()
    values = numbers(bits)
    expected = scaled(values, bits)
    source = tiff(values, bits, 0 if white_is_zero else 1, order=order, deflated=deflated)
    assert differ(source, grey_as_rgb(255 - expected if white_is_zero else expected)) <= 0.5001


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("alpha", [False, True])
def test_rgb_tiff_of_every_layout(bits: int, separate: bool, order: str, deflated: bool, alpha: bool) -> None:
    needs_second_decoder()
    values = numbers(bits, 4 if alpha else 3)
    tags = {"t338": (2,)} if alpha else {}
    source = tiff(values, bits, 2, order=order, separate=separate, deflated=deflated, **tags)
    inks = scaled(values, bits)
    if alpha:
        share = inks[..., 3:] / 255
        inks = inks[..., :3] * share + 255 * (1 - share)
    assert differ(source, inks[..., :3]) <= 2


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("photometric", [1, 2])
def test_bigtiff_of_both_byte_orders(order: str, big: bool, photometric: int) -> None:
    needs_second_decoder()
    values = numbers(8, 1 if photometric == 1 else 3)
    expected = grey_as_rgb(values) if photometric == 1 else values
    assert differ(tiff(values, 8, photometric, order=order, big=big), expected) == 0


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extra", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
def test_grey_tiff_with_alpha(bits: int, extra: int, order: str) -> None:
    needs_second_decoder()
    values = numbers(bits, 2)
    if extra == 1:
        values[..., 0] = np.minimum(values[..., 0], values[..., 1])
    grey, alpha = (scaled(values[..., number], bits) for number in (0, 1))
    expected = grey + 255 - alpha if extra == 1 else grey * alpha / 255 + 255 - alpha
    assert differ(tiff(values, bits, 1, order=order, t338=(extra,)), grey_as_rgb(expected)) <= 1.5


@pytest.mark.parametrize("most", [255, 65_535])
def test_a_colour_map_of_8_bits_is_not_black(most: int) -> None:
    needs_second_decoder()
    values, colours = numbers(8), np.random.default_rng(1).integers(0, 256, (256, 3))
    written = colours if most == 255 else colours * 257
    source = tiff(values, 8, 3, t320=written.T.ravel().tolist())
    assert differ(source, colours[values[..., 0]]) == 0
    assert class_revision(io.BytesIO(source)) == (most == 255)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_mended_tiff_is_turned(orientation: int) -> None:
    needs_second_decoder()
    values = numbers(12)
    expected = np.rot90(grey_as_rgb(scaled(values, 12)), {1: 0, 3: 2, 6: 3, 8: 1}[orientation])
    assert differ(tiff(values, 12, 1, t274=(orientation,)), expected) <= 0.5


@pytest.mark.parametrize(
    ("kind", "bits", "words"),
    [("i1", 8, "signed 8-bit"), ("i2", 16, "signed 16-bit"), ("f4", 32, "32-bit fractions"), ("f8", 64, "64-bit frac")],
)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3])
def test_samples_without_a_known_white_are_refused_truly(
    kind: str, bits: int, words: str, order: str, channels: int
) -> None:
    values = numbers(7, channels)
    content = values.astype(f"{order}{kind}").tobytes()
    formats = (3 if kind[0] == "f" else 2,) * channels
    source = tiff(values, bits, 2 if channels == 3 else 1, order=order, content=content, t339=formats)
    assert words in str(check_image(source))


def test_a_raw_camera_file_is_not_its_thumbnail() -> None:
    thumbnail = tiff(numbers(8, 3), 8, 2, t254=(1,), t330=(8,), t50706=(1, 4))
    assert check_image(thumbnail) == "a raw camera file: convert it to JPEG"
    assert class_revision(io.BytesIO(thumbnail)) == 1
    preview = tiff(numbers(8, 3), 8, 2, t254=(1,), t330=(8,))
    assert "preview" in str(check_image(preview))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("cut", [40, 200, 300])
def test_a_cut_tiff_is_refused(cut: int) -> None:
    needs_second_decoder()
    source = tiff(numbers(12, 3), 12, 2)
    assert check_image(source) is None
    assert check_image(source[:cut]) is not None


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_tiff_of_no_samples_is_refused() -> None:
    source = tiff(numbers(8), 8, 1, t277=(0,))
    assert check_image(source) is not None
    assert class_revision(io.BytesIO(source)) == 0


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_check_notes_once_that_images_of_fewer_bits_are_nearly_black(bits: int, tmp_path: Path) -> None:
    folder = tmp_path / "images" / "cat"
    folder.mkdir(parents=True)
    for seed in range(3):
        values = numbers(bits, seed=seed)
        (folder / f"{seed}.png").write_bytes(png(values[..., 0], 16))
        (folder / f"{seed}.tif").write_bytes(tiff(values, 16, 1))
        (folder / f"{seed}.pgm").write_bytes(b"P5 13 11 65535\n" + values.astype(">u2").tobytes())
        (folder / f"dark {seed}.png").write_bytes(png(numbers(3, 1, seed)[..., 0], 8))
        (folder / f"full {seed}.png").write_bytes(png(numbers(16, 1, seed)[..., 0], 16))
    with Cache(tmp_path / "cache") as cache:
        found = check_images(read_images(str(folder.parent), DataOptions()), cache.index)
    (note,) = [one for one in found.notes if "nearly black" in one]
    assert note.startswith("9 of 15 images are nearly black")
    assert f"of which {bits} are used. Add --levels {bits}bit " in note


# --- JPEG 2000 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["jp2", "j2k"])
@pytest.mark.parametrize("bits", [4, 8, 9, 10, 12, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_jpeg_2000_of_every_depth(bits: int, channels: int, codec: str) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    values = numbers(bits, channels)
    if channels == 4:
        values[..., 3] = (1 << bits) - 1  # opaque
    whole = values.astype("u1" if bits <= 8 else "u2")
    source = imagecodecs.jpeg2k_encode(
        whole[..., 0] if channels == 1 else whole, bitspersample=bits, codecformat=codec, reversible=True, level=0
    )
    inks = scaled(values, bits)
    assert differ(source, grey_as_rgb(inks) if channels == 1 else inks[..., :3]) <= 0.5001
    assert class_revision(io.BytesIO(source)) == (bits != 8)


# --- metadata ----------------------------------------------------------------------------------------------------

_LARGE = zlib.compress(bytes(3_000_000))
_DAMAGED_CHUNKS = {
    "a large profile": chunk(b"iCCP", b"x\0\0" + _LARGE),
    "a profile of unknown compression": chunk(b"iCCP", b"x\0\7" + zlib.compress(b"profile")),
    "a profile that is none": chunk(b"iCCP", b"x\0\0not deflated"),
    "a large text": chunk(b"zTXt", b"x\0\0" + _LARGE),
    "a text of unknown compression": chunk(b"zTXt", b"x\0\7" + zlib.compress(b"text")),
    "a large international text": chunk(b"iTXt", b"x\0\1\0\0\0" + _LARGE),
    "a text of wrong checksum": chunk(b"tEXt", b"x\0y", 1),
    "a short pHYs": chunk(b"pHYs", b"abc"),
    "a short gAMA": chunk(b"gAMA", b"a"),
    "a short cHRM": chunk(b"cHRM", b"abcdef"),
    "a short tRNS": chunk(b"tRNS", b"\0"),
    "a short sRGB": chunk(b"sRGB", b""),
    "a short eXIf": chunk(b"eXIf", b"I", 5),
    "a short acTL": chunk(b"acTL", b"1"),
}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", _DAMAGED_CHUNKS)
def test_damaged_metadata_of_png_costs_nothing(name: str, after: bool) -> None:
    values, damaged = numbers(8, 3), _DAMAGED_CHUNKS[name]
    source = png(values, 8, after=damaged) if after else png(values, 8, before=damaged)
    np.testing.assert_array_equal(pixels(source), values)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("marker", range(0xE0, 0xF0))
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"J",
        b"JFIF\0",
        b"Exif\0\0II",
        b"ICC_PROFILE\0",
        b"MPF\0II*\0\xff\xff\xff\xff",
        b"Adobe",
        b"Photoshop 3.0\x008BIM\x04\x04",
        b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\2ab",
    ],
)
def test_damaged_metadata_of_jpeg_costs_nothing(marker: int, payload: bytes) -> None:
    whole = encode(gradient(), "JPEG", quality=95)
    segment = bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload
    np.testing.assert_array_equal(pixels(whole[:2] + segment + whole[2:]), pixels(whole))


def test_pixels_that_are_damaged_stay_damaged() -> None:
    source = png(numbers(8, 3), 8, before=_DAMAGED_CHUNKS["a short pHYs"])
    assert check_image(source[:-60]) is not None
    at = source.index(b"IDAT") + 20
    assert check_image(source[:at] + bytes([source[at] ^ 255]) + source[at + 1 :]) is not None
    assert png_files.without_metadata(io.BytesIO(png(numbers(8, 3), 8))) is None


# --- alpha of nothing but zeros ----------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [bitmap, icon])
def test_alpha_of_zeros_alone_is_no_transparency(build: Callable[[np.ndarray], bytes]) -> None:
    rgba = numbers(8, 4).astype(np.uint8)
    rgba[..., 3] = 0
    source = build(rgba)
    np.testing.assert_array_equal(pixels(source), rgba[..., :3])
    assert class_revision(io.BytesIO(source)) == 1
    rgba[3, 3, 3] = 255
    shown = pixels(build(rgba))
    assert shown[3, 3].tolist() == rgba[3, 3, :3].tolist()
    assert shown[4, 4].tolist() == [255] * 3


# --- scans -------------------------------------------------------------------------------------------------------


def _scan(source: bytes) -> tuple[int, int]:
    """Where the pixels of a JPEG file begin and end."""
    start = source.index(b"\xff\xda")
    return start + 2 + int.from_bytes(source[start + 2 : start + 4], "big"), len(source) - 2


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_half_a_scan_is_no_picture(mode: str, progressive: bool) -> None:
    pytest.importorskip("simplejpeg")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)).convert(mode)
    source = encode(noise, "JPEG", quality=90, progressive=progressive)
    assert check_image(source) is None
    start, end = _scan(source)
    half = source[: start + (end - start) * 6 // 10].rstrip(b"\xff") + b"\xff\xd9"
    assert "part of which is not the picture" in str(check_image(half))
    load_image(half, (32, 32), "stretch")  # stages that shrink it read it as far as it goes


def test_lost_restart_intervals_are_no_picture() -> None:
    pytest.importorskip("simplejpeg")
    source = encode(gradient(96, 128), "JPEG", quality=90, restart_marker_rows=1)
    first, third = source.index(b"\xff\xd1"), source.index(b"\xff\xd3")
    assert check_image(source) is None
    assert "part of which is not the picture" in str(check_image(source[:first] + source[third:]))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("after", [b"", b"\0\0\0", b"camera notes" * 50])
def test_what_follows_a_whole_scan_does_no_harm(mode: str, after: bytes) -> None:
    source = encode(Image.fromarray(gradient()).convert(mode), "JPEG", quality=90)
    assert check_image(source + after) is None
    assert check_image(source[:-2] + b"\0\0\0" + source[-2:]) is None
    assert check_image(source[:-2] + b"\0" * 500 + source[-2:]) is None


def _overwritten(seed: int, quality: int) -> bytes:
    """A JPEG file of noise and gradients, 40 bytes of whose scan are others."""
    random = np.random.default_rng(seed)
    picture = np.clip(gradient(96, 128).astype(int) + random.integers(-20, 20, (96, 128, 3)), 0, 255).astype(np.uint8)
    whole = bytearray(encode(picture, "JPEG", quality=quality))
    at = random.integers(whole.index(b"\xff\xda") + 14, len(whole) - 200)
    whole[at : at + 40] = random.integers(0, 255, 40, np.uint8).tobytes()
    return bytes(whole)


@pytest.mark.parametrize(("quality", "least"), [(50, 95), (75, 55), (90, 85), (100, 95)])
def test_noise_in_a_scan_is_no_picture(quality: int, least: int) -> None:
    """The JPEG library warns of 95, 3, 0 and 0 of them; no decoder can know of those that are right by chance."""
    pytest.importorskip("simplejpeg")
    reasons = [check_image(_overwritten(seed, quality)) for seed in range(100)]
    assert sum("part of which is not the picture" in str(reason) for reason in reasons) >= least


def test_means_that_no_picture_has_are_found_where_every_code_is_one() -> None:
    """Nothing is odd in these files but that blocks are brighter than white, or darker than black."""
    pytest.importorskip("simplejpeg")
    found = [str(check_image(_overwritten(seed, 75))) for seed in range(100)]
    assert sum("brighter or darker than it can be" in reason for reason in found) >= 20


@pytest.mark.parametrize("kind", ["blocks", "harsh", "white", "black"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_black_and_white_pictures_of_every_quality_are_sound(kind: str, mode: str) -> None:
    random = np.random.default_rng(0)
    blocks = np.kron(random.integers(0, 2, (8, 12, 1)) * 255, np.ones((8, 8, 3)))
    picture = {
        "blocks": blocks,
        "harsh": np.clip((gradient(64, 96).astype(int) - 128) * 6 + 128, 0, 255),
        "white": np.full((64, 96, 3), 255),
        "black": np.zeros((64, 96, 3)),
    }[kind].astype(np.uint8)
    for quality in range(1, 101):
        source = encode(Image.fromarray(picture).convert(mode), "JPEG", quality=quality, progressive=quality % 2 == 0)
        assert check_image(source) is None


# --- words -------------------------------------------------------------------------------------------------------


def _media(major: bytes, *compatible: bytes) -> bytes:
    content = b"ftyp" + major + bytes(4) + b"".join(compatible)
    return (len(content) + 4).to_bytes(4, "big") + content + b"\0\0\0\x08free"


@pytest.mark.parametrize("major", ["heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs", "mif1", "msf1"])
def test_heif_of_every_brand_is_no_video(major: str) -> None:
    assert "HEI" in str(check_image(_media(major.encode(), b"mif1", b"heic")))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_media(b"1234", b"mif1", b"miaf"), "HEIF"),
        (_media(b"mif1", b"mif1", b"avif"), "a damaged AVIF file"),
        (_media(b"mif1", b"mif1", b"heic"), "HEIC"),
        (_media(b"avif", b"mif1")[:12] + bytes(300), "a damaged AVIF file"),
        (_media(bytes(4))[:8] + bytes(300), "a damaged AVIF, HEIC or MP4 file"),
        (bytes(300), "nothing but zero bytes"),
        (_media(b"isom", b"iso2", b"mp41"), "an MP4 video"),
        (_media(b"mp42", b"isom"), "an MP4 video"),
        (_media(b"M4B "), "sound"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "type git lfs pull"),
        (b"/annex/objects/SHA256E-s1--00.jpg\n", "type git annex get"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\x05\x16\x07\0\2\0\0Mac OS X", "AppleDouble"),
        (b"MM\0+" + bytes(30), "TIFF"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "raw camera"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_what_a_file_is_is_told_truly(content: bytes, reason: str) -> None:
    assert reason in str(check_image(content))


@pytest.mark.parametrize("kind", ["TGA", "PCX"])
@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
@pytest.mark.parametrize("options", [{}, {"compression": "tga_rle"}])
def test_tga_and_pcx_are_named(kind: str, mode: str, options: dict[str, str]) -> None:
    source = encode(Image.fromarray(gradient()).convert(mode), kind, **options)
    assert check_image(source) == f"a {kind} image: convert it to PNG"


# --- extreme shapes ----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_side_beyond_the_limit_is_refused_by_the_header() -> None:
    line = np.zeros((1, 1), int)
    header = png(line, 1)
    for size in ((150_000_000, 1), (1, 60_000_000)):
        wide = header[:16] + size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big") + header[24:29]
        source = wide + zlib.crc32(wide[12:]).to_bytes(4, "big") + header[33:]
        assert f"over the limit of {MAX_SIDE:,} on a side" in str(check_image(source))


_BOUNDED = """
import io, resource
import numpy as np
from PIL import Image
from featx.images.decoder import load_image
resource.setrlimit(resource.RLIMIT_AS, (900 << 20,) * 2)
for size in ((1_000_000, 2), (2, 1_000_000)):
    file = io.BytesIO()
    Image.new("L", size, 90).save(file, "PNG")
    for resize in ("stretch", "crop", "pad", "crop:0.875:bicubic"):
        assert load_image(file.getvalue(), (512, 512), resize).shape == (512, 512, 3)
"""


def test_the_longest_sides_take_little_memory() -> None:
    pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-c", _BOUNDED], env=environment(OPENBLAS_NUM_THREADS="1"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_what_is_resampled_down_first_is_what_it_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    image = decode(encode(gradient(400, 8), "PNG"))
    for resize in ("stretch", "crop:0.875", "pad"):
        plain = np.asarray(fit(image, (64, 96), resize)).astype(int)
        with monkeypatch.context() as patch:
            patch.setattr("featx.images.resize._MOST_BETWEEN", 0)
            assert abs(np.asarray(fit(image, (64, 96), resize)) - plain).max() <= 1
    where = place(image.size, (64, 96), "stretch")
    assert np.array_equal(image.resize(where.inner, FILTERS["bilinear"], where.box), fit(image, (64, 96), "stretch"))


def test_an_error_of_resizing_belongs_to_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("featx.images.decoder.fit", fail)
    with pytest.raises(Exception, match="cannot be resized: not enough memory") as caught:
        load_image(encode(gradient(), "PNG"), (8, 8), "stretch")
    assert type(caught.value).__name__ == "BadImage"


# --- identity ----------------------------------------------------------------------------------------------------


def test_the_decoder_is_still_that_of_0_1_0() -> None:
    key = Path(__file__).parent.glob("old_0_1_0/cache/*/key.json")
    assert all(decoder_identity() in path.read_text() for path in key)
    assert "revision 3" in decoder_version()


def needs_second_decoder() -> None:
    pytest.importorskip("imagecodecs")
    pytest.importorskip("tifffile")
