"""The manifest: the content of `bundle.json`, typed. Anything that its types do not allow is refused.

Bundles that were made by earlier versions of featx lack some of it. That is filled in here, and nowhere else: by the
default of a field, or in `Manifest.from_json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from featx.backbones.output import Output
from featx.bundle.field_checks import FieldError, distinct, filled, plain_name
from featx.bundle.fields import needed, omitted, read_record, rest, write_record
from featx.bundle.records import (
    AugmentRecord,
    BackboneRecord,
    BaselineRecord,
    CandidateRecord,
    ClassRecord,
    DataRecord,
    EpochRecord,
    FinetuneRecord,
    HeadRecord,
    KeyRecord,
    MetricsRecord,
    NestedRecord,
    OriginRecord,
    Parts,
    ScoreRecord,
    SplitRecord,
    metrics_on,
)
from featx.config.bounds import Ge, Le
from featx.errors import BundleError
from featx.io.jsontypes import Json
from featx.metrics.predictions import Target
from featx.metrics.verdict import Comparison

SCHEMA = 1
LICENSES = "licenses"  # the folder of texts

Row = Literal["image"]  # what a prediction is made of; later a box or a tile of one

Seconds = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that `bundle.json` holds.

    Attributes
    ----------
    created : when, in UTC; command : that made it; versions : of Python and of the libraries; seconds : it took
    classes : in the order of the columns of probabilities
    outputs : the layers and poolings whose features the head takes, one after the other
    fingerprint : of all that it depends on; equal ones would be equal bundles
    target : what is predicted of each row; row : what that is
    thresholds : from which probability on each label is given, where there are several
    metrics : part -> what was measured; per_class : part -> of every class; None without images
    search : what was tried, "mixed7@avg + mixed2@grid:4" -> candidates
    finetune, origin, comparison, verdict : of a fine-tuned bundle; part -> it against the bundle it comes from
    baseline : of a network that was trained from scratch
    files : name -> SHA-256; digest : of everything else in `bundle.json`
    """

    schema: Annotated[int, Ge(1), Le(SCHEMA)] = SCHEMA
    created: str = ""
    classes: Annotated[tuple[str, ...], filled, distinct]
    split: SplitRecord
    data: DataRecord = field(default_factory=DataRecord)
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    outputs: Annotated[tuple[Output, ...], filled, distinct]
    backbone: BackboneRecord
    key: KeyRecord = field(default_factory=KeyRecord)
    fingerprint: str | None = omitted(None)
    head: HeadRecord
    target: Target = "class"
    thresholds: tuple[Share, ...] | None = None
    metrics: Parts = field(default_factory=dict)
    per_class: Mapping[str, tuple[ClassRecord, ...] | None] = field(default_factory=dict)
    score: ScoreRecord
    search: Mapping[str, tuple[CandidateRecord, ...]] = field(default_factory=dict)
    nested: NestedRecord | None = None
    history: tuple[EpochRecord, ...] = ()
    finetune: FinetuneRecord | None = omitted(None)
    baseline: BaselineRecord | None = omitted(None)
    origin: OriginRecord | None = omitted(None, key="from")
    comparison: Mapping[str, Comparison | None] | None = omitted(None)
    notes: tuple[str, ...] = ()
    seconds: Seconds | None = omitted(None)
    augment: AugmentRecord | None = omitted(None)
    verdict: str | None = omitted(None)
    row: Row = omitted("image")
    more: Mapping[str, Json] = rest()
    files: Mapping[Annotated[str, plain_name], str] = needed()
    digest: str = omitted("")

    @property
    def multilabel(self) -> bool:
        """Whether an image has several labels."""
        return self.target == "labels"

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs, as in `mixed7@avg`."""
        return tuple(output.name for output in self.outputs)

    @property
    def licenses(self) -> tuple[str, ...]:
        """The files with texts of the licence of the weights."""
        return tuple(name for name in self.files if name.startswith(f"{LICENSES}/"))

    def metrics_on(self, part: str) -> MetricsRecord:
        """What was measured on a part; nothing, of no image, where it has none."""
        return metrics_on(self.metrics, part)

    @property
    def calibrated_on(self) -> int | None:
        """How many images its confidence was fitted on; 0: none could be left out of the fit; None: not recorded."""
        tried = [one for some in self.search.values() for one in some]
        untried = self.search and not tried and self.finetune is None and self.baseline is None
        if self.score.where == "none" or untried:
            return 0
        return self.split.images.get("train" if any(one.where == "cv" for one in tried) else "val")

    @property
    def fold_score(self) -> float | None:
        """The best score of a head in folds of train, by the metric of `score`; None where none was tried there."""
        from featx.metrics.table import signed_score

        metric = self.score.metric
        tried = [one for some in self.search.values() for one in some if (one.where, one.metric) == ("cv", metric)]
        found = [one.score for one in tried if one.score is not None]
        return max(found, key=lambda value: signed_score(metric, value), default=None)

    @property
    def scored_on(self) -> int | None:
        """How many images its score is measured on; None: not recorded."""
        return self.split.images.get({"val": "val", "cv": "train"}.get(self.score.where, ""))

    @classmethod
    def from_json(cls, value: object, where: object) -> Manifest:
        """Return the manifest of a JSON object.

        where : it comes from, for the error

        Raises
        ------
        BundleError
            A field is absent that every bundle has, or has a wrong type, or is out of bounds, or does not fit another.
        """
        try:
            manifest = read_record(cls, _completed(value))
            _require_fit(manifest)
        except FieldError as error:
            raise BundleError(f"{where} {error}. Get the bundle again from its source.") from error
        return manifest

    def as_json(self) -> dict[str, Json]:
        """The JSON object of it, as `bundle.json` holds it."""
        found = {_NAMES.get(name, name): value for name, value in write_record(self).items()}
        found["multilabel"] = self.multilabel
        if self.finetune is not None and not self.search:
            found["search"] = []
        if self.nested is None and (self.finetune is not None or self.baseline is not None):
            del found["nested"]
        return found


_NAMES = {"target": "multilabel"}  # a field's name -> in JSON, where it is true or false


def _completed(value: object) -> object:
    """Bring an object of any version to the fields of `Manifest`."""
    if not isinstance(value, Mapping):
        return value
    found = dict(value)
    several = found.pop("multilabel", False)
    if not isinstance(several, bool):
        raise FieldError.of("true or false", several).within("multilabel")
    found.setdefault("target", "labels" if several else "class")
    if found.get("search") == []:
        found["search"] = {}
    head = found.get("head")
    if isinstance(head, Mapping) and isinstance(head.get("params"), Mapping):
        # Before they were recorded for every head, the weights were among the options of those that have them.
        params = head["params"]
        found["head"] = {
            **{name: params[name] for name in ("class_weight", "positive_weight") if params.get(name) is not None},
            **head,
        }
    return found


def _require_fit(manifest: Manifest) -> None:
    """Raise FieldError where two fields do not fit each other."""
    thresholds, classes = manifest.thresholds, manifest.classes
    file = manifest.head.file
    if file and manifest.digest and file not in manifest.files:
        raise FieldError(f"must be one of the files, got {file!r}").within("file").within("head")
    correction = manifest.head.correction
    if correction is not None and len(correction) != len(classes):
        fault = FieldError(f"must have one number per class, {len(classes)}, got {len(correction)}")
        raise fault.within("correction").within("head")
    if thresholds is None and manifest.multilabel:
        raise FieldError("must be given where an image has several labels").within("thresholds")
    if thresholds is not None and len(thresholds) != len(classes):
        raise FieldError(f"must have one number per class, {len(classes)}, got {len(thresholds)}").within("thresholds")
