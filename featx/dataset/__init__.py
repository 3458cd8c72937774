"""Which images, with which labels, in which split: from the files of a user to the rows of a feature store.

`read_images` finds them (`folders`, `table`), `digest_images` gives every file its content digest, `check_images`
decodes every file, `split_images` divides them and `write_split` writes the division down. What is left aside is said
in the `notes` of the `ImageSet`; nothing is dropped silently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.io.lazy import import_on_use

if TYPE_CHECKING:
    from featx.dataset.check import Check, check_images, note_empty_classes, require_readable, require_usable
    from featx.dataset.digests import Digests, conflicts, digest_images
    from featx.dataset.imageset import NONE, SPLITS, TEST, TRAIN, VAL, ImageSet
    from featx.dataset.read import data_folder, read_data, read_images
    from featx.dataset.split import split_images
    from featx.dataset.table import write_split

__all__ = [
    "NONE",
    "SPLITS",
    "TEST",
    "TRAIN",
    "VAL",
    "Check",
    "Digests",
    "ImageSet",
    "check_images",
    "conflicts",
    "data_folder",
    "digest_images",
    "note_empty_classes",
    "read_data",
    "read_images",
    "require_readable",
    "require_usable",
    "split_images",
    "write_split",
]

# A name's module is imported with the name: predicting needs nothing of CSVs, checks and splits.
__getattr__ = import_on_use(
    __name__,
    {
        "check": ("Check", "check_images", "note_empty_classes", "require_readable", "require_usable"),
        "digests": ("Digests", "conflicts", "digest_images"),
        "imageset": ("ImageSet", "NONE", "SPLITS", "TEST", "TRAIN", "VAL"),
        "read": ("data_folder", "read_data", "read_images"),
        "split": ("split_images",),
        "table": ("write_split",),
    },
)
