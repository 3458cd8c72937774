"""Questions to a bundle besides predictions: explanations, similar images, what to label, what has changed.

And for itself, for other runtimes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack, overload

from featx.active.drift import Drift, find_drift
from featx.active.next import NextImages, choose_next
from featx.api.checked import checked
from featx.api.keywords import FindDriftKeywords, NextImagesKeywords, ReadFeaturesKeywords
from featx.api.options import (
    DRIFT,
    NEXT,
    SIMILAR,
    PathLike,
    Writing,
    WritingKeywords,
    call_text,
    read_options,
    takes,
)
from featx.api.predictions import Images, sources_of
from featx.api.searching import Asked, find_similar, require_picture
from featx.bundle.bundle import Bundle
from featx.config import ExportFormat, ExportPrecision, check_bounds
from featx.export.flow import Exported, ExportOptions
from featx.export.flow import export as write_exports
from featx.inference.explain import Explainer, Explanation, Method
from featx.inference.overlays import DrawnExplanations, draw_explanations
from featx.inference.predict import AnswerOptions, Unread
from featx.io.bars import shown_by
from featx.io.context import Context
from featx.io.outputs import require_new_in_python
from featx.io.progress import Progress, no_progress
from featx.quality.similar import Search
from featx.store.cache import Cache


class Consulted:
    """The methods of `featx.Model` besides prediction and evaluation."""

    bundle: Bundle

    @overload
    def explain(
        self,
        images: Images,
        *,
        labels: str | Sequence[str] = (),
        top: int | None = None,
        method: Method = "auto",
        progress: Progress | bool = False,
    ) -> tuple[Explanation | Unread, ...]: ...

    @overload
    def explain(
        self,
        images: Images,
        *,
        out: PathLike,
        labels: str | Sequence[str] = (),
        top: int | None = None,
        method: Method = "auto",
        progress: Progress | bool = False,
        **writing: Unpack[WritingKeywords],
    ) -> DrawnExplanations: ...

    @takes(also=Writing)
    def explain(
        self,
        images: Images,
        *,
        out: PathLike | None = None,
        labels: str | Sequence[str] = (),
        top: int | None = None,
        method: Method = "auto",
        progress: Progress | bool = False,
        **writing: Unpack[WritingKeywords],
    ) -> tuple[Explanation | Unread, ...] | DrawnExplanations:
        """Find which regions of images support a class, as `featx explain` does.

        Parameters
        ----------
        images : as in `predict`
        out : a folder for the pictures and arrays; by default nothing is written
        force : whether to write into a folder that has files, replacing those of the same names [False]
        labels : the classes to explain, whatever is predicted, instead of `top`
        top : number of most likely classes to explain [1; with several labels per image, the predicted ones]
        method : "cam", "gradcam", "occlusion", or "auto": the first of these that this model has
        progress : as in `featx.extract`

        Returns
        -------
        tuple
            for each image an `Explanation` (`path`, `label`, `confidence`, `method`, `classes`, each with `label`,
            `score` and `map`, float32 (height, width) in units of the class's logit), or an `Unread`
        DrawnExplanations
            with out: `images`, each with its classes' files, `grid`, `unread`

        Raises
        ------
        FeatxError
            A class or method that this model does not have, or labels and top together.

        Examples
        --------
        >>> import featx
        >>> found = featx.load("runs/flowers").explain("flowers/rose/00.png")
        >>> found[0].label, found[0].method, found[0].classes[0].map.shape
        ('rose', 'cam', (7, 7))
        """
        if top is not None:
            check_bounds(AnswerOptions(top))
        folder = require_new_in_python(out, writing.get("force", False))
        explainer = Explainer(self.bundle, method, (labels,) if isinstance(labels, str) else list(labels), top)
        sources = sources_of(images)
        with shown_by(progress) as show:
            if folder is not None:
                return draw_explanations(explainer, sources, folder, show)
            return tuple(explainer.explain(sources, progress=show))

    @takes(*SIMILAR)
    def similar(
        self,
        images: PathLike | Sequence[PathLike],
        data: PathLike | None = None,
        *,
        top: int = 5,
        out: PathLike | None = None,
        force: bool = False,
        pipeline: PathLike | None = None,
        **options: Unpack[ReadFeaturesKeywords],
    ) -> Search:
        """Find the images of a set most similar to these for this model, as `featx similar --model` does.

        Images without the features that it predicts from are skipped; a note reports them.

        Parameters
        ----------
        images, data, top, out, force, pipeline, options : as in `featx.similar`

        Returns
        -------
        Search
            as `featx.similar` returns it

        Raises
        ------
        FeatxError
            The model's features are not in the cache, or come from several layers.

        Examples
        --------
        >>> import featx
        >>> found = featx.load("runs/flowers").similar("flowers/tulip/03.png", "flowers", top=2)
        >>> found.found[0].similar[0].label
        'tulip'
        """
        wanted = read_options(SIMILAR, options, "similar", data, pipeline)
        return find_similar(images, wanted, self.bundle, Asked(top, require_picture(out, force)), no_progress)

    @checked
    def export(
        self,
        out: PathLike,
        format: ExportFormat | Sequence[ExportFormat] = "onnx",  # noqa: A002 - the option's name
        *,
        precision: ExportPrecision = "float32",
        data: PathLike | None = None,
        force: bool = False,
    ) -> Exported:
        """Write the whole model, from images to probabilities, for other runtimes, as `featx export` does.

        Each format is run in its own runtime and compared with this model before it is accepted.

        Parameters
        ----------
        out : the folder, with a subfolder for each format
        format : one format or several
        precision : of the weights; int8 (onnx, litert) applies to the arithmetic as well, and needs data
        data : a file or folder of images to compare on; by default a few that come with the packages
        force : replace an existing export

        Returns
        -------
        Exported
            with `results`, each with `format`, `path`, `bytes`, `comparison` (`largest` difference of a probability,
            `agreement`, the share of images of the same class), `images_per_second`

        Raises
        ------
        ExportError
            A head that cannot be exported, an existing folder, or a format that was not accepted,
            with the reason; the others are written.

        Examples
        --------
        >>> import featx
        >>> done = featx.load("runs/flowers").export("out", "openvino")
        >>> done.results[0].path, done.results[0].comparison.agreement
        ('out/openvino-float32', 1.0)
        """
        formats: Sequence[str] = [format] if isinstance(format, str) else format
        asked = ExportOptions(formats, precision, None if data is None else str(data), force)
        done = write_exports(self.bundle, Path(out), asked)
        if done.failure is not None:
            raise done.failure
        return done

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
        """Choose the images of a pool whose labels would help this model most, as `featx next --model` does.

        Parameters
        ----------
        pool, out, pipeline, progress, options : as in `featx.next`; the features are those that the model predicts from

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
        """Compare new images with those of this model, as `featx drift` does.

        Parameters
        ----------
        new : a folder or CSV of images, whose labels do not matter
        out : folder of the files; by default `drift` in the results folder
        pipeline, progress : as in `featx.extract`
        options : of the sections data, features, drift and report, listed below

        Returns
        -------
        Drift
            with `drifted`, `p`, `verdict`, `tests`, `mix`, `strangest`

        Raises
        ------
        FeatxError
            Fewer than 20 new images, or a model without images to compare with.

        Examples
        --------
        >>> import featx
        >>> try:
        ...     featx.load("runs/flowers").drift("pool", html=False)
        ... except featx.FeatxError as error:
        ...     print(error)
        The test needs at least 20 new images, and there are 3. Name a folder with more.
        """
        wanted = read_options(DRIFT, options, "drift", new, pipeline)
        command, folder = call_text("featx.Model.drift", new, pipeline, options), None if out is None else Path(out)
        with Cache(wanted.features.cache) as cache, shown_by(progress) as show:
            return find_drift(wanted, self.bundle, cache, folder, Context(command, show))
