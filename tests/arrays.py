"""Arrays out of files, which are closed again."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """Every array of an `.npz` file by its name."""
    with np.load(path, allow_pickle=False) as held:
        return dict(held)
