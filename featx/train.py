"""The cheap stage: cached features + labels + split -> the best head -> Bundle."""

from __future__ import annotations

import logging
import platform
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import featx
from featx import novelty
from featx.backbones import Output
from featx.bundle import Bundle, add_bundle, write_split
from featx.choose import Choice, choose_head
from featx.dataset import NONE, SPLITS, TEST, TRAIN, VAL, ImageSet
from featx.dataset.digests import whole
from featx.errors import DataError, HeadError
from featx.evaluate import align, measure, summary
from featx.extract import Extraction, frozen_files
from featx.files import digest_bytes, digest_json
from featx.heads import FeaturesError, calibrate, persist
from featx.options import HeadOptions
from featx.progress import Tell, say_nothing
from featx.versions import installed_versions

_LIBRARIES = ("featx", "tensorflow", "keras", "openvino", "scikit-learn", "numpy", "pillow")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """What is fitted on and measured: one row per different image.

    rows : positions in `images.paths`; y : int64, positions in `images.classes`; split : uint8
    """

    images: ImageSet
    digests: np.ndarray
    rows: np.ndarray
    y: np.ndarray
    split: np.ndarray
    groups: np.ndarray | None
    weight: np.ndarray | None

    @classmethod
    def of(cls, images: ImageSet, digests: np.ndarray, split: np.ndarray) -> Sample:
        """Rows that are in a part, duplicates once."""
        require_fittable(images)
        assert images.labels is not None
        used = np.flatnonzero(split != NONE)
        _, first = np.unique(digests[used], return_index=True)
        rows = used[np.sort(first)]
        groups = None if images.groups is None else np.unique(images.groups, return_inverse=True)[1][rows]
        weight = None if images.weights is None else images.weights[rows]
        return cls(images, digests[rows], rows, images.labels[rows], split[rows], groups, weight)

    @property
    def digest(self) -> str:
        """SHA-256 over (digest, part, class) of every image: bundles with the same one can be compared."""
        order = np.argsort(self.digests)
        names = [self.images.classes[code] for code in self.y[order]]
        return digest_json([[whole(d).hex() for d in self.digests[order]], self.split[order].tolist(), names])

    def counts(self) -> dict[str, int]:
        """Images per part."""
        return {name: int((self.split == code).sum()) for code, name in enumerate(SPLITS)}


def require_fittable(images: ImageSet) -> None:
    """Refuse images that no head can be fitted on, before anything is computed.

    Raises
    ------
    DataError
        No labels, several labels per image, or a single class.
    """
    if images.labels is None:
        raise DataError(f"{images.source} has no labels: a folder per class or a CSV with labels is needed to fit.")
    if images.multilabel:
        raise DataError(
            f"{images.source} has several labels per image, and the heads of this version tell one class per image."
        )
    if len(images.classes) < 2:
        only = images.classes[0] if images.classes else "none"
        raise DataError(f"A head tells classes apart, but {images.source} has one class ({only}). Add another folder.")


def _digest_array(values: np.ndarray | None) -> str | None:
    return None if values is None else digest_bytes(np.ascontiguousarray(values).tobytes()).hex()


def fingerprint(extraction: Extraction, sample: Sample, options: HeadOptions, seed: int) -> str:
    """What a bundle of a head depends on. Equal fingerprints: fitting again would give the same head."""
    return digest_json(
        {
            "key": extraction.store.key.digest,
            "outputs": [output.name for output in extraction.outputs],
            "split": sample.digest,
            "groups": _digest_array(sample.groups),
            "weight": _digest_array(sample.weight),
            "head": asdict(replace(options, memory=None)),
            "seed": seed,
            "featx": featx.__version__,
        }
    )


def fit_head(
    extraction: Extraction,
    sample: Sample,
    options: HeadOptions,
    seed: int,
    run: Path,
    command: str = "",
    tell: Tell = say_nothing,
) -> Bundle:
    """Fit on every layer and pooling of the extraction, keep the best by validation, save it below `run`.

    Raises
    ------
    HeadError
        One class, features that are not finite (names the image), too few images.
    """
    start = time.perf_counter()
    output, choice, tried = _best_output(extraction, sample, options, seed, tell)
    features = extraction.features(output, sample.rows)
    known = [sample.images.classes[code] for code in choice.head.classes_]
    metrics = {part: _measure(choice, features, sample, code, known) for part, code in (("val", VAL), ("test", TEST))}
    about = describe_model(extraction, (output,), sample, known, command) | {
        "fingerprint": fingerprint(extraction, sample, options, seed),
        "head": {
            "clf": choice.clf,
            "params": _jsonable(choice.params),
            "temperature": choice.temperature,
            "features": int(np.prod(features.shape[1:])),
        },
        "metrics": {part: summary(found) for part, found in metrics.items()},
        "score": _score(options, metrics["val"], tried[output.name]),
        "search": tried,
        "notes": list(choice.notes),
        "seconds": round(time.perf_counter() - start, 3),
    }
    train, val = (np.flatnonzero(sample.split == code) for code in (TRAIN, VAL))
    reference = novelty.fit_reference(features.take(train), sample.y[train], features.take(val), seed)
    files = frozen_files(extraction, output)
    return save_model(run, choice.clf, about, choice.head, choice.temperature, files, sample, reference)


