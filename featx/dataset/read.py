"""From what a user names to an `ImageSet`: a folder, a CSV, or a list of files and folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from featx.dataset.folders import expand, read_files, read_folder
from featx.dataset.imageset import ImageSet
from featx.dataset.relabel import relabel
from featx.dataset.table import is_table, read_table
from featx.errors import DataError
from featx.options import DataOptions


def read_images(source: str | Path | Sequence[str | Path], options: DataOptions) -> ImageSet:
    """Find the images of a folder, a CSV or a list of files and folders, without opening any.

    Parameters
    ----------
    source : a folder of class folders; a folder of train, val and test folders that hold those; a CSV; a folder of
        files, or several files and folders (then without labels)
    options : columns of the CSV, the classes where their order is given, and a CSV of labels that replace others

    Raises
    ------
    DataError
        When there is nothing to read, or when labels, columns or splits make no sense.
    """
    images = _read(source, options)
    return images if options.relabel is None else relabel(images, options.relabel, data_folder(source, options))


def data_folder(source: str | Path | Sequence[str | Path], options: DataOptions) -> str:
    """The folder that paths in CSVs about these images are relative to: the data's own, absolute."""
    path = expand(source if isinstance(source, str | Path) else next(iter(source)))
    return path if Path(path).is_dir() else expand(options.image_dir or Path(path).parent)


def _read(source: str | Path | Sequence[str | Path], options: DataOptions) -> ImageSet:
    several = [source] if isinstance(source, str | Path) else list(source)
    if not several:
        raise DataError("No images given. Name a folder, a CSV or image files.")
    for item in several:
        if not os.path.lexists(expand(item)):
            raise DataError(f"No such file or folder: {item}. Check the name, or the folder you are in.")
    if len(several) > 1:
        return read_files(several)
    path = expand(several[0])
    if Path(path).is_dir():
        return read_folder(str(several[0]), path, options)
    return read_table(str(several[0]), path, options) if is_table(path, options) else read_files(several)
