"""The result of a first look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from featx.extraction.precision_trial import PrecisionTrial
from featx.first_look.answers import ImageNetResult
from featx.first_look.backbone_view import BackboneViews
from featx.first_look.recommendation import DepthsResult, Recommendation
from featx.inference.predict import Unread
from featx.io.commands import sentence_without_folders, short_path
from featx.io.jsontypes import Json


@dataclass(frozen=True)
class FirstLook:
    """What a first look found; None where something was not asked for, cannot be had or was not drawn.

    Attributes
    ----------
    out : the folder of the figures
    images : how many there are; classes : label -> images, without those found unreadable
    shown : images on the contact sheet; unreadable : among the images that were decoded
    contact_sheet, sizes : figures; report : the page
    views : what the backbone sees; imagenet, depths, recommendation : what networks make of a sample
    precision : what bfloat16 saves and costs; None where it is not worth it, not to be had, or there was no time
    """

    out: Path
    images: int
    classes: Mapping[str, int]
    shown: int
    unreadable: tuple[Unread, ...]
    contact_sheet: str
    sizes: str | None
    views: BackboneViews
    imagenet: ImageNetResult | None
    depths: DepthsResult | None
    recommendation: Recommendation | None
    notes: tuple[str, ...]
    report: str | None
    precision: PrecisionTrial | None = None

    def without_folders(self) -> FirstLook:
        """The same with images and commands that name no folder of this machine."""
        return replace(
            self,
            unreadable=tuple(replace(one, path=short_path(one.path)) for one in self.unreadable),
            notes=tuple(map(sentence_without_folders, self.notes)),
            recommendation=self.recommendation and self.recommendation.without_folders(),
        )

    def as_json(self) -> dict[str, Json]:
        """What `featx look --json` prints."""
        return {
            "out": str(self.out),
            "images": self.images,
            "classes": self.classes,
            "shown": self.shown,
            "bad": [asdict(one) for one in self.unreadable],
            "sheet": self.contact_sheet,
            "sizes": self.sizes,
            "seen": asdict(self.views),
            "imagenet": _as_json(self.imagenet),
            "depths": _as_json(self.depths),
            "advice": _as_json(self.recommendation),
            "precision": _as_json(self.precision),
            "notes": self.notes,
            "report": self.report,
        }


def _as_json(part: ImageNetResult | DepthsResult | Recommendation | PrecisionTrial | None) -> Json:
    return None if part is None else part.as_json()
