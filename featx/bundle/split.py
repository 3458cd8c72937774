"""The part of each image, as a file, and which images a model has seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.errors import BundleError
from featx.io.digest_arrays import DIGEST_BYTES, as_bytes, digest_array, from_bytes
from featx.io.files import atomic_path
from featx.io.zips import load_arrays

_NONE = digest_array(())


@dataclass(frozen=True)
class SeenImages:
    """The images of which a model cannot be measured honestly any more: digests V32, each different one once.

    trained : that it was fitted on, or a model was that it was fine-tuned from
    chosen : that an epoch, a strength, a threshold or the confidence was chosen by
    """

    trained: np.ndarray
    chosen: np.ndarray

    @classmethod
    def nothing(cls) -> SeenImages:
        """What a model has seen before it is trained."""
        return cls(_NONE, _NONE)

    def trained_on(self, digests: np.ndarray) -> np.ndarray:
        """Which of the digests V32 (n,) it was trained on: bool (n,)."""
        return np.isin(digests, self.trained)

    def used(self, digests: np.ndarray) -> np.ndarray:
        """Which of the digests V32 (n,) it was trained on, or chosen by: bool (n,)."""
        return self.trained_on(digests) | np.isin(digests, self.chosen)

    def and_before(self, former: SeenImages) -> SeenImages:
        """With what a model has seen that this one was made of."""
        return SeenImages(np.union1d(self.trained, former.trained), np.union1d(self.chosen, former.chosen))


def write_split(path: Path, digests: np.ndarray, split: np.ndarray, former: SeenImages | None = None) -> None:
    """Write which image is in which part: digest V32 (n,), split uint8 (n,).

    former : what the model has seen that this one was fine-tuned from
    """
    before = None if former is None else (as_bytes(former.trained), as_bytes(former.chosen))
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        if before is None:
            np.savez(file, digest=as_bytes(digests), split=split.astype(np.uint8))
        else:
            np.savez(
                file,
                digest=as_bytes(digests),
                split=split.astype(np.uint8),
                trained_before=before[0],
                chosen_before=before[1],
            )


def read_split(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Digests V32 (n,) of images, and the part of each, uint8 (n,)."""
    arrays = _read(path)
    return from_bytes(arrays["digest"]), arrays["split"]


def read_seen(path: Path, trained: tuple[int, ...], chosen: tuple[int, ...]) -> SeenImages:
    """What a model has seen.

    trained, chosen : the codes of the parts that it was trained on, and chosen by
    """
    arrays = _read(path)
    digests, split = from_bytes(arrays["digest"]), arrays["split"]
    seen = SeenImages(*(np.unique(digests[np.isin(split, codes)]) for codes in (trained, chosen)))
    if "trained_before" not in arrays:
        return seen
    return seen.and_before(SeenImages(from_bytes(arrays["trained_before"]), from_bytes(arrays["chosen_before"])))


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        arrays = load_arrays(path)
        digests, codes = arrays["digest"], arrays["split"]
        if digests.dtype != np.uint8 or digests.shape != (len(codes), DIGEST_BYTES) or codes.dtype != np.uint8:
            raise ValueError(f"digests of {digests.dtype} {digests.shape} and parts of {codes.dtype} {codes.shape}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is damaged: {error}. Delete it; the split is then made again.") from error
    return arrays
