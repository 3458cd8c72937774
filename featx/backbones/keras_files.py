"""Read and write Keras files without leaving anything behind.

Keras makes a folder in the system's temporary folder for what a layer keeps beside its weights, and leaves it there
where a call fails before the end: its archive on a full disk, its first file in a full temporary folder.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featx.backbones.runtime import KerasModel, import_keras


class _Made(threading.local):
    """What Keras has made in this thread since `keras_folders` was entered; None outside of it."""

    folders: list[str] | None = None


_made = _Made()


@contextmanager
def keras_folders() -> Iterator[None]:
    """Let the temporary folders of Keras go, however its work ends."""
    import_keras()
    _count_folders()
    before, _made.folders = _made.folders, []
    try:
        yield
    finally:
        for folder in _made.folders or ():
            shutil.rmtree(folder, ignore_errors=True)
        _made.folders = before


def save_network(model: KerasModel, path: Path) -> None:
    """Write a Keras model as a `.keras` file."""
    with keras_folders():
        model.save(path)


def _count_folders() -> None:
    """Have Keras ask here for its folders. A Keras that makes them otherwise is left as it is."""
    saving = sys.modules.get("keras.src.saving.saving_lib")
    theirs = getattr(saving, "get_temp_dir", None)
    if theirs is None or theirs is _make_folder:
        return
    saving.get_temp_dir = _make_folder  # type: ignore[union-attr]


def _make_folder() -> str:
    folder = tempfile.mkdtemp()
    if _made.folders is not None:
        _made.folders.append(folder)
    tempfile.TemporaryFile(dir=folder).close()  # so that a full disk is met here, as in Keras' own
    return folder
