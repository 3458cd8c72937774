"""The output format follows the file's suffix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from featx.errors import FeatxError, UsageError


def suffix_of(path: Path, known: Sequence[str], what: str) -> str:
    """The end of a name, in lower case, which is one of `known`.

    what : that is written, as in "Features"

    Raises
    ------
    UsageError
        Another end, or none.
    """
    found = path.suffix.lower()
    if found in known:
        return found
    ends = " or ".join(filter(None, [", ".join(known[:-1]), known[-1]]))
    got = f"{found} is not one of them" if found else "it has none"
    raise UsageError(f"{what} cannot be written to {path}: its name has to end with {ends}, and {got}.")


def import_pyarrow(path: Path) -> ModuleType:
    """The library pyarrow with its module of Parquet files, for a file that is to be written.

    Raises
    ------
    FeatxError
        When it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise FeatxError(
            f"{path} needs pyarrow. Type: pip install 'featx[parquet]'; or choose another suffix."
        ) from error
    found: ModuleType = pyarrow
    return found
