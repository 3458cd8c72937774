"""Weight files of torch before 1.6, read without torch and without executing anything in them.

Such a file is five pickles (magic number, protocol, machine, the state dict with references to storages, the storage
names), then the storages as raw numbers. A pickle can run code, so the unpickler knows tensors and ordered dicts and
nothing else.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from featx.errors import BackboneError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


def parse_legacy_torch(file: BinaryIO) -> dict[str, np.ndarray]:
    """Every tensor of a torch file from before 1.6, by name.

    Raises
    ------
    BackboneError
        When a pickle in the file names anything but tensors and ordered dicts, or the layout is another.
    """
    try:
        magic, protocol, _machine, state, names = (_TensorUnpickler(file).load() for _ in range(5))
        if (magic, protocol) != (MAGIC, PROTOCOL):
            raise BackboneError("Not a weights file of torch before 1.6: its magic number differs.")
        storages = _read_storages(file, names, {t.storage.key: t.storage.dtype for t in state.values()})
        return {name: tensor.materialise(storages) for name, tensor in state.items()}
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackboneError(f"Cannot read the weights file: {error}") from error


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def materialise(self, storages: Mapping[str, np.ndarray]) -> np.ndarray:
        buffer = storages[self.storage.key]
        strides = tuple(step * buffer.itemsize for step in self.stride)
        # np.ndarray checks that shape, offset and strides stay inside the buffer
        return np.ndarray(self.shape, buffer.dtype, buffer, self.offset * buffer.itemsize, strides)


_DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


class _TensorUnpickler(pickle.Unpickler):
    """Admits tensors and ordered dicts; every other name in the pickle is refused before anything is called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}; only tensors and ordered dicts are admitted.")

    def persistent_load(self, pid: tuple[object, ...]) -> _Storage:
        kind, dtype, key, _device, _count, view = pid
        if kind != "storage" or dtype not in _DTYPES.values() or view is not None:
            raise pickle.UnpicklingError(f"it refers to {kind!r}, not to a plain storage.")
        return _Storage(str(key), str(dtype))


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_unused: object
) -> _Tensor:
    return _Tensor(storage, offset, shape, stride)


def _read_storages(file: BinaryIO, names: list[str], dtypes: Mapping[str, str]) -> dict[str, np.ndarray]:
    storages = {}
    for name in names:
        count = int.from_bytes(file.read(8), "little")
        dtype = np.dtype(dtypes[name])
        content = file.read(count * dtype.itemsize)
        storages[name] = np.frombuffer(content, dtype, count)
    return storages
