"""Silence Pillow and libtiff, which writes to stderr itself, without the file's name."""

from __future__ import annotations

import ctypes
import logging
import warnings
from functools import cache

# A damaged image is reported by its reason, a large one is admitted up to MAX_PIXELS: Pillow's warnings add nothing.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)


@cache
def silence_libtiff() -> None:
    """Let the libtiff that Pillow has loaded print nothing from now on; what is wrong with a file, Pillow reports.

    Its two functions are found through the library of Pillow that is linked with it. On Windows they are inside of
    that, and cannot be found.
    """
    from PIL import _imaging

    try:
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            function = getattr(library, name)
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
            function(None)
    except (OSError, AttributeError):
        return
