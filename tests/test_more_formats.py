"""JPEG files that the JPEG library does not reduce, and headers that promise too much."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from window_format_cells import bmp_header, run_length_bmp

from featx.images.decoder import decode, read_stated
from featx.images.fault import BadImage

imagecodecs = pytest.importorskip("imagecodecs")
PICTURE = np.random.default_rng(0).integers(0, 256, (48, 64), np.uint8)


def test_a_lossless_jpeg_is_never_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for an eighth of one, simplejpeg writes all of it into the memory for an eighth."""
    simplejpeg = pytest.importorskip("simplejpeg")

    asked, whole = [], simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *given, **more: asked.append(1) or whole(*given, **more))
    source = bytes(imagecodecs.ljpeg_encode(PICTURE))
    assert np.array_equal(np.asarray(decode(source))[..., 0], PICTURE)
    assert np.array_equal(np.asarray(decode(source, (6, 8)))[..., 0], PICTURE)
    assert asked == []
    decode(bytes(imagecodecs.jpeg8_encode(PICTURE)))
    assert asked


@pytest.mark.parametrize("bits", [12, 16])
def test_the_size_of_a_deep_jpeg_is_known_by_its_header(bits: int) -> None:
    source = bytearray(imagecodecs.jpeg8_encode(PICTURE.astype(np.uint16), bitspersample=bits, lossless=True))
    stated = read_stated(bytes(source))
    assert stated is not None
    assert (stated.width, stated.height) == (64, 48)
    at = source.index(b"\xff\xc3")
    struct.pack_into(">HH", source, at + 5, 60_000, 60_000)
    with pytest.raises(BadImage, match="megapixels"):
        decode(bytes(source))


def test_a_large_bmp_of_runs_is_refused_by_its_header() -> None:
    source = bytearray(run_length_bmp(0))
    struct.pack_into("<ii", source, 18, 60_000, 60_000)
    with pytest.raises(BadImage, match="megapixels"):
        decode(bytes(source))


def test_a_bmp_that_ends_within_its_runs_is_truncated() -> None:
    with pytest.raises(BadImage, match="truncated"):
        decode(run_length_bmp(0)[:-40])


def test_colours_in_bits_that_are_apart_are_refused() -> None:
    header = bmp_header(56, 4, 16, 3, 32, 0, (0x5555, 0x2, 0x8))
    source = b"BM" + struct.pack("<IHHI", 14 + 56 + 400, 0, 0, 14 + 56) + header + bytes(400)
    with pytest.raises(BadImage, match="bits that are apart"):
        decode(source)


def test_a_pam_file_of_other_channels_is_refused() -> None:
    head = b"P7\nWIDTH 2\nHEIGHT 2\nDEPTH 5\nMAXVAL 255\nTUPLTYPE SPECTRA\nENDHDR\n"
    with pytest.raises(BadImage, match="SPECTRA"):
        decode(head + bytes(20))
    with pytest.raises(BadImage, match="damaged PAM"):
        decode(head.replace(b"DEPTH 5", b"DEPTH x") + bytes(20))
