"""The public functions: what the command line does, from Python, with the same options under the same names.

Each gathers a pipeline and hands it to the functions that the command of the same name calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from featx.bundle import Bundle, find_bundle, load_bundle
from featx.bundle import pack as pack_bundle
from featx.dataset import SPLITS
from featx.dataset.memory import images_in_memory, several
from featx.errors import DataError, FeatxError, UsageError
from featx.evaluate import judge, measure_judged
from featx.extraction import Extraction
from featx.extraction import extract as extract_images
from featx.options import SECTIONS, Pipeline, help_of, listed_options
from featx.pipeline import apply_options, option_names, start_pipeline
from featx.predict import Prediction, Unread, find_files, iter_probabilities
from featx.predict import predict as predict_images
from featx.progress import Progress, no_progress
from featx.remote import plain
from featx.run import choose_images, fit, images_of_part, prepare, read_data

PathLike = str | Path
Function = TypeVar("Function", bound=Callable[..., Any])


def _takes(*sections: str) -> Callable[[Function], Function]:
    """Show the options of these sections in signature and documentation of a function that takes `**options`."""

    def decorate(function: Function) -> Function:
        names = option_names(sections)
        taken = [
            (SECTIONS[section], entry)
            for section in sections
            for entry in listed_options(SECTIONS[section])
            if entry.name in names
        ]
        shape = signature(function)
        own = [one for one in shape.parameters.values() if one.kind is not Parameter.VAR_KEYWORD]
        more = [
            Parameter(one.name, Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type) for _, one in taken
        ]
        function.__signature__ = shape.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
        listed = "\n".join(f"    {one.name} : {help_of(section, one)}" for section, one in taken)
        function.__doc__ = f"{function.__doc__}\n    Options\n    -------\n{listed}\n"
        return function

    return decorate


def read_options(
    sections: Sequence[str],
    options: Mapping[str, Any],
    where: str,
    data: PathLike | None = None,
    pipeline: PathLike | None = None,
) -> Pipeline:
    """The pipeline that keywords mean, as on the command line; without data and file, that of the default file.

    Raises
    ------
    UsageError
        An unknown option (with the near one), or a value of the wrong kind.
    """
    start = start_pipeline(_path(data), None if pipeline is None else Path(pipeline))
    return apply_options(start, sections, {name: as_written(value) for name, value in options.items()}, where)


def _path(data: Any) -> str | None:
    if data is None or isinstance(data, str | Path):
        return data if data is None else str(data)
    raise UsageError(
        f"data is one folder, CSV or image file; got a {type(data).__name__}. featx.FeatureExtractor takes lists of "
        "files, and arrays."
    )


def as_written(value: Any) -> Any:
    """A value as a pipeline file would hold it."""
    if isinstance(value, np.ndarray | np.generic):
        return as_written(value.tolist())
    if isinstance(value, list | tuple):
        return [as_written(one) for one in value]
    return os.fspath(value) if isinstance(value, Path) else value


def _command(name: str, data: PathLike | None, pipeline: PathLike | None, options: Mapping[str, Any]) -> str:
    """What was called, for the record of a bundle: without the passwords and signatures of URLs."""
    given = {"pipeline": pipeline and str(pipeline)} if pipeline is not None else {}
    listed = [f"{key}={as_written(value)!r}" for key, value in (given | dict(options)).items()]
    return f"{name}({', '.join([*([repr(plain(str(data)))] if data is not None else []), *listed])})"


@_takes("data", "features")
def extract(
    data: PathLike | None = None,
    *,
    pipeline: PathLike | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Extraction:
    """Compute the features that the store lacks, as `featx extract` does.

    Parameters
    ----------
    data : a folder per class, train/val/test folders, a CSV, or a folder of images without labels; without it that of
        the pipeline file
    pipeline : a pipeline file, which the options override; without it and without data, the default one
    progress : told (stage, done, total) while it goes on
    options : of the sections data and features, listed below

    Returns
    -------
    Extraction
        with `images` (an `ImageSet`: `paths`, `labels`, `classes`), `computed`, `reused`, `duplicates`, `bad`
        [{path, reason}], `seconds`

    Raises
    ------
    FeatxError
        What a user can mend, in one sentence.
    """
    wanted = read_options(("data", "features"), options, "featx.extract", data, pipeline)
    return extract_images(choose_images(wanted, read_data(wanted)), wanted.features, progress)


@dataclass(frozen=True)
class FeatureArrays:
    """Features and what is known of their images: one row for each different image, in the order of the files.

    Attributes
    ----------
    features : by `layer@pooling`: float32 (n, d), or (n, height, width, channels) of the pooling none
    labels : int64 (n,), positions in `classes`; bool (n, k) of images with several labels; None without labels
    classes : str (k,)
    paths : object (n,)
    split : str (n,), train, val or test, the same that `fit_head` uses; None where there are no two classes
    """

    features: dict[str, np.ndarray]
    labels: np.ndarray | None
    classes: np.ndarray
    paths: np.ndarray
    split: np.ndarray | None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def X(self) -> np.ndarray:  # noqa: N802 - scikit-learn's name for features
        """The features of the one layer and pooling.

        Raises
        ------
        UsageError
            When there are several: take them from `features`.
        """
        if len(self.features) != 1:
            names = ", ".join(self.features)
            raise UsageError(f"There are features of {names}. Choose, as in features[{min(self.features)!r}].")
        return next(iter(self.features.values()))

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`: path, label, split where they are known, then a column for every feature.

        Several labels of an image are a column of bool each, `label_<class>`. Features are named `layer@pooling_0` and
        so on, maps in the order of their flattened values.

        Raises
        ------
        FeatxError
            When pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise FeatxError(
                "to_pandas needs pandas, which featx does not install. Type: pip install pandas"
            ) from error
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


@_takes("data", "features", "report")
def read_features(
    data: PathLike | None = None,
    *,
    pipeline: PathLike | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> FeatureArrays:
    """Features, labels, paths and split as arrays; what the store lacks is computed first.

    Images that belong to no part of the split (the same bytes under two labels, those without a label) are left out,
    as they are by `featx cache export`. The parts are kept in `<runs>/<name>`, as `fit_head` keeps them.

    Parameters
    ----------
    data, pipeline, progress : as of `featx.extract`
    options : of the sections data, features and report, listed below

    Returns
    -------
    FeatureArrays
        with `features`, `labels`, `classes`, `paths`, `split`, and `X` where there is one layer; `to_pandas()`

    Raises
    ------
    FeatxError
        What a user can mend, in one sentence.
    """
    wanted = read_options(("data", "features", "report"), options, "featx.read_features", data, pipeline)
    images = read_data(wanted)
    if images.labels is None or len(images.classes) < 2:  # nothing to split by
        done = extract_images(images, wanted.features, progress)
        used = np.flatnonzero(done.readable)
        rows = used[np.sort(np.unique(done.digests[used], return_index=True)[1])]
        return _arrays(done, rows, None if images.labels is None else images.labels[rows], None)
    prepared = prepare(wanted, progress)
    sample = prepared.sample
    return _arrays(prepared.extraction, sample.rows, sample.y, np.array(SPLITS)[sample.split])


def _arrays(done: Extraction, rows: np.ndarray, labels: np.ndarray | None, split: np.ndarray | None) -> FeatureArrays:
    tables = {output.name: done.features(output, rows) for output in done.outputs}
    return FeatureArrays(
        features={name: table.asarray().reshape(table.shape) for name, table in tables.items()},
        labels=labels,
        classes=np.array(done.images.classes, dtype=str),
        paths=np.array([done.images.paths[row] for row in rows], dtype=object),
        split=split,
    )


@dataclass(frozen=True)
class Predictions(Sequence[Prediction | Unread]):
    """An answer for every image, in the order of the images.

    answers : a `Prediction` (path, label, confidence, top) each, or an `Unread` (path, reason)
    """

    answers: tuple[Prediction | Unread, ...]

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, row: Any) -> Any:
        return self.answers[row]

    def __iter__(self) -> Iterator[Prediction | Unread]:
        return iter(self.answers)

    @property
    def labels(self) -> np.ndarray:
        """The likeliest class of each image: object (n,), None where it cannot be read.

        Of a model that gives several labels, a tuple of them.
        """
        found = np.empty(len(self), dtype=object)
        for row, one in enumerate(self.answers):
            if isinstance(one, Prediction):
                found[row] = one.label if one.labels is None else one.labels
        return found

    @property
    def confidence(self) -> np.ndarray:
        """Of the likeliest class of each image, float64 (n,), in [0, 1]; NaN where it cannot be read."""
        return np.array([one.confidence if isinstance(one, Prediction) else np.nan for one in self.answers])

    @property
    def bad(self) -> list[Unread]:
        """The images that cannot be read, with the reason."""
        return [one for one in self.answers if isinstance(one, Unread)]


class Model:
    """A bundle, to be asked. `featx.fit_head` makes one and `featx.load` reads one.

    Attributes
    ----------
    bundle : the `featx.bundle.Bundle` behind it
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def __repr__(self) -> str:
        about = self.bundle.about
        return f"<featx.Model {self.path}: {about['head']['clf']} on {', '.join(about['outputs'])}>"

    @property
    def path(self) -> Path:
        """The bundle's directory."""
        return self.bundle.path

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the columns of `predict_proba`."""
        return self.bundle.classes

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """What was measured when it was made: {"val": {"accuracy": ...}, "test": {...}}; None is not defined."""
        return dict(self.bundle.about["metrics"])

    def predict(
        self,
        images: Any,
        *,
        top: int = 1,
        min_confidence: float = 0.0,
        max_distance: float | None = None,
        workers: int = 0,
    ) -> Predictions:
        """The classes of images, as `featx predict` tells them.

        Parameters
        ----------
        images : a file or folder; a sequence of files; an array uint8 (n, height, width, 3) of RGB; a sequence of such
            arrays or of Pillow's images
        top : how many classes to tell
        min_confidence : in [0, 1]; where the likeliest class has less, the label is "unsure"
        max_distance : the label is "unknown" farther than this from all training images, in units within which 99 % of
            the images of known classes lie
        workers : decoding threads, 0 for one per core

        Raises
        ------
        FeatxError
            No images, what is no image, or a bundle that cannot tell distances.
        """
        sources = _sources(images)
        return Predictions(tuple(predict_images(self.bundle, sources, top, workers, min_confidence, max_distance)))

    def predict_proba(self, images: Any, *, workers: int = 0) -> np.ndarray:
        """The confidence of every class: float64 (n, k), in the order of `classes`.

        Parameters
        ----------
        images, workers : as of `predict`

        Raises
        ------
        DataError
            An image that cannot be read: it is named.
        """
        sources = _sources(images)
        found = np.empty((len(sources), len(self.classes)))
        for rows, chances, bad in iter_probabilities(self.bundle, sources, workers):
            for row, reason in bad:
                source = sources[row]
                name = f"image {row + 1}" if isinstance(source, bytes) else str(source)
                raise DataError(f"{name} cannot be read ({reason}). predict tells of such images, and goes on.")
            found[rows] = chances
        return found

    @_takes("data")
    def evaluate(
        self,
        data: PathLike | None = None,
        part: str = "all",
        *,
        pipeline: PathLike | None = None,
        progress: Progress = no_progress,
        **options: Any,
    ) -> dict[str, Any]:
        """Measure on labelled images, as `featx evaluate` does.

        Parameters
        ----------
        data, pipeline, progress : as of `featx.extract`
        part : "train", "val", "test" as they were when the bundle was made, by the images' content, or "all"
        options : of the section data, listed below

        Returns
        -------
        dict
            accuracy and the other metrics of `featx evaluate --json`; bad [{path, reason}]

        Raises
        ------
        FeatxError
            No labels, no image of that part, or another part than these.
        """
        if part not in {*SPLITS, "all"}:
            raise UsageError(f"part is one of {', '.join(SPLITS)} and all, got {part!r}.")
        wanted = read_options(("data",), options, "evaluate", data, pipeline)
        images, _ = images_of_part(wanted, self.bundle, part)
        judged, bad = judge(self.bundle, images, part, progress)
        return measure_judged(judged) | {"bad": bad}

    @_takes("data", "features", "finetune", "report", "tracking")
    def finetune(
        self,
        data: PathLike | None = None,
        *,
        pipeline: PathLike | None = None,
        progress: Progress = no_progress,
        **options: Any,
    ) -> Model:
        """Train backbone and head end to end from here, as `featx finetune` does, and keep it as one more bundle.

        Parameters
        ----------
        data, pipeline, progress : as of `featx.extract`
        options : of the sections data, features, finetune, report and tracking, listed below; give those of data,
            features and report that `fit_head` was given

        Raises
        ------
        FeatxError
            A head that is no network, no val part, or a loss that becomes infinite.
        """
        from featx.finetune import finetune

        sections = ("data", "features", "finetune", "report", "tracking")
        wanted = read_options(sections, options, "finetune", data, pipeline)
        command = _command("featx.Model.finetune", data, pipeline, options)
        return Model(finetune(self.bundle, prepare(wanted, progress, views=False), command, progress))

    def pack(self, out: PathLike) -> Path:
        """Write the bundle as one `.featx` file, which `featx.load` and `featx predict --model` read anywhere."""
        pack_bundle(self.bundle, Path(out))
        return Path(out)


def _sources(images: Any) -> Sequence[str | Path | bytes]:
    """What to decode, one source for each answer."""
    if isinstance(images, str | Path):
        return find_files([images])
    given = several(images)
    if isinstance(given, list) and given and all(isinstance(one, str | Path | bytes) for one in given):
        return given
    return images_in_memory(given).sources


@_takes("data", "features", "head", "report", "tracking")
def fit_head(
    data: PathLike | None = None,
    *,
    pipeline: PathLike | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Model:
    """Fit a head on cached features, measure it and save it as a bundle, as `featx fit-head` does.

    Features that are missing are computed first.

    Parameters
    ----------
    data, pipeline, progress : as of `featx.extract`
    options : of the sections data, features, head, report and tracking, listed below

    Returns
    -------
    Model
        with `metrics`, `classes`, `path`, `predict`

    Raises
    ------
    FeatxError
        What a user can mend, in one sentence.
    """
    sections = ("data", "features", "head", "report", "tracking")
    wanted = read_options(sections, options, "featx.fit_head", data, pipeline)
    return Model(fit(prepare(wanted, progress), _command("featx.fit_head", data, pipeline, options)))


def load(bundle: PathLike, *, runs: PathLike = "runs") -> Model:
    """A bundle to predict with: its folder, a `.featx` file, or the folder of a run, whose best bundle is taken.

    runs : the folder of results, for the message when there is none

    Raises
    ------
    BundleError
        When there is none, or when it is damaged, changed or newer than this featx.
    """
    return Model(load_bundle(find_bundle(str(bundle), Path(runs), "")))
