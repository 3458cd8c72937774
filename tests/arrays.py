"""Arrays out of files, which are closed again."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import h5py
import numpy as np


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """Every array of an `.npz` file by its name."""
    with np.load(path, allow_pickle=False) as held:
        return dict(held)


def weights_of(path: Path) -> dict[str, list[np.ndarray]]:
    """The weights of a `.keras` file by the layers that have some, read without building the network."""
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        return {
            layer["vars"].attrs["name"]: arrays
            for layer in file["layers"].values()
            if (arrays := _weights_below(layer))
        }


def _weights_below(group: h5py.Group) -> list[np.ndarray]:
    """Those of a layer and of layers inside it, but for what it draws random numbers from."""
    found: list[np.ndarray] = []
    for name in sorted(group, key=lambda name: (len(name), name)):  # "10" comes after "9"
        if isinstance(group[name], h5py.Dataset):
            found.append(group[name][()])
        elif not name.startswith("seed_generator"):
            found += _weights_below(group[name])
    return found
