"""DICOM images, by pydicom, an extra: pip install 'featx[dicom]'. The first frame, as its window shows it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import IO, Any

import numpy as np
from PIL import Image

from featx.images.fault import DAMAGE, BadImage
from featx.images.samples import need, over_white, to_8_bits

PACKAGE = "pydicom"
_PALETTE, _BIG_ENDIAN, _DEFLATED = "PALETTE COLOR", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_GREY = ("MONOCHROME1", "MONOCHROME2")
# What it finds odd is no news to who reads images.
warnings.filterwarnings("ignore", module=r"pydicom")
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
# What pydicom has no decoder of its own for: transfer syntaxes by their number, and who decodes them (PS3.5, annex A).
_SYNTAX = "1.2.840.10008.1.2.4."
_CODECS = {
    "51": "jpeg8",  # of 12 bits, which Pillow does not decode
    **dict.fromkeys(("57", "70"), "ljpeg"),
    **dict.fromkeys(("80", "81"), "jpegls"),
    **dict.fromkeys(("90", "91", "201", "202", "203"), "jpeg2k"),
    **dict.fromkeys(("110", "111", "112"), "jpegxl"),
}


def is_dicom(head: bytes) -> bool:
    """Whether a file begins as one, and can be read."""
    return head[128:132] == b"DICM" and find_spec(PACKAGE) is not None


class DicomFile:
    """A file of DICOM, part 10. size : (width, height) of a frame"""

    def __init__(self, file: IO[bytes]) -> None:
        import pydicom

        file.seek(0)
        self._file = file
        with _errors_as_damage():
            self._about: Any = pydicom.dcmread(file, stop_before_pixels=True)
            if "Rows" not in self._about or "Columns" not in self._about:
                raise BadImage("a DICOM file without an image")
            self.size = (int(self._about.Columns), int(self._about.Rows))

    def decode(self, levels: str) -> Image.Image:  # noqa: ARG002 - it says itself what is black and white
        """The RGB pixels of its first frame.

        Grey numbers are rescaled by the file's slope and intercept, or table, and shown by its first window, or table;
        without one, all that its bits can hold is shown.
        """
        with _errors_as_damage():
            return self._decode()

    def _decode(self) -> Image.Image:
        kind = _kind_of(self._about)
        fault = _fault(self._about)
        if fault is not None:
            raise BadImage(fault)
        if "FloatPixelData" in self._about or "DoubleFloatPixelData" in self._about:
            raise BadImage("pixels are fractions, whose black and white are not known: convert it to PNG")
        values = self._frame()
        bits = int(self._about.BitsStored)
        if kind in _GREY and values.ndim == 2:
            grey = np.floor(255 * self._window(values, bits) + 0.5).astype(np.uint8)
            return over_white((255 - grey if kind == "MONOCHROME1" else grey)[..., None])
        if kind == _PALETTE:
            from pydicom.pixels import apply_color_lut

            table = apply_color_lut(values, self._about)
            return over_white(to_8_bits(table[..., :3], 8 * table.dtype.itemsize))
        if values.ndim == 3 and values.shape[2] == 3 and kind.startswith(("RGB", "YBR")):  # pydicom makes RGB of all
            return over_white(to_8_bits(values, bits))
        raise BadImage(f"a DICOM file of unusual colours ({kind or 'not named'}): convert it to PNG")

    def _frame(self) -> np.ndarray:
        """The stored numbers of the first frame."""
        from pydicom.pixels import pixel_array

        syntax = _syntax_of(self._about)
        codec = _CODECS.get(syntax.removeprefix(_SYNTAX)) if syntax.startswith(_SYNTAX) else None
        one, rgb = int(self._about.get("SamplesPerPixel", 1)) == 1, _kind_of(self._about) == "RGB"
        if codec is not None and (one or (rgb and codec in ("ljpeg", "jpegls"))):
            return self._decode_frame(codec)
        self._file.seek(0)
        if syntax == _DEFLATED:
            import pydicom

            return np.asarray(pixel_array(pydicom.dcmread(self._file), index=0))
        values: np.ndarray = pixel_array(self._file, index=0)
        return values

    def _decode_frame(self, codec: str) -> np.ndarray:
        """The first frame by imagecodecs, which has what pydicom needs further packages for."""
        import pydicom
        from pydicom.encaps import generate_frames

        self._file.seek(0)
        whole: Any = pydicom.dcmread(self._file)
        count = int(self._about.get("NumberOfFrames", 1) or 1)
        frame = next(generate_frames(whole.PixelData, number_of_frames=count))
        values: np.ndarray = getattr(need("imagecodecs"), f"{codec}_decode")(frame)
        bits = int(self._about.BitsStored)
        if values.shape[:2] != self.size[::-1]:
            raise BadImage("a damaged DICOM file: its pixels have another size than its header")
        if not int(self._about.PixelRepresentation):
            return values & ((1 << bits) - 1)
        signed = values.astype(np.int32) & ((1 << bits) - 1)
        return np.where(signed >> (bits - 1), signed - (1 << bits), signed)

    def _window(self, values: np.ndarray, bits: int) -> np.ndarray:
        """Grey from 0 to 1 (PS3.3, C.11.1 and C.11.2)."""
        about = self._about
        signed = int(about.get("PixelRepresentation", 0))
        ends = np.array([-(1 << (bits - 1)), (1 << (bits - 1)) - 1] if signed else [0, (1 << bits) - 1])
        if about.get("ModalityLUTSequence"):
            values, most = _look_up(values, about.ModalityLUTSequence[0])
            ends = np.array([0, most])
        else:
            slope, intercept = float(about.get("RescaleSlope", 1)), float(about.get("RescaleIntercept", 0))
            values, ends = values * slope + intercept, ends * slope + intercept
        if about.get("VOILUTSequence"):
            return _by_table(values, about.VOILUTSequence[0])
        centre, width = _first(about.get("WindowCenter")), _first(about.get("WindowWidth"))
        if centre is None or width is None or width <= 0:
            return _between(values, float(ends.min()), float(ends.max()))
        return _by_window(values, centre, width, str(about.get("VOILUTFunction", "LINEAR")).strip())


def read_otherwise(file: IO[bytes]) -> bool:
    """Whether it is a file that was read wrong before revision 3, by its header; False without the package."""
    file.seek(0)
    if not is_dicom(file.read(132)):
        return False
    try:
        return _fault(DicomFile(file)._about) is not None
    except (BadImage, *DAMAGE):
        return False


def _fault(about: Any) -> str | None:
    """Why its numbers, which can be decoded, do not mean what they seem to; None where they do."""
    stored, high = int(about.get("BitsStored", 0)), about.get("HighBit")
    if high is not None and int(high) != stored - 1:
        return f"its numbers of {stored} bits end at bit {int(high)}, an obsolete layout: convert it to PNG"
    if _kind_of(about) == _PALETTE and _syntax_of(about) == _BIG_ENDIAN:
        return "a palette in big-endian order, an obsolete layout: convert it to PNG"
    return None


def _kind_of(about: Any) -> str:
    return str(about.get("PhotometricInterpretation", "")).strip()


def _syntax_of(about: Any) -> str:
    return str(about.file_meta.get("TransferSyntaxUID", ""))


@contextmanager
def _errors_as_damage() -> Iterator[None]:
    """Raise pydicom's own errors, which have no class in common, as such of values."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        yield
    except (BytesLengthException, InvalidDicomError) as error:
        raise ValueError(str(error)) from error


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    shares: np.ndarray = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return shares


def _by_window(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    if function == "SIGMOID":
        shares: np.ndarray = 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
        return shares
    if function == "LINEAR_EXACT":
        return _between(values, centre - width / 2, centre + width / 2)
    if width <= 1:
        return (values > centre - 0.5).astype(np.float64)
    return _between(values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)


def _by_table(values: np.ndarray, table: Any) -> np.ndarray:
    entries, most = _look_up(values, table)
    return _between(entries, 0, most)


def _look_up(values: np.ndarray, table: Any) -> tuple[np.ndarray, int]:
    """What a lookup table makes of numbers, its first entry below its range, its last beyond; and its largest."""
    count, first, bits = (int(one) for one in table.LUTDescriptor)
    data = table.LUTData
    entries = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.asarray(data)
    entries = entries[: count or 1 << 16].astype(np.float64)
    places = np.clip(np.round(values.astype(np.float64)) - first, 0, len(entries) - 1).astype(np.intp)
    return entries[places], (1 << bits) - 1


def _first(value: Any) -> float | None:
    """The first of the values of an attribute that may have several."""
    if value is None or value == "":
        return None
    try:
        return float(value)
    except TypeError:
        return float(value[0]) if len(value) else None
