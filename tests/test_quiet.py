"""What decoders say of damaged files stands in featx's own sentence, and nowhere else."""

from __future__ import annotations

import io
import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from format_cells import numbers, png_file
from PIL import Image

from featx.backbones.modelfile import read_config
from featx.errors import BackboneError
from featx.images.decoder import check_image, decode
from featx.images.fault import BadImage
from featx.io.filetypes import describe_damage

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32), np.uint8)


def _tiff(mode: str, **options: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(buffer, "TIFF", **options)
    return buffer.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="libtiff is inside of Pillow's own library there")
@pytest.mark.parametrize(("mode", "compression"), [("1", "group4"), ("RGB", "tiff_adobe_deflate"), ("L", "jpeg")])
def test_libtiff_prints_nothing(mode: str, compression: str, capfd: pytest.CaptureFixture[str]) -> None:
    whole = _tiff(mode, compression=compression)
    at = struct.unpack_from("<I", whole, 4)[0] // 2  # the middle of the pixels, which stand before the tags
    for damaged in (whole[:at] + bytes(40) + whole[at + 40 :], whole.replace(whole[at : at + 6], b"\xff" * 6)):
        reason = check_image(damaged)
        assert reason is None or reason.startswith(("damaged", "truncated", "a damaged"))
    assert check_image(whole) is None
    assert capfd.readouterr() == ("", "")


def test_a_tiff_of_many_samples_is_refused_without_a_line_of_pillow(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    whole = bytearray(_tiff("RGB"))
    at = whole.index(struct.pack("<HHI", 277, 3, 1))
    whole[at + 8 : at + 10] = struct.pack("<H", 259)
    assert check_image(bytes(whole)) is not None
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])


@pytest.mark.parametrize(
    "error",
    [
        TypeError("unsupported operand type(s) for //: 'tuple' and 'int'"),
        AttributeError("'FileDataset' object has no attribute 'PixelData'"),
        KeyError("WIDTH"),
        ValueError("invalid literal for int() with base 10: b'4\\x00'"),
        struct.error("unpack requires a buffer of 4 bytes"),
        ZeroDivisionError("division by zero"),
    ],
)
def test_words_about_code_are_no_reason(error: Exception) -> None:
    assert describe_damage(error) == "damaged: its header makes no sense"


def test_a_number_of_a_decoder_is_no_reason() -> None:
    assert describe_damage(OSError("decoder error -2")) == "damaged: its pixels cannot be decoded"
    assert describe_damage(ValueError("bad Huffman code.")) == "damaged: bad Huffman code"


def test_a_tiff_of_more_bits_than_numbers_have_is_damaged() -> None:
    whole = bytearray(_tiff("L", compression="raw"))
    at = whole.index(struct.pack("<HHI", 258, 3, 1))
    whole[at + 8 : at + 10] = struct.pack("<H", 60_367)
    reason = check_image(bytes(whole))
    assert reason is not None
    assert re.fullmatch("a damaged.* TIFF file.*", reason)


def test_an_interlaced_png_of_16_bits_is_read_in_full_without_a_line(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    values = numbers(16, 3)
    plain, interlaced = (np.asarray(decode(png_file(values, 2, 16, way, 0), levels="minmax")) for way in (False, True))
    np.testing.assert_array_equal(interlaced, plain)
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])


def test_a_place_that_cannot_be_in_a_file_is_damage_and_stays_so(tmp_path: Path) -> None:
    """Windows' icons state where their picture begins, and a picture of theirs where its pixels do."""
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[:16, :16]).convert("RGB").save(buffer, "ICO", bitmap_format="bmp", sizes=[(16, 16)])
    path, content = tmp_path / "icon.ico", bytearray(buffer.getvalue())
    path.write_bytes(content)
    assert check_image(str(path)) is None
    struct.pack_into("<I", content, 30, 1_000_000)  # the height in the header of its picture
    path.write_bytes(content)
    with pytest.raises(BadImage) as refused:
        decode(str(path))
    assert (refused.value.reason, refused.value.transient) == ("damaged: its header makes no sense", False)


def test_words_of_a_file_are_shown_and_not_obeyed() -> None:
    header = b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 2\nMAXVAL 255\nTUPLTYPE GRAY\x1b[2J\nENDHDR\n\0\0"
    reason = check_image(header)
    assert reason is not None
    assert "\\x1b[2J" in reason
    assert reason.isprintable()


def test_a_scan_is_checked_whatever_the_metadata_are() -> None:
    rows, columns = np.mgrid[:240, :320]
    buffer = io.BytesIO()
    Image.fromarray(((rows // 20 * 37 + columns // 20 * 91) % 256).astype(np.uint8)).save(buffer, "JPEG", quality=95)
    whole = buffer.getvalue()
    profile = b"\xff\xe2" + struct.pack(">H", 17) + b"ICC_PROFILE\0\0\0\0"[:15]  # part 0 of 0
    assert check_image(whole[:2] + profile + whole[2:]) is None
    half = whole[: len(whole) // 2] + b"\xff\xd9"
    assert "premature end" in str(check_image(half))
    assert check_image(half[:2] + profile + half[2:]) == check_image(half)


@pytest.mark.parametrize("start", ["/annex/objects/", "../.git/annex/objects/", "../../../.git/annex/objects/"])
def test_pointers_of_git_annex_are_named(start: str) -> None:
    name = "SHA256E-s12--00.jpg"
    assert check_image(f"{start}xx/yy/{name}/{name}\n".encode()) == (
        "a pointer of git-annex, not the image itself: type git annex get"
    )


def test_what_a_missing_member_says_is_not_in_quotes(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(b"PK\5\6" + bytes(18))
    with pytest.raises(BackboneError, match=r"Keras 3: There is no item named 'config.json' in the archive\."):
        read_config(path)
