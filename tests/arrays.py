"""Arrays out of files, which are closed again, and how scikit-learn would standardise features of a network."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import h5py
import numpy as np
from sklearn.preprocessing import StandardScaler


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


def standard_scaler(x: np.ndarray, *outputs: int) -> StandardScaler:
    """scikit-learn's scaler for features (n, d) of outputs of these widths, of one without any.

    No spread is below 1 / sqrt(n) of the root mean square of those of its output, constant features apart.
    """
    scaler = StandardScaler().fit(x)
    start = 0
    for width in outputs or (x.shape[1],):
        part = slice(start, start + width)
        least = np.sqrt(scaler.var_[part][scaler.var_[part] > 0].mean() / len(x))
        scaler.scale_[part] = np.maximum(scaler.scale_[part], least)
        start += width
    return scaler
