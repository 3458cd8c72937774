"""DICOM files byte by byte (PS3.5 and PS3.10), in explicit little endian, so that nothing of pydicom's is in them."""

from __future__ import annotations

import struct

import numpy as np

LITTLE, JPEG_2000 = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.90"
JPEG_LS, JPEG_LOSSLESS = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.70"
Value = int | float | str | bytes
_LONG = ("OB", "OW", "SQ", "UN")


def element(group: int, number: int, kind: str, value: Value) -> bytes:
    """A data element."""
    content = value if isinstance(value, bytes) else str(value).encode()
    if kind == "US" and isinstance(value, int):
        content = struct.pack("<H", value)
    if len(content) % 2:
        content += b"\0" if kind in ("UI", "OB") else b" "
    head = struct.pack("<HH2s", group, number, kind.encode())
    return head + (struct.pack("<HI", 0, len(content)) if kind in _LONG else struct.pack("<H", len(content))) + content


def sequence(group: int, number: int, *elements: bytes) -> bytes:
    """A sequence of one item."""
    content = b"".join(elements)
    return element(group, number, "SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content)


def dicom(
    values: np.ndarray,
    stored: int,
    *more: bytes,
    kind: str = "MONOCHROME2",
    signed: bool = False,
    syntax: str = LITTLE,
    encoded: bytes | None = None,
) -> bytes:
    """A file of values (height, width), (frames, height, width), or with kind "RGB" (height, width, 3).

    stored : bits of each; more : further elements; encoded : the first frame in another transfer syntax
    """
    colours = 3 if kind == "RGB" else 1
    frames = len(values) if values.ndim == 3 and colours == 1 else 1
    height, width = values.shape[:2] if colours == 3 else values.shape[-2:]
    wide = 8 if stored <= 8 else 16
    numbers = {2: colours, 0x10: height, 0x11: width, 0x100: wide, 0x101: stored, 0x102: stored - 1, 0x103: int(signed)}
    if colours == 3:
        numbers[6] = 0
    elements = [element(0x0028, number, "US", value) for number, value in numbers.items()]
    elements += [element(0x0028, 0x0004, "CS", kind), element(0x0028, 0x0008, "IS", frames), *more]
    elements.sort(key=lambda one: struct.unpack("<HH", one[:4]))
    if encoded is None:
        raw = values.astype(f"<{'i' if signed else 'u'}{wide // 8}").tobytes()
        pixels = element(0x7FE0, 0x0010, "OW" if wide == 16 else "OB", raw)
    else:
        fragments = (b"", encoded + b"\0" * (len(encoded) % 2))
        items = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(one)) + one for one in fragments)
        end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + items + end
    about = element(0x0002, 0x0002, "UI", "1.2.840.10008.5.1.4.1.1.7") + element(0x0002, 0x0003, "UI", "1.2.3")
    about += element(0x0002, 0x0010, "UI", syntax)
    length = element(0x0002, 0x0000, "UL", struct.pack("<I", len(about)))
    return bytes(128) + b"DICM" + length + about + b"".join(elements) + pixels
