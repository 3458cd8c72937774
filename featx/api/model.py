"""Model: a bundle in Python, to predict, evaluate, explain and train with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Unpack, cast, overload

import numpy as np

from featx.api.asking import Consulted
from featx.api.checked import checked, require_not_negative
from featx.api.keywords import EvaluateKeywords, TuneKeywords
from featx.api.model_table import model_html
from featx.api.options import EVALUATE, FINETUNE, PathLike, Writing, WritingKeywords, call_text, read_options, takes
from featx.api.own_run import tuning_of_own_run
from featx.api.predictions import Images, Predictions, PredictKeywords, SetKeywords, sources_of
from featx.bundle.bundle import Bundle, load_bundle
from featx.bundle.bundle import pack as pack_bundle
from featx.config import check_bounds
from featx.dataset import SPLITS
from featx.errors import DataError, UsageError
from featx.images.sources import source_name
from featx.inference.cached import open_cached
from featx.inference.judge import describe_unknown, judge
from featx.inference.predict import AnswerOptions, Average, iter_probabilities
from featx.inference.predict import predict as predict_images
from featx.io.bars import shown_by
from featx.io.context import Context
from featx.io.modules import named_modules
from featx.io.outputs import require_new_in_python
from featx.io.progress import Progress
from featx.metrics.comparison import require_comparable
from featx.metrics.measures import measure
from featx.store.cache import Cache
from featx.workflow.forecast import DryRun, forecast_finetune
from featx.workflow.mistakes import explain_mistakes, require_unused
from featx.workflow.own_data import own_data
from featx.workflow.prepare import images_of_part
from featx.workflow.publish import publish_finetuned
from featx.workflow.rivals import Rival, find_rival
from featx.workflow.start import prepare_finetune

_OWN = 'Give their folder or CSV as data, and "test" as part for those it was not fitted on.'


@dataclass(frozen=True)
class _Measuring(Writing):
    against: PathLike | Model | None = None


class MeasureKeywords(EvaluateKeywords, WritingKeywords, total=False):
    """The keywords of `Model.evaluate`."""

    against: PathLike | Model | None


def _reopen(path: str, imports: list[str]) -> Model:
    named_modules().allow(imports)
    return Model(load_bundle(Path(path)))


class Model(Consulted):
    """A bundle to predict, evaluate, explain and train with, from `featx.fit_head` or `featx.load`.

    It can be pickled, for other processes of this machine, which open its folder or file again.

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

    def __reduce__(self) -> tuple[Callable[[str, list[str]], Model], tuple[str, list[str]]]:
        """A pickle or a copy opens the bundle again: a network that is ready to run cannot be copied."""
        return _reopen, (str(self.bundle.shown.resolve()), list(named_modules().names))

    def _repr_html_(self) -> str:
        return model_html(self.bundle)

    @property
    def path(self) -> Path:
        """The bundle's directory."""
        return self.bundle.path

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the column order of `predict_proba`."""
        return self.bundle.classes

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """The metrics measured when it was created: {"val": {"accuracy": ...}, "test": {...}}; None: undefined."""
        return {part: one.as_json() for part, one in self.bundle.manifest.metrics.items() if one is not None}

    @checked
    def predict(
        self,
        images: Images,
        *,
        top: int = 1,
        min_confidence: float = 0.0,
        max_distance: float | None = None,
        tta: int = 0,
        workers: int = 0,
        **more: Unpack[PredictKeywords],
    ) -> Predictions:
        """Predict the classes of images, as `featx predict` does.

        Parameters
        ----------
        images : a file or folder; a sequence of files; an array uint8 (n, height, width, 3) of RGB; a sequence of such
            arrays or of Pillow's images
        top : how many classes to return
        min_confidence : in [0, 1]; below this confidence, the label is "unsure"
        max_distance : beyond this distance from all training images, the label is "unknown"; 99 % of images of known
            classes lie within 1
        tta : number of altered versions of each image to average over, by the model's augmentation
        workers : decoding threads, 0 for one per core
        more : coverage, in (0, 1): each image has a `set` of classes, which holds the truth in this share of images;
            per_class: whether that share holds for each class; cache, a folder: the features of files that are in that
            cache are read, and those of other files computed

        Raises
        ------
        FeatxError
            A number out of bounds, no images, something that is not an image, or a bundle without distances.

        Examples
        --------
        >>> import featx
        >>> answers = featx.load("runs/flowers").predict("flowers/tulip", top=2)
        >>> len(answers), answers[0].label, [one.label for one in answers[0].top][0]
        (12, 'tulip', 'tulip')
        """
        cache = more.pop("cache", None)
        asked = AnswerOptions(top, min_confidence, max_distance, **cast(SetKeywords, more))
        check_bounds(asked)
        require_not_negative("workers", workers)
        sources, average = sources_of(images), self._average(tta)
        if cache is None:
            return Predictions(tuple(predict_images(self.bundle, sources, asked, workers, average)))
        if any(isinstance(one, bytes) for one in sources):
            raise UsageError("cache is for image files; leave it out for arrays.")
        with open_cached(cache, self.bundle) as cached:
            return Predictions(tuple(predict_images(self.bundle, sources, asked, workers, average, cached)))

    def _average(self, tta: int) -> Average | None:
        require_not_negative("tta", tta)
        return Average.of_bundle(self.bundle, tta) if tta else None

    @checked
    def predict_proba(self, images: Images, *, workers: int = 0) -> np.ndarray:
        """Predict the probability of every class: float64 (n, k), in the order of `classes`.

        Parameters
        ----------
        images, workers : as in `predict`

        Raises
        ------
        DataError
            An unreadable image, by name.

        Examples
        --------
        >>> import featx
        >>> featx.load("runs/flowers").predict_proba("flowers/rose").shape
        (12, 3)
        """
        require_not_negative("workers", workers)
        sources = sources_of(images)
        found = np.empty((len(sources), len(self.classes)))
        for rows, probabilities, bad in iter_probabilities(self.bundle, sources, workers):
            for row, reason in bad:
                name = source_name(sources[row], row)
                raise DataError(f"{name} cannot be read ({reason}). predict reports such images, and goes on.")
            found[rows] = probabilities
        return found

    @takes(*EVALUATE, also=_Measuring)
    def evaluate(
        self,
        data: PathLike | None = None,
        part: str | None = None,
        *,
        tta: int = 0,
        mistakes: PathLike | None = None,
        pipeline: PathLike | None = None,
        progress: Progress | bool = False,
        **options: Unpack[MeasureKeywords],
    ) -> dict[str, Any]:
        """Evaluate on labelled images, as `featx evaluate` does.

        Parameters
        ----------
        data, pipeline, progress : as in `featx.extract`; without data and pipeline, the images that the model was made
            from, where its run is
        part : "train", "val", "test" as they were when the bundle was created, by the images' content, or "all"; None:
            test of its own images, all of other ones
        tta : as in `predict`
        against : another model or its path: tests whether the difference between the two is more than noise, on the
            images that neither was trained on
        mistakes : a folder for a page of the mistakes, each with its maps and its nearest training images, and their
            table; force : whether that folder may have files
        options : of the section data, listed below

        Returns
        -------
        dict
            accuracy and the other metrics of `featx evaluate --json`; bad [{path, reason}]; notes [sentence]; mistakes
            {page, csv, images, shown} if a folder was named; against {bundle, images, accuracy, interval, p_value,
            verdict, ...} if another model was

        Raises
        ------
        FeatxError
            No labels, no image of that part or of a known class, or an unknown part.

        Examples
        --------
        >>> import featx
        >>> featx.load("runs/flowers").evaluate("flowers", "test")["accuracy"]
        1.0
        >>> model = featx.load("runs/flowers/1-logreg")
        >>> model.evaluate("flowers", "test", against=model)["against"]["verdict"]
        'The difference is within noise (p = 1).'
        """
        own = data is None and pipeline is None
        part = part or ("test" if own else "all")
        if part not in {*SPLITS, "all"}:
            raise UsageError(f"part must be one of {', '.join(SPLITS)} or all, got {part!r}.")
        folder, force = None if mistakes is None else Path(mistakes), options.pop("force", False)
        against = options.pop("against", None)
        wanted = read_options(EVALUATE, options, "evaluate", data, pipeline)
        wanted = replace(wanted, data=own_data(self.bundle, wanted, _OWN)) if own else wanted
        if folder is not None:
            require_unused(folder, force, "force=True", "mistakes=")
        average, other = self._average(tta), self._rival(against, Path(wanted.report.runs))
        with Cache(wanted.features.cache) as cache:
            images, notes, unread = images_of_part(wanted, self.bundle, part, cache)
            rival = None if other is None else Rival.of(other, self.bundle, images, part, cache)
        with shown_by(progress) as show:
            judged, undecoded = judge(self.bundle, images, part, show, average)
            notes += [*(rival.notes if rival else ()), *describe_unknown(judged, self.bundle)]
            found = measure(judged).as_json() | {"bad": [*unread, *undecoded], "notes": notes}
            if rival is not None:
                averaged = Average.of_bundle(rival.bundle, tta) if tta else None
                found["against"] = rival.compare(self.bundle, judged, averaged, show).as_json()
            if folder is None:
                return found
            context = Context(call_text("featx.Model.evaluate", data, pipeline, options), show)
            return found | {"mistakes": explain_mistakes(folder, self.bundle, judged, wanted, context).as_json()}

    def _rival(self, against: PathLike | Model | None, runs: Path) -> Bundle | None:
        if against is None or not isinstance(against, Model):
            return None if against is None else find_rival(str(against), self.bundle, runs)
        require_comparable(self.bundle.multilabel, against.bundle.multilabel)
        return against.bundle

    @overload
    def finetune(
        self,
        data: PathLike | None = None,
        *,
        dry_run: Literal[False] = False,
        pipeline: PathLike | None = None,
        progress: Progress | bool = False,
        **options: Unpack[TuneKeywords],
    ) -> Model: ...

    @overload
    def finetune(
        self,
        data: PathLike | None = None,
        *,
        dry_run: Literal[True],
        pipeline: PathLike | None = None,
        progress: Progress | bool = False,
        **options: Unpack[TuneKeywords],
    ) -> DryRun: ...

    @takes(*FINETUNE)
    def finetune(
        self,
        data: PathLike | None = None,
        *,
        dry_run: bool = False,
        pipeline: PathLike | None = None,
        progress: Progress | bool = False,
        **options: Unpack[TuneKeywords],
    ) -> Model | DryRun:
        """Train backbone and head end to end from this model, as `featx finetune` does, and save a new bundle.

        Parameters
        ----------
        data, pipeline, progress : as in `featx.extract`; without data and pipeline, the images that the model was made
            from, where its run is; the result then joins that run
        dry_run : as in `featx.fit_head`
        options : of the sections data, features, augment, finetune, report and tracking, listed below; give the same
            options of data and report as to `fit_head`; the network is this model's

        Raises
        ------
        FeatxError
            A head that is not a network, no val part, or an infinite loss.
        """
        if data is None and pipeline is None:
            wanted = tuning_of_own_run(self.bundle, options)
        else:
            wanted = read_options(FINETUNE, options, "finetune", data, pipeline)
        command = call_text("featx.Model.finetune", data, pipeline, options)
        with Cache(wanted.features.cache) as cache, shown_by(progress) as show:
            context = Context(command, show)
            if dry_run:
                return forecast_finetune(wanted, self.bundle, cache, context)
            prepared = prepare_finetune(self.bundle, wanted, cache, context)
            return Model(publish_finetuned(self.bundle, prepared, context))

    @checked
    def pack(self, out: PathLike, *, keep_paths: bool = False, force: bool = False) -> Path:
        """Write the bundle as one `.featx` file, which `featx.load` and `featx predict --model` read on any machine.

        force : whether to replace an existing file
        keep_paths : whether to keep the folders in recorded paths, which may identify people
        """
        require_new_in_python(out, force)
        pack_bundle(self.bundle, Path(out), keep_paths)
        return Path(out)
