"""Report every failure on the content of a bundle as the bundle's fault, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featx.errors import BundleError, FeatxError
from featx.io.limits import limit_of

AGAIN = "Get the bundle again from its source."
_MOST_SHOWN = 200  # characters of a library's error


def at_fault(path: Path, reason: str) -> BundleError:
    """The error of a bundle whose files do not fit each other, or cannot be used."""
    return BundleError(f"The bundle {path} is at fault: {reason}. {AGAIN}")


@contextmanager
def blamed(path: Path, doing: str) -> Iterator[None]:
    """Raise every error as the fault of the bundle, but for those that are a sentence already and for limits of memory.

    doing : what fails then, as in "its head cannot be loaded"
    """
    try:
        yield
    except FeatxError:
        raise
    except MemoryError as error:
        raise at_fault(path, f"{doing}, since it needs more memory than there is") from error
    except Exception as error:  # what libraries raise on files that somebody made up is not to be foreseen
        if limit_of(error) is not None:
            raise
        line = " ".join(str(error).split()).rstrip(".")
        raise at_fault(path, f"{doing} ({line[:_MOST_SHOWN] or type(error).__name__})") from error
