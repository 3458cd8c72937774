"""The unlabelled images of a pool, with the features that a model or the options ask for."""

from __future__ import annotations

import shutil
import weakref
from dataclasses import dataclass

import numpy as np

from featx.backbones import Output
from featx.bundle.bundle import Bundle
from featx.bundle.novelty import FILE
from featx.config import FeaturesOptions, Pipeline
from featx.dataset import ImageSet, digest_images, read_data
from featx.errors import DataError, UsageError
from featx.extraction.extraction import Extraction
from featx.extraction.flow import extract
from featx.extraction.job import settle
from featx.extraction.repair import options_of
from featx.features import ArrayFeatures, Features
from featx.heads.transform import join
from featx.inference.predict import Unread, iter_features
from featx.io.counting import agreeing, counted
from featx.io.digest_arrays import digest_array, first_of_equal, is_among
from featx.io.progress import Progress
from featx.io.temporary import make_temporary_folder
from featx.store.cache import Cache

_MOST_LABELLED = 20_000  # rows of labelled images that are looked at


@dataclass(frozen=True)
class Pool:
    """Images without a label, each different one once, in the order of the image set.

    rows : int64 (n,), positions in `images`
    features : of n rows; `output` is the name of their layers and poolings
    labelled : the features of images that the model knows the labels of; None without a model
    known : how many images of the pool are left out since the model was made with them
    """

    images: ImageSet
    rows: np.ndarray
    features: Features
    output: str
    labelled: Features | None
    known: int
    unread: tuple[Unread, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def note_known(self) -> str:
        """A sentence on the images that are left out, where there are any."""
        left_out = counted(self.known, "image is", "images are")
        return f"{left_out} left out: the model was made with {agreeing(self.known, 'it', 'them')}."

    def path(self, row: int) -> str:
        """The path of a row."""
        return self.images.paths[int(self.rows[row])]


def open_pool(pipeline: Pipeline, bundle: Bundle | None, cache: Cache, progress: Progress) -> Pool:
    """Read the images, leave out those that a model knows already, and extract the features that are missing.

    With a model these are the features that it predicts from: of the cache where that has features of its network, else
    computed by the network that is in the bundle, and not kept.

    Raises
    ------
    DataError
        No image can be read, or the model knows all of them already.
    UsageError
        Without a model: only maps, which are no rows of features, or several layers, of which one has to be chosen.
    """
    images = read_data(pipeline)
    if bundle is None:
        done = extract(images, pipeline.features, cache, progress)
        return _cached(done, (one_output(done).name,), None, np.empty(0, done.digests.dtype))
    return ask_pool(images, pipeline.features, bundle, digest_array(sorted(bundle.split())), cache, progress)


def ask_pool(
    images: ImageSet, options: FeaturesOptions, bundle: Bundle, known: np.ndarray, cache: Cache, progress: Progress
) -> Pool:
    """The images, but those with the digests `known`, with the features that a model predicts from."""
    found = cached_options(bundle, options, cache)
    if found is None:
        return _computed(images, bundle, known, cache)
    return _cached(extract(images, found, cache, progress), bundle.manifest.output_names, bundle, known)


def one_output(done: Extraction) -> Output:
    """The one layer and pooling of an extraction that gives rows of features.

    Raises
    ------
    UsageError
        There are several, or only maps.
    """
    rows = [output for output in done.outputs if output.pooling != "none"]
    if len(rows) != 1:
        names = ", ".join(output.name for output in done.outputs)
        raise UsageError(f"Images are compared by one layer and pooling, there are {names}. Choose with --layer.")
    return rows[0]


def cached_options(bundle: Bundle, options: FeaturesOptions, cache: Cache) -> FeaturesOptions | None:
    """The options that give the bundle's features in this cache; None where its network has no features there."""
    manifest = bundle.manifest
    if manifest.backbone.finetuned or manifest.baseline:
        return None
    for store in cache.stores():
        if store.key.as_json() == manifest.key.as_json():
            found = options_of(store, cache, manifest.output_names)
            found = FeaturesOptions(**{**vars(found), "workers": options.workers, "infer_batch": options.infer_batch})
            return found if settle(found, cache).store.key == store.key else None
    return None


def _cached(done: Extraction, names: tuple[str, ...], bundle: Bundle | None, known: np.ndarray) -> Pool:
    rows, left = _unlabelled(done.images, done.digests, done.readable, known)
    outputs = [output for name in names for output in done.outputs if output.name == name]
    features = join([done.features(output, rows) for output in outputs])
    unread = tuple(Unread(one["path"], one["reason"]) for one in done.bad)
    labelled = None if bundle is None else _labelled(done, names, bundle, known)
    return Pool(done.images, rows, features, ", ".join(names), labelled, left, unread)


def _kept(bundle: Bundle) -> Features | None:
    """The features of training images that a bundle keeps; those of early versions keep none."""
    return ArrayFeatures(bundle.reference().rows) if FILE in bundle.manifest.files else None


def _labelled(done: Extraction, names: tuple[str, ...], bundle: Bundle, known: np.ndarray) -> Features | None:
    """The features of the model's images that the cache has; where it has none, those that the model keeps."""
    tables = [done.store.table(output.layer, output.pooling) for output in done.outputs if output.name in names]
    here = known[~np.any([table.missing(known) for table in tables], axis=0)]
    if not len(here):
        return _kept(bundle)
    if len(here) > _MOST_LABELLED:
        here = np.random.default_rng(0).permutation(here)[:_MOST_LABELLED]
    return join([table.read(here) for table in tables])


def _computed(images: ImageSet, bundle: Bundle, known: np.ndarray, cache: Cache) -> Pool:
    """The pool by the network of the bundle itself, the features in a temporary file, so that memory stays flat."""
    digests = digest_images(images.paths, cache.index)
    rows, left = _unlabelled(images, digests.digest, digests.usable, known)
    folder = make_temporary_folder()
    shape = (len(rows), bundle.manifest.head.features)
    array = np.lib.format.open_memmap(folder / "features.npy", "w+", np.float32, shape)
    weakref.finalize(array, shutil.rmtree, folder, ignore_errors=True)
    unread = [Unread(images.paths[row], reason) for row, reason in sorted(digests.bad.items())]
    read_rows, count = [np.empty(0, np.int64)], 0
    for some, features, bad in iter_features(bundle, [images.sources[row] for row in rows.tolist()]):
        if len(some):
            array[count : count + len(some)] = features
        read_rows.append(some)
        count += len(some)
        unread += [Unread(images.paths[rows[place]], reason) for place, reason in bad]
    if not count:
        raise DataError(f"None of the images of {images.source} can be read. featx check shows why.")
    read, kept = ArrayFeatures(array[:count]), np.concatenate(read_rows)
    labelled = _kept(bundle)
    return Pool(images, rows[kept], read, ", ".join(bundle.manifest.output_names), labelled, left, tuple(unread))


def _unlabelled(
    images: ImageSet, digests: np.ndarray, readable: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, int]:
    """The first row of every different readable image that is not known, and how many different ones are known."""
    rows = np.flatnonzero(readable)
    rows = rows[first_of_equal(digests[rows])]
    fresh = ~is_among(digests[rows], known)
    if not fresh.any():
        raise DataError(
            f"{agreeing(len(rows), 'The only image', f'All {len(rows):,} images')} of {images.source} "
            f"{agreeing(len(rows), 'has', 'have')} a label in the model already. Name a folder with others."
        )
    return rows[fresh], int((~fresh).sum())
