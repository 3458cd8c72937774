"""The data set of a run, so that another one in a folder of the same name does not share it silently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.config import DataOptions, Pipeline
from featx.dataset import ImageSet, digest_images
from featx.dataset.columns import column_options
from featx.dataset.folders import expand
from featx.errors import UsageError
from featx.io.counting import agreeing, counted_of
from featx.io.digest_arrays import DIGEST, has_digest
from featx.io.files import write_json
from featx.io.jsontypes import Json, parse_json
from featx.io.urls import is_url, plain
from featx.runs.split import KeptSplit

if TYPE_CHECKING:
    from featx.io.index import StatIndex

_HOW = ("classes",)  # what says of images how they are read, besides columns


@dataclass(frozen=True)
class KnownData:
    """Where the images of a run were, in `data.json` of its folder; and its split, which knows them by content."""

    folder: Path

    @property
    def places(self) -> tuple[str, ...]:
        """Folders, files and URLs, the oldest first; none where it was not written down."""
        places = self._content().get("places")
        return tuple(map(str, places)) if isinstance(places, list) else ()

    def remember(self, images: ImageSet, options: DataOptions) -> None:
        """Add the place of images, and how they are read; those in memory have none."""
        place = _place(images)
        if place is None:
            return
        others = [one for one in self.places if one != place]
        columns = {name: getattr(options, name) for name in (*column_options(options), *_HOW) if getattr(options, name)}
        content = {"places": [*others, place], "options": columns}
        if content != self._content():
            write_json(self._file, content)

    @property
    def present(self) -> tuple[str, ...]:
        """The places that are still there, the newest first; URLs are not asked for."""
        return tuple(place for place in reversed(self.places) if is_url(place) or Path(place).exists())

    def options(self, options: DataOptions, source: str) -> DataOptions | None:
        """Options by which the images of a source are read; None where no place of its name is there any more.

        options : of which what is not kept is taken; source : the name of a folder or file
        """
        place = next((place for place in self.present if Path(place).name == source), None)
        kept = self._content().get("options", {})
        if place is None or not isinstance(kept, dict):
            return None
        names = {entry.name for entry in fields(DataOptions)} & kept.keys()
        known: Any = {name: tuple(one) if isinstance(one := kept[name], list) else one for name in names}
        return replace(options, path=place, **known)

    def _content(self) -> Mapping[str, Json]:
        try:
            content = parse_json(self._file.read_bytes())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def meet(self, images: ImageSet, index: StatIndex, pipeline: Pipeline) -> list[str]:
        """Return a sentence where images lie elsewhere than those of the run and only some are among them.

        A run that was named by the user takes any. Images are read only where their place is new.

        Raises
        ------
        UsageError
            None of them is: they are another data set.
        """
        place, places = _place(images), self.places
        if pipeline.report.name is not None or place is None or not places or place in places:
            return []
        kept = KeptSplit(self.folder / "split").known()
        digests = digest_images(images.paths, index).digest if len(kept) else np.empty(0, DIGEST)
        now = np.unique(digests[has_digest(digests)])
        both = int(np.isin(now, kept).sum())
        if both == len(now):  # the same images in another place, or nothing to compare
            return []
        if both:
            text = (
                f"{counted_of(both, len(now), 'image')} {agreeing(both, 'is', 'are')} among "
                f"those of earlier runs in {self.folder}, which"
            )
            return [f"{text} lay elsewhere. If this is another data set of the same name, keep it apart with --name."]
        raise UsageError(
            f"{self.folder} has the results of other images, those of {places[-1]}: none of the {len(images):,} in "
            f"{images.source} is among them. Keep the results apart: --name {self._free_name(images)}. To share the "
            f"folder all the same: --name {self.folder.name}."
        )

    def _free_name(self, images: ImageSet) -> str:
        """A name for the results of images that no run has: with the folder above theirs, or a number."""
        above = Path(_place(images) or "").parent.name
        names = [f"{above}-{images.name}"] if above else []
        names += [f"{images.name}-{number}" for number in range(2, 1000)]
        return next((name for name in names if not (self.folder.parent / name).exists()), f"{images.name}-other")

    @property
    def _file(self) -> Path:
        return self.folder / "data.json"


def _place(images: ImageSet) -> str | None:
    """Where images are, links resolved; None of those in memory."""
    if images.contents is not None:
        return None
    whole = expand(images.source)
    return plain(whole) if is_url(whole) else str(Path(whole).resolve())
