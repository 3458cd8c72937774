"""Read a folder, a CSV, or a list of files and folders as an `ImageSet`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from featx.config import DataOptions, Pipeline
from featx.dataset.columns import require_no_columns
from featx.dataset.folders import describe_absence, expand, folder_of, is_folder, read_files, read_folder
from featx.dataset.imageset import ImageSet
from featx.dataset.relabel import relabel
from featx.dataset.table import is_table, read_table
from featx.errors import DataError
from featx.io.remote import shared_remote
from featx.io.urls import is_url


def read_data(pipeline: Pipeline) -> ImageSet:
    """The images that the pipeline's data section names.

    Raises
    ------
    DataError
        It names none, and what `read_images` raises.
    """
    if pipeline.data.path is None:
        raise DataError("No images: name a folder or CSV, or a pipeline file with data.path (-p FILE).")
    return read_images(pipeline.data.path, pipeline.data)


def read_images(source: str | Path | Sequence[str | Path], options: DataOptions) -> ImageSet:
    """Find the images of a folder, a CSV or a list of files and folders, here or on URLs, without opening any.

    What servers have answered before is forgotten, since it may have changed.

    Parameters
    ----------
    source : a folder of class folders; a folder of train, val and test folders that hold those; a CSV; a folder of
        files, or several files and folders (then without labels)
    options : columns of the CSV, the classes where their order is given, and a CSV of labels that replace others

    Raises
    ------
    DataError
        When there is nothing to read, or when labels, columns or splits make no sense.
    UsageError
        When options name columns of a CSV and these images are in none.
    """
    shared_remote().forget()
    images = _read(source, options)
    return images if options.relabel is None else relabel(images, options.relabel, data_folder(source, options))


def data_folder(source: str | Path | Sequence[str | Path], options: DataOptions) -> str:
    """The folder that paths in CSVs about these images are relative to: the data's own, absolute or a URL."""
    path = expand(source if isinstance(source, str | Path) else next(iter(source)))
    return path if is_folder(path) else expand(options.image_dir or folder_of(path))


def _read(source: str | Path | Sequence[str | Path], options: DataOptions) -> ImageSet:
    several = [source] if isinstance(source, str | Path) else list(source)
    if not several:
        raise DataError("No images given. Name a folder, a CSV or image files.")
    faults = shared_remote().faults(several)
    for item in several:
        if item in faults or not (is_url(item) or os.path.lexists(expand(item))):
            raise DataError(describe_absence([item], faults))
    path = expand(several[0])
    if len(several) == 1 and not is_folder(path) and is_table(path, options):
        return read_table(str(several[0]), path, options)
    require_no_columns(several[0], options)
    if len(several) == 1 and is_folder(path):
        return read_folder(str(several[0]), path, options)
    return read_files(several)
