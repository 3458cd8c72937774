"""The split of a run, kept by content."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featx.bundle.split import read_split, write_split
from featx.config import DataOptions
from featx.dataset import NONE, ImageSet, split_images
from featx.io.digest_arrays import digest_array
from featx.io.digests import digest_json
from featx.io.files import write_json

_KEPT = "split.npz"


def split_of_run(
    images: ImageSet, digests: np.ndarray, readable: np.ndarray, options: DataOptions, run: Path, keep: bool = True
) -> np.ndarray:
    """The split uint8 (n,), kept in `run` by digest, so that a rename or more images never move an image.

    Other shares or another seed begin anew.

    keep : whether what is new in it is written down
    """
    terms = digest_json({"split": list(options.split), "seed": options.seed, "max_train": options.max_train})
    folder = run / "split"
    kept: dict[bytes, int] = {}
    if (folder / "terms.json").exists() and terms in (folder / "terms.json").read_text():
        kept = read_split(folder / _KEPT)
    split = split_images(images, digests, readable, options, kept)
    placed = split != NONE
    now = dict(zip(digests[placed].tolist(), split[placed].tolist(), strict=True))
    if keep and now.items() - kept.items():
        merged = kept | now
        write_split(folder / _KEPT, digest_array(merged), np.array(list(merged.values()), np.uint8))
        write_json(folder / "terms.json", {"terms": terms})
    return split
