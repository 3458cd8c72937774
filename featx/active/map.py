"""A data set in two dimensions: features, placement, colours, one page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.active.answers import ask, probability_of
from featx.active.pool import cached_options, one_output
from featx.bundle.bundle import Bundle
from featx.config import FeaturesOptions, Pipeline
from featx.dataset import SPLITS, ImageSet
from featx.errors import UsageError
from featx.extraction.extraction import Extraction
from featx.extraction.flow import extract
from featx.features import Features
from featx.heads.transform import join
from featx.inference.predict import Unread
from featx.io.context import Context
from featx.io.counting import counted
from featx.io.digest_arrays import as_bytes
from featx.io.jsontypes import Json
from featx.metrics.placement import MapPlaces, place
from featx.report.map import Colouring, MapText, write_map
from featx.runs.labels import read_labelled
from featx.runs.run import Run
from featx.store.cache import Cache

_NAMES = 200  # groups that a colouring has, at most


@dataclass(frozen=True)
class FeatureMap:
    """Where the images of a data set are shown.

    page : the file; images : that can be read; points : those of them that the page shows
    sampled : those that were placed before the others
    trustworthiness : in [0, 1], how far neighbours on the map are neighbours in the features; about 0.5 at random
    """

    page: Path
    images: int
    points: int
    sampled: int
    method: str
    output: str
    trustworthiness: float
    notes: tuple[str, ...]
    unread: tuple[Unread, ...]

    def as_json(self) -> dict[str, Json]:
        """What `featx map --json` prints."""
        return {
            "page": str(self.page),
            "images": self.images,
            "points": self.points,
            "sampled": self.sampled,
            "method": self.method,
            "output": self.output,
            "trustworthiness": self.trustworthiness,
            "notes": list(self.notes),
            "bad": [{"path": one.path, "reason": one.reason} for one in self.unread],
        }


def draw_map(
    pipeline: Pipeline, bundle: Bundle | None, cache: Cache, out: Path | None = None, context: Context = Context()
) -> FeatureMap:
    """Place the images of `data.path` by their features and write the page.

    bundle : a model, whose features are taken, and whose answers colour the points; None: features alone
    out : the file; None: `map.html` in the folder of the pipeline's results

    Raises
    ------
    UsageError
        Several layers without a model; a model whose features are in no cache.
    HeadError
        Fewer than four images.
    """
    images = read_labelled(pipeline, cache.index)
    done = extract(images, _options(pipeline.features, bundle, cache), cache, context.progress)
    for note in images.notes:
        context.notify(note)
    options, seed = pipeline.map, pipeline.data.seed
    readable = np.flatnonzero(done.readable)
    rows = _drawn(readable, options.points, seed)
    names = (one_output(done).name,) if bundle is None else bundle.manifest.output_names
    features = join([done.features(output, rows) for name in names for output in done.outputs if output.name == name])
    context.progress("place", 0, 0)  # which does not count: it shows the seconds
    found = place(features, options.method, options.sample, seed)
    colourings = [*_known(images, rows), *([] if bundle is None else _answered(bundle, done, rows, features, context))]
    label = next((number for number, one in enumerate(colourings) if one.title == "class"), -1)
    notes = _notes(len(readable), len(rows), found, options.pictures)
    pictured = _drawn(np.arange(len(rows)), options.pictures, seed)
    summary = (
        f"{counted(len(rows), 'image')} by {', '.join(names)}, placed by {_TITLES[options.method]}. Trustworthiness "
        f"{found.trustworthiness:.2f}: 1 where all neighbours on the map are alike to the network, about 0.5 at random."
    )
    page = out or Run.of(pipeline, images).path / "map.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    paths = [images.paths[row] for row in rows.tolist()]
    everything = colourings or [Colouring("images", np.zeros(len(rows), np.int64), ("image",))]
    write_map(page, paths, found.places, everything, pictured, MapText(summary, notes, context.command, label))
    unread = tuple(Unread(one["path"], one["reason"]) for one in done.bad)
    trust = round(found.trustworthiness, 4)
    return FeatureMap(
        page, len(readable), len(rows), found.sampled, options.method, ", ".join(names), trust, notes, unread
    )


def _drawn(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """The rows, ascending; of more than `most` so many at random."""
    return rows if len(rows) <= most else np.sort(np.random.default_rng(seed).permutation(rows)[:most])


_TITLES = {"tsne": "t-SNE", "pca": "its first two principal components", "umap": "UMAP"}


def _options(options: FeaturesOptions, bundle: Bundle | None, cache: Cache) -> FeaturesOptions:
    if bundle is None:
        return options
    found = cached_options(bundle, options, cache)
    if found is None:
        raise UsageError(
            f"The cache has no features of the network of {bundle.shown}: it was fine-tuned, or made with another "
            "cache. Name that with --cache, or leave out --model and choose a --layer."
        )
    return found


def _known(images: ImageSet, rows: np.ndarray) -> list[Colouring]:
    """By class, and by the split that the data declares."""
    found = []
    if images.labels is not None:
        if images.labels.ndim == 1:
            found.append(_grouped("class", images.labels[rows], images.classes))
        else:
            sets = ["|".join(np.array(images.classes)[one]) or "no label" for one in images.labels[rows]]
            known, codes = np.unique(sets, return_inverse=True)
            found.append(_grouped("labels", codes, tuple(known.tolist())))
    if images.declared is not None:
        declared = images.declared[rows].astype(np.int64)
        found.append(Colouring("split", np.where(declared < len(SPLITS), declared, -1), SPLITS))
    return found


def _grouped(title: str, codes: np.ndarray, names: tuple[str, ...]) -> Colouring:
    """Join the names of the fewest images where there are very many."""
    if len(names) <= _NAMES:
        return Colouring(title, codes.astype(np.int64), names)
    order = np.argsort(-np.bincount(codes[codes >= 0], minlength=len(names)), kind="stable")
    place_of = np.full(len(names), _NAMES - 1)
    place_of[order[: _NAMES - 1]] = np.arange(_NAMES - 1)
    kept = (*(names[code] for code in order[: _NAMES - 1].tolist()), f"{counted(len(names) - _NAMES + 1, 'other')}")
    return Colouring(title, np.where(codes < 0, -1, place_of[codes]), kept)


def _answered(
    bundle: Bundle, done: Extraction, rows: np.ndarray, features: Features, context: Context
) -> list[Colouring]:
    """By what a model answers; by the part of its split that an image was in; where there are labels, by its errors."""
    answers = ask(bundle, features, context.progress)
    parts = bundle.split()
    split = np.array([parts.get(one.tobytes(), -1) for one in as_bytes(done.digests[rows])], np.int64)
    split = np.where(split < len(SPLITS), split, -1)
    found = [Colouring("part of the model", split, SPLITS)]
    if not bundle.multilabel:
        found.append(_grouped("prediction", answers.given.astype(np.int64), bundle.classes))
    found.append(Colouring("confidence", answers.confidence.astype(np.float64), None))
    labels, classes = done.images.labels, done.images.classes
    if bundle.multilabel or labels is None or labels.ndim != 1:
        return found
    code_of = {name: code for code, name in enumerate(bundle.classes)}
    given = np.array([code_of.get(name, -1) for name in classes] or [-1])[labels[rows]]
    given = np.where(labels[rows] < 0, -1, given)
    wrong = np.where(given < 0, -1, (answers.given != given).astype(np.int64))
    doubted = np.where(given < 0, np.nan, 1 - probability_of(bundle, features, np.maximum(given, 0)))
    return [*found, Colouring("error", wrong, ("right", "wrong")), Colouring("label-error score", doubted, None)]


def _notes(images: int, n: int, found: MapPlaces, pictures: int) -> tuple[str, ...]:
    notes = []
    if n < images:
        notes.append(f"{n:,} of {counted(images, 'image')} are shown, drawn at random; --points N shows more of them.")
    if found.sampled < n:
        notes.append(
            f"{counted(found.sampled, 'image was', 'images were')} placed, the others among those that they are most "
            "like."
        )
    if pictures < n:
        notes.append(f"{counted(pictures, 'image has', 'images have')} a picture; --pictures N gives more of them one.")
    return tuple(notes)
