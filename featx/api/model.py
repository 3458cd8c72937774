"""Model: a bundle in Python, to predict, evaluate, explain and train with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack, overload

import numpy as np

from featx.api.asking import Consulted
from featx.api.keywords import EvaluateKeywords, TuneKeywords
from featx.api.model_table import model_html
from featx.api.options import EVALUATE, FINETUNE, PathLike, Writing, WritingKeywords, call_text, read_options, takes
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
from featx.metrics.comparison import require_comparable
from featx.metrics.measures import measure
from featx.store.cache import Cache
from featx.workflow.forecast import DryRun, forecast_finetune
from featx.workflow.mistakes import explain_mistakes, require_unused
from featx.workflow.prepare import images_of_part
from featx.workflow.publish import publish_finetuned
from featx.workflow.rivals import Rival, find_rival
from featx.workflow.start import prepare_finetune


@dataclass(frozen=True)
class _Measuring(Writing):
    against: PathLike | Model | None = None


class MeasureKeywords(EvaluateKeywords, WritingKeywords, total=False):
    """The keywords of `Model.evaluate`."""

    against: PathLike | Model | None


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
        against : another model, or where it is: whether the difference between the two is more than noise, on the
            images that neither was trained on
        mistakes : a folder for a page of the mistakes, each with its maps and its nearest training images, and their
            table; force : whether it may have files in it
        options : of the section data, listed below

        Returns
        -------
        dict
            accuracy and the other metrics of `featx evaluate --json`; bad [{path, reason}]; notes [sentence]; mistakes
            {page, csv, images, shown} where a folder was named; against {bundle, images, accuracy, interval, p_value,
            verdict, ...} where another model was

        Raises
        ------
        FeatxError
            No labels, no image of that part or of a class that it knows, or another part than these.

        Examples
        --------
        >>> import featx
        >>> featx.load("runs/flowers").evaluate("flowers", "test")["accuracy"]
        1.0
        >>> model = featx.load("runs/flowers/1-logreg")
        >>> model.evaluate("flowers", "test", against=model)["against"]["verdict"]
        'The difference is within noise (p = 1).'
        """
        if part not in {*SPLITS, "all"}:
            raise UsageError(f"part must be one of {', '.join(SPLITS)} or all, got {part!r}.")
        folder, force = None if mistakes is None else Path(mistakes), options.pop("force", False)
        against = options.pop("against", None)
        wanted = read_options(EVALUATE, options, "evaluate", data, pipeline)
        if folder is not None:
            require_unused(folder, force)
        average, other = self._average(tta), self._rival(against, Path(wanted.report.runs))
        with Cache(wanted.features.cache) as cache:
            images, notes = images_of_part(wanted, self.bundle, part, cache)
            rival = None if other is None else Rival.of(other, self.bundle, images, part, cache)
        with shown_by(progress) as show:
            judged, bad = judge(self.bundle, images, part, show, average)
            notes += [*(rival.notes if rival else ()), *describe_unknown(judged, self.bundle)]
            found = measure(judged).as_json() | {"bad": bad, "notes": notes}
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
        """Train backbone and head end to end from here, as `featx finetune` does, and keep it as one more bundle.

        Parameters
        ----------
        data, pipeline, progress : as of `featx.extract`
        dry_run : as of `featx.fit_head`
        options : of the sections data, features, augment, finetune, report and tracking, listed below; give those of
            data and report that `fit_head` was given; the network is this model's

        Raises
        ------
        FeatxError
            A head that is not a network, no val part, or a loss that becomes infinite.
        """
        wanted = read_options(FINETUNE, options, "finetune", data, pipeline)
        command = call_text("featx.Model.finetune", data, pipeline, options)
        with Cache(wanted.features.cache) as cache, shown_by(progress) as show:
            context = Context(command, show)
            if dry_run:
                return forecast_finetune(wanted, self.bundle, cache, context)
            prepared = prepare_finetune(self.bundle, wanted, cache, context)
            return Model(publish_finetuned(self.bundle, prepared, context))

    def pack(self, out: PathLike, *, keep_paths: bool = False, force: bool = False) -> Path:
        """Write the bundle as one `.featx` file, which `featx.load` and `featx predict --model` read anywhere.

        force : whether a file that is there may be replaced
        keep_paths : whether the call or command that made it keeps the folders in its paths, which may name people
        """
        require_new_in_python(out, force)
        pack_bundle(self.bundle, Path(out), keep_paths)
        return Path(out)