def _best_output(
    extraction: Extraction, sample: Sample, options: HeadOptions, seed: int, tell: Tell
) -> tuple[Output, Choice, dict[str, Any]]:
    best: tuple[float, Output, Choice] | None = None
    tried: dict[str, Any] = {}
    for output in extraction.outputs:
        if output.pooling == "none":
            _logger.warning("%s is a map, not a row of features: left out. Use the pooling flatten.", output.name)
            continue
        features = extraction.features(output, sample.rows)
        try:
            choice = choose_head(
                features,
                sample.y,
                sample.split,
                sample.images.classes,
                options,
                groups=sample.groups,
                sample_weight=sample.weight,
                seed=seed,
                progress=partial(_tell_of, tell, output.name),
            )
        except FeaturesError as error:
            names = ", ".join(sample.images.paths[sample.rows[row]] for row in error.rows[:3])
            raise HeadError(f"{output.name} gives NaN or infinity for {len(error.rows)} images: {names}.") from error
        tried[output.name] = choice.candidates
        score = max((_signed(one) for one in choice.candidates), default=-np.inf)
        if best is None or score > best[0]:
            best = (score, output, choice)
    if best is None:
        raise HeadError("There are only maps (pooling none) to fit on. Add --pooling avg or flatten.")
    return best[1], best[2], tried


def _tell_of(tell: Tell, name: str, line: str) -> None:
    tell(f"{name}: {line}")


def _signed(candidate: dict[str, Any]) -> float:
    """A score of which more is better."""
    return -candidate["score"] if candidate["metric"] == "log_loss" else float(candidate["score"])


def _measure(choice: Choice, features: Any, sample: Sample, code: int, known: list[str]) -> dict[str, Any]:
    rows = np.flatnonzero(sample.split == code)
    if not len(rows):
        return measure(np.empty(0, np.int64), np.empty((0, len(known))), known)
    labels, everything = align(sample.images.classes, sample.y[rows], known)
    logits = choice.head.logits(features.take(rows))
    return measure(labels, calibrate.softmax(logits, choice.temperature), everything)


def _score(options: HeadOptions, val: dict[str, Any], candidates: list[dict[str, Any]]) -> dict[str, Any]:
    """What the best bundle of a run is chosen by: the metric on val, or on folds of train where there is no val."""
    if val["images"]:
        return {"metric": options.metric, "value": val[options.metric], "where": "val"}
    best = max(candidates, key=_signed, default=None)
    return {
        "metric": options.metric,
        "value": best["score"] if best else None,
        "where": best["where"] if best else "none",
    }


def describe_model(
    extraction: Extraction, outputs: tuple[Output, ...], sample: Sample, classes: list[str], command: str
) -> dict[str, Any]:
    """The part of `bundle.json` that tells where a model comes from."""
    key = extraction.store.key
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "classes": classes,
        "outputs": [output.name for output in outputs],
        "backbone": {
            **asdict(extraction.spec),
            "input_size": list(extraction.spec.input_size),
            "name": extraction.spec.label,
            "weights": Path(extraction.spec.weights).name,
            "resize": key.resize,
            "precision": key.precision,
        },
        "key": key.as_json(),
        "split": {"digest": sample.digest, "images": sample.counts()},
        "data": {"source": Path(sample.images.source).name, "images": len(sample.images), "bad": len(extraction.bad)},
        "command": command,
        "versions": {"python": platform.python_version()} | installed_versions(*_LIBRARIES),
    }


def save_model(
    run: Path,
    clf: str,
    about: dict[str, Any],
    head: Any,
    temperature: float,
    sources: dict[str, Path],
    sample: Sample,
    reference: novelty.Reference,
) -> Bundle:
    """Write head, split, reference and network below `run` as the next bundle."""
    with tempfile.TemporaryDirectory(prefix="featx-") as folder:
        head_file, kind = persist.save_head(head, temperature, Path(folder))
        write_split(Path(folder) / "split.npz", sample.digests, sample.split)
        files = {head_file.name: head_file, "split.npz": Path(folder) / "split.npz", **sources}
        files[novelty.FILE] = reference.save(Path(folder))
        about = about | {"head": about["head"] | {"kind": kind, "file": head_file.name}}
        return add_bundle(run, clf, about, files)


def _jsonable(params: dict[str, Any]) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value.item() if isinstance(value, np.generic) else value
        for name, value in params.items()
        if isinstance(value, str | int | float | bool | tuple | np.generic) or value is None
    }
