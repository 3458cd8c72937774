from __future__ import annotations

import hashlib
import io
import struct
import threading
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image, ImageOps
from unkind import bomb, encode, gradient, make_unkind_folder, rotated_jpeg

from featx.errors import DataError, UsageError
from featx.images import resize
from featx.images.batches import Decoding, iter_batches
from featx.images.decoder import BadImage, check_image, decode, decoder_identity, decoder_version, load_image
from featx.images.probes import PROBES
from featx.images.resize import place
from featx.images.sources import Pinned, source_name

SIZE = (24, 32)


def pixels(source: Path | bytes) -> np.ndarray:
    return np.asarray(decode(source))


def plain(source: bytes, size: tuple[int, int]) -> np.ndarray:
    """Pillow's own way: upright, RGB, antialiased bilinear, no draft."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(source))).convert("RGB")
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)


# Decoding


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "QOI"])
def test_a_lossless_format_gives_its_pixels(kind: str) -> None:
    if kind == "QOI":
        source = encode(gradient(), "QOI")
    else:
        source = encode(gradient(), kind)
    np.testing.assert_array_equal(pixels(source), gradient())


@pytest.mark.parametrize("options", [{"lossless": True}, {"lossless": True, "exact": True}])
def test_lossless_webp_gives_its_pixels(options: dict[str, bool]) -> None:
    np.testing.assert_array_equal(pixels(encode(gradient(), "WEBP", **options)), gradient())


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000", "AVIF", "MPO"])
def test_a_lossy_format_comes_near(kind: str) -> None:
    try:
        source = encode(gradient(96, 128), kind, quality=95)
    except (KeyError, OSError) as error:
        pytest.skip(f"Pillow cannot write {kind} here: {error}")
    assert abs(pixels(source).astype(int) - gradient(96, 128)).mean() < 4


def test_a_path_as_text_and_as_a_path_and_its_bytes_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "übung 1.png"
    file.write_bytes(encode(gradient(), "PNG"))
    for source in (file, str(file), file.read_bytes()):
        np.testing.assert_array_equal(load_image(source, SIZE, "stretch"), plain(file.read_bytes(), SIZE))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_honoured(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    source = encode(gradient(), kind, exif=exif, **options)
    upright = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a),
    }[orientation](gradient().astype(int))
    assert pixels(source).shape == upright.shape
    assert abs(pixels(source) - upright).mean() < 2


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_exif_costs_nothing() -> None:
    source = encode(gradient(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff nonsense")
    np.testing.assert_array_equal(pixels(source), gradient())


def test_16_bits_are_scaled_by_257_and_not_clipped() -> None:
    wide = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    for kind in ("PNG", "TIFF"):
        grey = pixels(encode(wide, kind))
        np.testing.assert_array_equal(grey[..., 0].ravel(), np.arange(256))
        np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    np.testing.assert_array_equal(pixels(encode(np.uint16([[128, 129, 65_535]]), "PNG"))[0, :, 0], [0, 1, 255])


def test_16_bit_big_endian_tiff_and_pgm() -> None:
    wide = np.array([[0, 257 * 7, 65_535]], ">u2")
    pgm = b"P5 3 1 65535\n" + wide.tobytes()
    np.testing.assert_array_equal(pixels(pgm)[0, :, 0], [0, 7, 255])
    big = encode(Image.frombytes("I;16B", (3, 1), wide.tobytes()), "TIFF")
    np.testing.assert_array_equal(pixels(big)[0, :, 0], [0, 7, 255])


def test_transparency_is_laid_over_white() -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0], rgba[0, 1], rgba[1, 0] = (255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 128)
    shown = pixels(encode(rgba, "PNG"))
    np.testing.assert_array_equal(shown[0, 0], [255, 0, 0])
    np.testing.assert_array_equal(shown[0, 1], [255, 255, 255])
    assert abs(int(shown[1, 0, 0]) - 127) <= 1


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.fromarray(gradient()).convert(mode)
    kind = {"CMYK": "TIFF", "YCbCr": "TIFF"}.get(mode, "PNG")
    shown = decode(encode(image, kind))
    assert shown.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_the_transparent_colour_of_a_palette_is_white(kind: str) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.putpixel((0, 0), 0)
    shown = pixels(encode(image, kind, transparency=0))
    np.testing.assert_array_equal(shown[0, 0], [255, 255, 255])
    np.testing.assert_array_equal(shown[1, 1], [200, 0, 0])


def test_partly_transparent_palette_and_transparent_grey() -> None:
    image = Image.new("P", (2, 1), 1)
    image.putpalette([0, 0, 0, 0, 0, 0])
    image.putpixel((0, 0), 0)
    shown = pixels(encode(image, "PNG", transparency=bytes([0, 128])))
    assert shown[0, 0].tolist() == [255] * 3
    assert abs(int(shown[0, 1, 0]) - 127) <= 1
    assert pixels(encode(Image.new("L", (1, 1), 9), "PNG", transparency=9)).tolist() == [[[255] * 3]]


def test_cmyk_jpegs_are_not_inverted() -> None:
    white = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    assert pixels(encode(white, "JPEG", quality=95)).min() > 250


def test_ycck_jpegs_are_neither_inverted_nor_green() -> None:
    # The planes hold 0, 128, 128 and 255. Read as YCCK that is CMYK 255, 255, 255, 255, and Adobe stores it inverted.
    source = encode(Image.new("CMYK", (16, 16), (255, 127, 127, 0)), "JPEG", quality=95)
    transform = source.index(b"Adobe") + 11
    assert source[transform] == 0
    assert pixels(source[:transform] + b"\x02" + source[transform + 1 :]).min() > 250


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})])
def test_an_animation_is_its_first_frame(kind: str, options: dict[str, bool]) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    source = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(pixels(source), np.asarray(frames[0]))


def test_32_bit_pixels_are_refused_with_the_reason() -> None:
    assert "32-bit fractions" in str(check_image(encode(np.ones((4, 4), np.float32), "TIFF")))
    assert "32-bit whole numbers" in str(check_image(encode(np.ones((4, 4), np.int32), "TIFF")))


# Bad images


def test_an_unkind_folder(tmp_path: Path) -> None:
    for name, reason in make_unkind_folder(tmp_path).items():
        found = check_image(tmp_path / name)
        if reason is None:
            assert found is None, name
            assert load_image(tmp_path / name, SIZE, "pad").shape == (*SIZE, 3)
        else:
            assert found is not None, name
            assert reason in found


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x00\x00\x00\x18ftypqt  xxxx", "QuickTime"),
        (b"\x00\x00\x00\x18ftypheic0000", "HEIC"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "AVI video"),
        (b"\x1aE\xdf\xa3" + b"\x00" * 40, "WebM video"),
        (b"%PDF-1.7\n", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "PostScript"),
        (b"PK\x03\x04rest", "ZIP"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\n<!DOCTYPE html><title>404</title>", "web page"),
        ("Größe: 12 €\n".encode() * 400, "text"),
        (b"\x00" * 1000, "zero bytes"),
        (b"\x93\x17\x01\xfe" * 50, "not an image that Pillow can read"),
        (b"\xff\xd8\xff\xe0\x00", "damaged JPEG"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"", "empty file"),
    ],
)
def test_what_is_no_image_is_named(content: bytes, reason: str) -> None:
    assert reason in str(check_image(content))


def test_files_that_cannot_be_opened_are_named(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert check_image(tmp_path / "none.jpg") == "no such file"
    assert check_image(tmp_path) == "a folder, not a file"
    assert "itself" in str(check_image(loop))
    with pytest.raises(BadImage, match=r"none\.jpg: no such file") as caught:
        decode(tmp_path / "none.jpg")
    assert isinstance(caught.value, DataError)
    assert caught.value.transient


def test_a_named_pipe_does_not_hang(tmp_path: Path) -> None:
    os = pytest.importorskip("os")
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert check_image(tmp_path / "pipe.jpg") == "a device or pipe, not a file"


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    source = bomb()[:1000]  # of the pixels next to nothing is there: decoding would find it truncated
    assert check_image(source) == "400 megapixels: over the limit of 179"


def test_a_missing_file_is_transient_and_damage_is_not(tmp_path: Path) -> None:
    with pytest.raises(BadImage) as caught:
        decode(encode(gradient(), "PNG")[:-60])
    assert not caught.value.transient
    assert caught.value.reason.startswith(("truncated", "damaged"))


KINDS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "tiff_lzw", "BMP", "PPM", "JPEG2000", "QOI", "ICO", "AVIF")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::RuntimeWarning:PIL")
def test_flipped_bytes_and_cuts_give_an_image_or_a_bad_image(kind: str) -> None:
    picture = Image.fromarray(gradient(16, 24))
    options = {"compression": kind} if kind == "tiff_lzw" else {}
    try:
        source = encode(picture, "TIFF" if options else kind, **options)
    except (KeyError, OSError) as error:
        pytest.skip(f"Pillow cannot write {kind} here: {error}")
    random = np.random.default_rng(0)
    outcomes: set[object] = set()
    for _ in range(150):
        damaged = bytearray(source)
        for spot in random.integers(0, min(len(source), 200), 3):
            damaged[spot] = random.integers(256)
        cut = bytes(damaged[: random.integers(1, len(source) + 1)]) if random.random() < 0.5 else bytes(damaged)
        try:
            shape = load_image(cut, SIZE, "stretch").shape
        except BadImage as error:
            outcomes.add(error.reason)
        else:
            outcomes.add(shape)
    assert len(outcomes) > 1
    assert all(outcome == (*SIZE, 3) or (isinstance(outcome, str) and outcome) for outcome in outcomes)


# Resizing


def test_stretch_is_antialiased_bilinear() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    shown = load_image(encode(stripes, "PNG"), (8, 8), "stretch")
    assert shown.dtype == np.uint8
    assert abs(shown.astype(int) - 127).max() < 12  # without antialiasing it would be black or white
    source = encode(gradient(301, 197), "PNG")
    np.testing.assert_array_equal(load_image(source, (50, 40), "stretch"), plain(source, (50, 40)))


def test_crop_keeps_the_middle_and_the_proportions() -> None:
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, 20:60] = gradient(40, 40)
    shown = load_image(encode(wide, "PNG"), (40, 40), "crop")
    np.testing.assert_array_equal(shown, gradient(40, 40))


@pytest.mark.parametrize("side", [49, 55, 98, 103])  # side - 64 / (64 / side) is less than 0 where it is rounded
def test_a_square_is_cropped_to_itself(side: int) -> None:
    source = encode(gradient(side, side), "PNG")
    np.testing.assert_array_equal(load_image(source, (64, 64), "crop"), load_image(source, (64, 64), "stretch"))


def test_pad_keeps_everything_on_grey() -> None:
    shown = load_image(encode(gradient(20, 40), "PNG"), (40, 40), "pad")
    np.testing.assert_array_equal(shown[10:30], gradient(20, 40))
    assert (shown[:10] == 127).all()
    assert (shown[30:] == 127).all()


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 7)])
def test_odd_shapes(resize: str, shape: tuple[int, int]) -> None:
    source = encode(np.full((*shape, 3), 127, np.uint8), "PNG")
    assert (load_image(source, SIZE, resize) == 127).all()


def test_an_unknown_resize_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="stretch, crop, pad"):
        load_image(encode(gradient(), "PNG"), SIZE, "fill")


def photo(height: int, width: int) -> np.ndarray:
    from sklearn.datasets import load_sample_image

    return np.asarray(
        Image.fromarray(load_sample_image("flower.jpg")).resize((width, height), Image.Resampling.BICUBIC)
    )


def test_draft_changes_little_and_never_goes_below_the_size() -> None:
    source = encode(photo(1000, 1504), "JPEG", quality=92)
    for size in ((224, 224), (150, 150), (100, 300)):
        drafted = decode(source, size)
        assert drafted.height >= size[0]
        assert drafted.width >= size[1]
        assert drafted.height < 1000
        difference = abs(load_image(source, size, "stretch") - plain(source, size))
        assert difference.mean() < 1.2


def test_draft_respects_sideways_orientation() -> None:
    source = rotated_jpeg(photo(1000, 1504), 6)
    size = (150, 100)
    assert decode(source, size).size[::-1] == (1504 // 8, 1000 // 8)
    assert abs(load_image(source, size, "stretch") - plain(source, size)).mean() < 1.2


@pytest.mark.parametrize(
    ("image", "size", "resize", "seen"),
    [
        ((200, 100), (50, 50), "stretch", (0, 0, 200, 100)),
        ((200, 100), (50, 50), "crop", (50, 0, 150, 100)),
        ((200, 100), (50, 50), "pad", (0, -48, 200, 152)),  # 25 rows of 4 pixels each, 12 above
        ((100, 200), (50, 100), "crop", (0, 75, 100, 125)),
    ],
)
def test_where_an_image_goes(image: tuple[int, int], size: tuple[int, int], resize: str, seen: tuple[int, ...]) -> None:
    placement = place(image, size, resize)
    assert placement.frame == size[::-1]
    assert placement.padded == (resize == "pad")
    assert placement.seen == pytest.approx(seen)


def test_a_source_is_called_by_its_path_or_its_number() -> None:
    assert source_name("a.png", 3) == "a.png"
    assert source_name(Path("a.png"), 3) == "a.png"
    assert source_name(Pinned("s3://b/a.png", b""), 3) == "s3://b/a.png"
    assert source_name(b"bytes", 3) == "image 4"


# Identity


def test_the_probes_are_those_of_every_version() -> None:
    whole = hashlib.sha256(b"".join(PROBES.values())).hexdigest()
    assert whole == "0985ca1ed78ec6ab8472a76ba22d60577f97930398fce168f51df4c06ce0f459"


@pytest.mark.skipif(PIL.__version__ != "13.0.0", reason="another Pillow may make other pixels of them")
def test_the_decoder_is_that_of_every_version() -> None:
    assert decoder_identity() == "851902b1629b6790b9d15626dc7609ebcabb529609a9ec9e7578cb0d2bd04beb"


def test_the_identity_is_stable_and_sensitive(monkeypatch: pytest.MonkeyPatch) -> None:
    first = decoder_identity()
    assert len(bytes.fromhex(first)) == 32
    assert decoder_version().startswith(first[:16])
    decoder_identity.cache_clear()
    assert decoder_identity() == first
    monkeypatch.setattr(resize, "PAD_COLOUR", (126, 127, 127))
    decoder_identity.cache_clear()
    assert decoder_identity() != first
    monkeypatch.undo()
    decoder_identity.cache_clear()
    assert decoder_identity() == first


def test_every_probe_can_be_read() -> None:

    assert [check_image(probe) for probe in PROBES.values()] == [None] * len(PROBES)


# Batches


@pytest.fixture
def folder(tmp_path: Path) -> list[str]:
    paths = []
    for number in range(23):
        path = tmp_path / f"{number:02d}.png"
        path.write_bytes(b"broken" if number in (3, 9, 10, 11) else encode(np.full((9, 9, 3), number, np.uint8), "PNG"))
        paths.append(str(path))
    return paths


@pytest.mark.parametrize("workers", [0, 1, 5])
def test_batches_keep_the_order_and_a_bad_image_costs_only_itself(folder: list[str], workers: int) -> None:
    order = list(range(22, -1, -1))
    batches = list(iter_batches(folder, iter(order), Decoding(SIZE, "stretch", 4, workers)))
    assert [len(batch.rows) + len(batch.unreadable) for batch in batches] == [4, 4, 4, 4, 4, 3]
    assert [row for batch in batches for row in batch.rows] == [row for row in order if row not in (3, 9, 10, 11)]
    assert [row for batch in batches for row, _ in batch.unreadable] == [11, 10, 9, 3]
    for batch in batches:
        assert batch.images.shape == (len(batch.rows), *SIZE, 3)
        assert batch.images.dtype == np.uint8
        np.testing.assert_array_equal(batch.images[:, 0, 0, 0], batch.rows)
        assert all("text" in reason for _, reason in batch.unreadable)
        assert not batch.transient
        assert batch.seconds > 0


def test_a_batch_of_nothing_but_bad_images_is_empty(folder: list[str], tmp_path: Path) -> None:
    (batch,) = iter_batches([folder[9], b"", str(tmp_path / "gone.png")], range(3), Decoding(SIZE, "stretch", 8))
    assert batch.images.shape == (0, *SIZE, 3)
    assert [row for row, _ in batch.unreadable] == [0, 1, 2]
    assert batch.transient == {2}


def test_bytes_are_decoded_too() -> None:
    (batch,) = iter_batches([encode(gradient(), "PNG")], [0], Decoding((48, 64), "stretch", 8))
    np.testing.assert_array_equal(batch.images[0], gradient())


def test_no_rows_no_batches(folder: list[str]) -> None:
    assert list(iter_batches(folder, [], Decoding(SIZE, "stretch", 4))) == []


def test_rows_are_claimed_lazily_and_closing_stops_the_threads(folder: list[str]) -> None:
    claimed: list[int] = []

    def claim() -> object:
        for number in range(100_000):
            claimed.append(number)
            yield number % 23

    batches = iter_batches(folder, claim(), Decoding(SIZE, "stretch", 8, 2))
    for _ in range(5):
        next(batches)
    assert len(claimed) <= 8 * (5 + 3)
    batches.close()
    seen = len(claimed)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("featx-decode")]
    assert len(claimed) == seen


def test_a_failing_claim_reaches_the_caller(folder: list[str]) -> None:
    def claim() -> object:
        yield 0
        raise RuntimeError("lease lost")

    with pytest.raises(RuntimeError, match="lease lost"):
        list(iter_batches(folder, claim(), Decoding(SIZE, "stretch", 1, 1)))


def test_senseless_batches_are_refused(folder: list[str]) -> None:
    with pytest.raises(UsageError):
        next(iter_batches(folder, [0], Decoding(SIZE, "fill", 4)))
    with pytest.raises(UsageError):
        next(iter_batches(folder, [0], Decoding(SIZE, "stretch", 0)))


def test_an_image_without_pixels_is_refused() -> None:
    content = encode(np.full((24, 32, 3), 7, np.uint8), "TIFF")
    height = content.index(struct.pack("<H", 257))  # the tag ImageLength
    spoiled = content[: height + 8] + bytes(4) + content[height + 12 :]
    assert check_image(spoiled) == "damaged: it has no pixels"
    with pytest.raises(BadImage, match="it has no pixels"):
        load_image(spoiled, (16, 16), "stretch")
