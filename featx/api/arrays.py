"""Features as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Unpack

import numpy as np

from featx.api.frames import import_pandas
from featx.api.keywords import ReadFeaturesKeywords
from featx.api.options import READ_FEATURES, PathLike, read_options, takes
from featx.config import Pipeline
from featx.dataset import SPLITS
from featx.errors import UsageError
from featx.extraction.flow import Extraction
from featx.features import width
from featx.io.bars import shown_by
from featx.io.counting import counted
from featx.io.notebook import table_html
from featx.io.progress import Progress
from featx.store.cache import Cache
from featx.workflow.gather import gather

_BLOCK_BYTES = 64_000_000  # of float32


@dataclass(frozen=True)
class FeatureArrays:
    """Features with their images' labels, paths and parts: one row for each distinct image, in the order of the files.

    Attributes
    ----------
    features : by `layer@pooling`: float32 (n, d), or (n, height, width, channels) of the pooling none
    labels : int64 (n,), positions in `classes`, -1 without a label; bool (n, k) of images with several labels; None
        where no image has a label
    classes : str (k,)
    paths : object (n,)
    split : str (n,), train, val or test, the same that `fit_head` uses; None without at least two classes
    """

    features: dict[str, np.ndarray]
    labels: np.ndarray | None
    classes: np.ndarray
    paths: np.ndarray
    split: np.ndarray | None

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {values.shape}" for name, values in self.features.items())
        return (
            f"<featx.FeatureArrays: {counted(len(self), 'image')} of {counted(len(self.classes), 'class', 'classes')}; "
            f"{shapes}>"
        )

    def _repr_html_(self) -> str:
        rows = zip(self.paths, self._label_names, self.split if self.split is not None else repeat(None), strict=False)
        return table_html(repr(self).strip("<>"), ("path", "label", "split"), rows, len(self))

    @property
    def _label_names(self) -> Iterable[str | None]:
        if self.labels is None:
            return repeat(None)
        if self.labels.ndim == 2:
            return (", ".join(self.classes[row]) for row in self.labels)
        return (str(self.classes[code]) if code >= 0 else None for code in self.labels)

    @property
    def X(self) -> np.ndarray:  # noqa: N802 - scikit-learn's name for features
        """The features of the one layer and pooling.

        Raises
        ------
        UsageError
            There are several: use `features`.
        """
        if len(self.features) != 1:
            names = ", ".join(self.features)
            raise UsageError(f"There are features of {names}. Choose, as in features[{min(self.features)!r}].")
        return next(iter(self.features.values()))

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`: path, label, split if known, then a column for every feature.

        Several labels per image are bool columns, `label_<class>`. Features are named `layer@pooling_0` and
        so on, maps in the order of their flattened values.

        Raises
        ------
        FeatxError
            pandas is not installed.
        """
        pd = import_pandas()
        known: dict[str, Any] = {"path": self.paths}
        if self.labels is not None and self.labels.ndim == 2:
            known |= {f"label_{name}": self.labels[:, code] for code, name in enumerate(self.classes)}
        elif self.labels is not None:
            known["label"] = pd.Categorical.from_codes(self.labels, self.classes)
        if self.split is not None:
            known["split"] = self.split
        tables = [pd.DataFrame(known)]
        for name, values in self.features.items():
            flat = values.reshape(len(values), -1)
            tables.append(pd.DataFrame(flat, columns=[f"{name}_{i}" for i in range(flat.shape[1])]))
        return pd.concat(tables, axis=1)


@takes(*READ_FEATURES)
def read_features(
    data: PathLike | None = None,
    *,
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[ReadFeaturesKeywords],
) -> FeatureArrays:
    """Read features, labels, paths and split as arrays; missing features are computed first.

    Images that belong to no part of a split (the same bytes under two labels, those without a label) are skipped,
    as in `featx cache export`; without two classes there is no split. The parts are kept in `<runs>/<name>`, as
    `fit_head` keeps them.

    Parameters
    ----------
    data, pipeline, progress : as in `featx.extract`
    options : of the sections data, features and report, listed below

    Returns
    -------
    FeatureArrays
        with `features`, `labels`, `classes`, `paths`, `split`, and `X` for a single layer; `to_pandas()`

    Raises
    ------
    FeatxError
        Invalid input, in one sentence that says what to do.

    Examples
    --------
    >>> import featx
    >>> arrays = featx.read_features("flowers")
    >>> arrays.X.shape, arrays.labels.shape
    ((36, 1280), (36,))
    >>> sorted({str(part) for part in arrays.split})
    ['test', 'train', 'val']
    """
    wanted = read_options(READ_FEATURES, options, "featx.read_features", data, pipeline)
    return _kept(wanted, progress).arrays()


@takes(*READ_FEATURES)
def iter_features(
    data: PathLike | None = None,
    *,
    rows: int = 0,
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[ReadFeaturesKeywords],
) -> Iterator[FeatureArrays]:
    """Read the same as `read_features`, block by block, for features that do not fit into memory.

    Missing features are computed before the first block. Images come in the order of their files, each once.

    Parameters
    ----------
    data, pipeline, progress : as in `featx.extract`
    rows : images per block, fewer in the last one; 0: as many as fit into about 64 MB
    options : of the sections data, features and report, listed below

    Yields
    ------
    FeatureArrays
        as in `read_features`

    Raises
    ------
    FeatxError
        Invalid input, in one sentence that says what to do.

    Examples
    --------
    >>> import featx
    >>> [block.X.shape for block in featx.iter_features("flowers", rows=20)]
    [(20, 1280), (16, 1280)]
    """
    if rows < 0:
        raise UsageError(f"rows={rows} is not a number of images. Leave it out for blocks of about 64 MB.")
    wanted = read_options(READ_FEATURES, options, "featx.iter_features", data, pipeline)
    return _kept(wanted, progress).blocks(rows)


@dataclass(frozen=True)
class _Kept:
    """Features in the store and what is known of their images, not yet read.

    rows : of the extraction; labels, split : of those
    """

    extraction: Extraction
    rows: np.ndarray
    labels: np.ndarray | None
    split: np.ndarray | None

    def arrays(self, some: slice = slice(None)) -> FeatureArrays:
        """Read some of the rows."""
        done, rows = self.extraction, self.rows[some]
        tables = {output.name: done.features(output, rows) for output in done.outputs}
        return FeatureArrays(
            features={name: table.asarray().reshape(table.shape) for name, table in tables.items()},
            labels=None if self.labels is None else self.labels[some],
            classes=np.array(done.images.classes, dtype=str),
            paths=np.array([done.images.paths[row] for row in rows.tolist()], dtype=object),
            split=None if self.split is None else np.array(SPLITS)[self.split[some]],
        )

    def blocks(self, rows: int) -> Iterator[FeatureArrays]:
        """Read all rows in blocks."""
        widths = [width(self.extraction.features(output, self.rows[:1])) for output in self.extraction.outputs]
        step = rows or max(1, _BLOCK_BYTES // (4 * sum(widths)))
        for start in range(0, len(self.rows), step):
            yield self.arrays(slice(start, start + step))


def _kept(wanted: Pipeline, progress: Progress | bool) -> _Kept:
    """Extract what is missing, and split the images as the last run of their name did."""
    with Cache(wanted.features.cache) as cache, shown_by(progress) as show:
        found = gather(wanted, cache, show, views=False)
    return _Kept(found.extraction, found.rows, found.labels, found.split)
