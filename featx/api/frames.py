"""pandas support, if it is installed."""

from __future__ import annotations

from typing import Any

from featx.errors import FeatxError


def import_pandas() -> Any:
    """The module pandas.

    Raises
    ------
    FeatxError
        When it is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise FeatxError("to_pandas needs pandas, which featx does not install. Type: pip install pandas") from error
    return pd
