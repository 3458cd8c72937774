"""The split of a run, kept by content."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featx.images.augment import Augmenter
from featx.backbones.runtime import limit_gpu_memory
from featx.bundle.bundle import Bundle, load_bundle
from featx.runs.bundles import best_bundle, list_bundles
from featx.bundle.split import read_split, write_split
from featx.dataset import NONE, SPLITS, TRAIN, ImageSet, conflicts, digest_images, read_images, split_images
from featx.dataset.digests import whole
from featx.errors import DataError, UsageError
from featx.extraction.flow import Extraction, extract, plan
from featx.io.index import StatIndex
from featx.io.digests import digest_json
from featx.io.files import write_json
from featx.config import DataOptions, Pipeline, parse_share
from featx.io.progress import Progress, Tell, no_progress, say_nothing
from featx.report.occasions import report_of
from featx.store.export import export_features
from featx.workflow.tracking import require_tracker
from featx.extraction.sample import Sample, require_fittable
from featx.workflow.fit import fingerprint, fit_head
from featx.extraction.views import Views, extract_views, plan_views


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
    now = {whole(d): int(code) for d, code in zip(digests[placed], split[placed], strict=True)}
    if keep and now.items() - kept.items():
        merged = kept | now
        write_split(folder / _KEPT, np.array(list(merged), "S32"), np.array(list(merged.values()), np.uint8))
        write_json(folder / "terms.json", {"terms": terms})
    return split
