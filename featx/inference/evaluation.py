"""The result of measuring a bundle on labelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from featx.bundle.bundle import Bundle
from featx.io.jsontypes import Json
from featx.metrics.measures import Measures
from featx.metrics.verdict import Comparison


@dataclass(frozen=True)
class RivalResult:
    """How a bundle compares with another one on the same images. comparison : the other one is its second"""

    bundle: Path
    comparison: Comparison

    def as_json(self) -> dict[str, Json]:
        """What `featx evaluate --against --json` prints of it."""
        return {"bundle": str(self.bundle), **asdict(self.comparison), "verdict": self.comparison.verdict}


@dataclass(frozen=True)
class EvaluationResult:
    """How right a bundle is on one part of the data.

    part : train, val, test or all; bad : {path, reason} of the images that could not be read
    report : the page, None without one; against : None without another bundle
    notes : what was left out, and what the figures do not say
    """

    bundle: Bundle
    part: str
    measures: Measures
    bad: Sequence[Mapping[str, str]]
    report: Path | None = None
    against: RivalResult | None = None
    notes: Sequence[str] = ()

    def as_json(self) -> dict[str, Json]:
        """What `featx evaluate --json` prints; `thresholds` where images have several labels."""
        bundle, report = self.bundle, None if self.report is None else str(self.report)
        found: dict[str, Json] = {"bundle": str(bundle.shown), "split": self.part, **self.measures.as_json()}
        found |= {"bad": self.bad, "report": report, "notes": list(self.notes)}
        if bundle.multilabel:
            found["thresholds"] = dict(zip(bundle.classes, bundle.thresholds.tolist(), strict=True))
        return found if self.against is None else found | {"against": self.against.as_json()}
