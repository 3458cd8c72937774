"""What a bundle is asked about images beside its predictions: why, what is like them, and itself for other runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack, overload

from featx.api.keywords import ReadFeaturesKeywords
from featx.api.options import SIMILAR, PathLike, Writing, WritingKeywords, read_options, takes
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
from featx.io.outputs import require_new_in_python
from featx.io.progress import Progress, no_progress
from featx.quality.similar import Search


class Consulted:
    """What `featx.Model` does beside predicting and measuring."""

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
        images : as of `predict`
        out : a folder for the pictures and arrays; without it nothing is written
        force : whether it may have files in it, those of the same names being replaced [False]
        labels : the classes to explain, whatever is predicted, instead of `top`
        top : how many of the likeliest classes to explain [1; with several labels per image, those predicted]
        method : "cam", "gradcam", "occlusion", or "auto": the first of these that this model has
        progress : as of `featx.extract`

        Returns
        -------
        tuple
            for each image an `Explanation` (`path`, `label`, `confidence`, `method`, `classes`, each with `label`,
            `score` and `map`, float32 (height, width) in units of the class's logit), or an `Unread`
        DrawnExplanations
            with out: `images`, each with the files of its classes, `grid`, `unread`

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
        explainer = Explainer(self.bundle, method, (labels,) if isinstance(labels, str) else labels, top)
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
        """Find the images of a set that look most like these to this model, as `featx similar --model` does.

        Images of the set without the features that it predicts from are left out, which a note says.

        Parameters
        ----------
        images, data, top, out, force, pipeline, options : as of `featx.similar`

        Returns
        -------
        Search
            as `featx.similar` returns it

        Raises
        ------
        FeatxError
            A model whose features are in no cache, or one of several layers.

        Examples
        --------
        >>> import featx
        >>> found = featx.load("runs/flowers").similar("flowers/tulip/03.png", "flowers", top=2)
        >>> found.found[0].similar[0].label
        'tulip'
        """
        wanted = read_options(SIMILAR, options, "similar", data, pipeline)
        return find_similar(images, wanted, self.bundle, Asked(top, require_picture(out, force)), no_progress)

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

        Each format is run in its own runtime and compared with this model before it is put in place.

        Parameters
        ----------
        out : the folder, in which each format has its own
        format : one format or several
        precision : of the weights; int8 (onnx, litert) is also that of the arithmetic, and needs data
        data : a file or folder of images to compare on; without it a few that come with the packages
        force : replace an export that is there

        Returns
        -------
        Exported
            with `results`, each with `format`, `path`, `bytes`, `comparison` (`largest` difference of a probability,
            `agreement`, the share of images of the same class), `images_per_second`

        Raises
        ------
        ExportError
            A head that cannot be exported, a folder that is there already, or a format that was not put in place,
            with the reason; the others are written.

        Examples
        --------
        >>> import featx
        >>> done = featx.load("runs/flowers").export("out", "savedmodel")
        >>> done.results[0].path, done.results[0].comparison.agreement
        ('out/savedmodel-float32', 1.0)
        """
        formats: Sequence[str] = [format] if isinstance(format, str) else format
        asked = ExportOptions(formats, precision, None if data is None else str(data), force)
        done = write_exports(self.bundle, Path(out), asked)
        if done.failure is not None:
            raise done.failure
        return done
