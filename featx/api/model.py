"""A bundle, to be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import numpy as np

from featx.active.drift import Drift, find_drift
from featx.active.next import NextImages, choose_next
from featx.api.asking import Consulted
from featx.api.keywords import EvaluateKeywords, FindDriftKeywords, NextImagesKeywords, TuneKeywords
from featx.api.model_table import model_html
from featx.api.options import (
    DRIFT,
    EVALUATE,
    FINETUNE,
    NEXT,
    PathLike,
    Writing,
    WritingKeywords,
    call_text,
    read_options,
    takes,
)
from featx.api.predictions import Images, Predictions, SetKeywords, sources_of
from featx.bundle.bundle import Bundle
from featx.bundle.bundle import pack as pack_bundle
from featx.config import check_bounds
from featx.dataset import SPLITS
from featx.errors import DataError, UsageError
from featx.images.sources import source_name
from featx.inference.judge import describe_unknown, judge
from featx.inference.predict import AnswerOptions, Average, iter_probabilities
from featx.inference.predict import predict as predict_images
from featx.io.bars import shown_by
from featx.io.context import Context
from featx.io.outputs import require_new_in_python
from featx.io.progress import Progress
from featx.metrics.measures import measure
from featx.store.cache import Cache
from featx.workflow.mistakes import explain_mistakes, require_unused
from featx.workflow.prepare import images_of_part, prepare
from featx.workflow.publish import publish_finetuned


class MeasureKeywords(EvaluateKeywords, WritingKeywords, total=False):
    """The keywords of `Model.evaluate`."""


class Model(Consulted):
    """A bundle, to be asked. `featx.fit_head` makes one and `featx.load` reads one.

    Attributes
    ----------
    bundle : the `featx.bundle.bundle.Bundle` behind it

    Examples
    --------
    >>> import featx
    >>> model = featx.load("runs/flowers")
    >>> model
    <featx.Model runs/flowers/1-logreg: logreg on top_activation@avg>
    >>> model.predict("flowers/rose").labels[:2]
    array(['rose', 'rose'], dtype=object)
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def __repr__(self) -> str:
        manifest = self.bundle.manifest
        return f"<featx.Model {self.bundle.shown}: {manifest.head.clf} on {', '.join(manifest.output_names)}>"

    def _repr_html_(self) -> str:
        return model_html(self.bundle)

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
        return {part: one.as_json() for part, one in self.bundle.manifest.metrics.items() if one is not None}

    def predict(
        self,
        images: Images,
        *,
        top: int = 1,
        min_confidence: float = 0.0,
        max_distance: float | None = None,
        tta: int = 0,
        workers: int = 0,
        **sets: Unpack[SetKeywords],
    ) -> Predictions:
        """The classes of images, as `featx predict` shows them.

        Parameters
        ----------
        images : a file or folder; a sequence of files; an array uint8 (n, height, width, 3) of RGB; a sequence of such
            arrays or of Pillow's images
        top : how many classes to return
        min_confidence : in [0, 1]; where the likeliest class has less, the label is "unsure"
        max_distance : the label is "unknown" farther than this from all training images, in units within which 99 % of
            the images of known classes lie
        tta : how many altered versions of each image its answer is averaged over, by the model's augmentation
        workers : decoding threads, 0 for one per core
        sets : coverage, in (0, 1): each image has a `set` of classes, which holds the truth in this share of images;
            per_class: whether that share holds for each class

        Raises
        ------
        FeatxError
            A number out of its bounds, no images, what is not an image, or a bundle that has no distances.

        Examples
        --------
        >>> import featx
        >>> answers = featx.load("runs/flowers").predict("flowers/tulip", top=2)
        >>> len(answers), answers[0].label, [one.label for one in answers[0].top][0]
        (12, 'tulip', 'tulip')
        """
        asked = AnswerOptions(top, min_confidence, max_distance, **sets)
        check_bounds(asked)
        sources = sources_of(images)
        return Predictions(tuple(predict_images(self.bundle, sources, asked, workers, self._average(tta))))

    def _average(self, tta: int) -> Average | None:
        if tta < 0:
            raise UsageError(f"tta must be at least 0, got {tta}.")
        return Average.of_bundle(self.bundle, tta) if tta else None

    def predict_proba(self, images: Images, *, workers: int = 0) -> np.ndarray:
        """The confidence of every class: float64 (n, k), in the order of `classes`.

        Parameters
        ----------
        images, workers : as of `predict`

        Raises
        ------
        DataError
            An image that cannot be read: it is named.

        Examples
        --------
        >>> import featx
        >>> featx.load("runs/flowers").predict_proba("flowers/rose").shape
        (12, 3)
        """
        sources = sources_of(images)
        found = np.empty((len(sources), len(self.classes)))
        for rows, chances, bad in iter_probabilities(self.bundle, sources, workers):
            for row, reason in bad:
                name = source_name(sources[row], row)
                raise DataError(f"{name} cannot be read ({reason}). predict reports such images, and goes on.")
            found[rows] = chances
        return found

    @takes(*EVALUATE, also=Writing)
    def evaluate(
        self,
        data: PathLike | None = None,
        part: str = "all",
        *,
        tta: int = 0,
        mistakes: PathLike | None = None,
        pipeline: PathLike | None = None,
        progress: Progress | bool = False,
        **options: Unpack[MeasureKeywords],
    ) -> dict[str, Any]:
        """Measure on labelled images, as `featx evaluate` does.

        Parameters
        ----------
        data, pipeline, progress : as of `featx.extract`
        part : "train", "val", "test" as they were when the bundle was made, by the images' content, or "all"
        tta : as of `predict`
        mistakes : a folder for a page of the mistakes, each with its maps and its nearest training images, and their
            table; force : whether it may have files in it
        options : of the section data, listed below

        Returns
        -------
        dict
            accuracy and the other metrics of `featx evaluate --json`; bad [{path, reason}]; notes [sentence]; mistakes
            {page, csv, images, shown} where a folder was named

        Raises
        ------
        FeatxError
            No labels, no image of that part or of a class that it knows, or another part than these.

        Examples
        --------
        >>> import featx
        >>> featx.load("runs/flowers").evaluate("flowers", "test")["accuracy"]
        1.0
        """
        if part not in {*SPLITS, "all"}:
            raise UsageError(f"part is one of {', '.join(SPLITS)} and all, got {part!r}.")
        folder, force = None if mistakes is None else Path(mistakes), options.pop("force", False)
        wanted = read_options(EVALUATE, options, "evaluate", data, pipeline)
        if folder is not None:
            require_unused(folder, force)
        average = self._average(tta)
        with Cache(wanted.features.cache) as cache:
            images, notes = images_of_part(wanted, self.bundle, part, cache)
        with shown_by(progress) as show:
            judged, bad = judge(self.bundle, images, part, show, average)
            notes += describe_unknown(judged, self.bundle)
            found = measure(judged).as_json() | {"bad": bad, "notes": notes}
            if folder is None:
                return found
            context = Context(call_text("featx.Model.evaluate", data, pipeline, options), show)
            return found | {"mistakes": explain_mistakes(folder, self.bundle, judged, wanted, context).as_json()}

    @takes(*FINETUNE)
    def finetune(
        self,
        data: PathLike | None = None,
        *,
        pipeline: PathLike | None = None,
        progress: Progress | bool = False,
        **options: Unpack[TuneKeywords],
    ) -> Model:
        """Train backbone and head end to end from here, as `featx finetune` does, and keep it as one more bundle.

        Parameters
        ----------
        data, pipeline, progress : as of `featx.extract`
        options : of the sections data, features, augment, finetune, report and tracking, listed below; give those of
            data, features and report that `fit_head` was given

        Raises
        ------
        FeatxError
            A head that is not a network, no val part, or a loss that becomes infinite.
        """
        wanted = read_options(FINETUNE, options, "finetune", data, pipeline)
        command = call_text("featx.Model.finetune", data, pipeline, options)
        with Cache(wanted.features.cache) as cache, shown_by(progress) as show:
            prepared = prepare(wanted, cache, show, views=False)
            return Model(publish_finetuned(self.bundle, prepared, Context(command, show)))

    @takes(*NEXT)
    def next(
        self,
        pool: PathLike | None = None,
        *,
        out: PathLike | None = None,
        pipeline: PathLike | None = None,
        progress: Progress | bool = False,
        **options: Unpack[NextImagesKeywords],
    ) -> NextImages:
        """Choose the images of a pool whose labels would teach this model most, as `featx next --model` does.

        Parameters
        ----------
        pool, out, pipeline, progress, options : as of `featx.next`; the features are those that the model predicts from

        Raises
        ------
        FeatxError
            No image can be read, or the model knows the labels of all.

        Examples
        --------
        >>> import featx
        >>> found = featx.load("runs/flowers").next("pool", count=2, html=False)
        >>> found.pool, found.known
        (3, 0)
        """
        wanted = read_options(NEXT, options, "next", pool, pipeline)
        command, folder = call_text("featx.Model.next", pool, pipeline, options), None if out is None else Path(out)
        with Cache(wanted.features.cache) as cache, shown_by(progress) as show:
            return choose_next(wanted, self.bundle, cache, folder, Context(command, show))

    @takes(*DRIFT)
    def drift(
        self,
        new: PathLike | None = None,
        *,
        out: PathLike | None = None,
        pipeline: PathLike | None = None,
        progress: Progress | bool = False,
        **options: Unpack[FindDriftKeywords],
    ) -> Drift:
        """Compare new images with those that this model was made with, as `featx drift` does.

        Parameters
        ----------
        new : a folder or CSV of images, whose labels do not matter
        out : folder of the files; without it `drift` in that of the results
        pipeline, progress : as of `featx.extract`
        options : of the sections data, features, drift and report, listed below

        Returns
        -------
        Drift
            with `drifted`, `p`, `verdict`, `tests`, `mix`, `strangest`

        Raises
        ------
        FeatxError
            Fewer than 20 new images, or a model that keeps none to compare with.

        Examples
        --------
        >>> import featx
        >>> try:
        ...     featx.load("runs/flowers").drift("pool", html=False)
        ... except featx.FeatxError as error:
        ...     print(error)
        A test takes at least 20 new images, and there are 3. Name a folder with more.
        """
        wanted = read_options(DRIFT, options, "drift", new, pipeline)
        command, folder = call_text("featx.Model.drift", new, pipeline, options), None if out is None else Path(out)
        with Cache(wanted.features.cache) as cache, shown_by(progress) as show:
            return find_drift(wanted, self.bundle, cache, folder, Context(command, show))

    def pack(self, out: PathLike, *, keep_paths: bool = False, force: bool = False) -> Path:
        """Write the bundle as one `.featx` file, which `featx.load` and `featx predict --model` read anywhere.

        force : whether a file that is there may be replaced
        keep_paths : whether the call or command that made it keeps the folders in its paths, which may name people
        """
        require_new_in_python(out, force)
        pack_bundle(self.bundle, Path(out), keep_paths)
        return Path(out)
