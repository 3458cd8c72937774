"""The parts of a manifest, each a section of `bundle.json`.

A field with a default is absent in bundles of some kind, or in those of earlier versions of featx.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Final, Literal

from featx.bundle.field_checks import FieldError, plain_name, resize_text
from featx.bundle.fields import omitted, read_record, rest, write_record
from featx.config.bounds import Ge, Gt, Le
from featx.io.jsontypes import Json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Count = Annotated[int, Ge(0)]
Side = Annotated[int, Ge(1), Le(65_535)]
ResizeText = Annotated[str, resize_text]
HeadForm = Literal["linear", "estimator", "network", "pickle"]
Interval = tuple[float, float]


class Unrecorded(Enum):
    """What an older bundle does not know, where None is an answer too."""

    UNRECORDED = "not recorded"


UNRECORDED: Final = Unrecorded.UNRECORDED


class ManifestSection:
    """A part of a manifest."""

    def as_json(self: DataclassInstance) -> dict[str, Json]:
        """The section as `bundle.json` has it."""
        return write_record(self)


@dataclass(frozen=True, kw_only=True)
class BackboneRecord(ManifestSection):
    """The network.

    Attributes
    ----------
    name : of the table, or of a file without its ending; weights : "bundled", "imagenet", "random", or a file's name
    weights_seed : of random weights
    input_size : (height, width) in pixels
    preprocessing : how pixel values reach the network
    license : of the weights; None where featx knows of none
    license_source : where that is named, of a network that is not of the table; its texts are in `licenses/`
    resize : how images are brought to that size; see `featx.images.resize.ResizeRule`
    precision : what the engine computed in; with the engine's name where it was not float32
    finetuned : whether it was trained further, so that it is not the network of that name any more
    imports : modules that define layers of it; nothing imports them but who is asked to with --import
    source : where it was downloaded from, as hf:OWNER/NAME@COMMIT or hub:PRESET
    plugin : the package that it is a plug-in of, with the version
    """

    name: str = ""
    weights: str = ""
    weights_seed: int = 0
    input_size: tuple[Side, Side]
    preprocessing: str = "none"
    license: str | Unrecorded | None = omitted(UNRECORDED)
    license_source: str | None = omitted(default=None)
    resize: ResizeText = "stretch"
    precision: str = "float32"
    finetuned: bool = omitted(default=False)
    imports: tuple[str, ...] = omitted(())
    source: str | None = omitted(default=None)
    plugin: str = omitted("")
    more: Mapping[str, Json] = rest()


@dataclass(frozen=True)
class KeyRecord(ManifestSection):
    """The key of the features that the head was fitted on, as `featx.store.key.Key` writes it.

    baseline : the network, where it was trained from scratch and there were no features; nothing else is known then
    backbone : the network's name; architecture, weights : digests of its graph and of its variables
    more : all other fields of the key; keys are equal when their JSON is
    """

    baseline: str | None = omitted(None)
    backbone: str | None = omitted(None)
    architecture: str | None = omitted(None)
    weights: str | None = omitted(None)
    more: Mapping[str, Json] = rest()


@dataclass(frozen=True, kw_only=True)
class HeadRecord(ManifestSection):
    """What predicts from features.

    Attributes
    ----------
    clf : its name among the options; params : what it was made with
    temperature : what its logits are divided by
    features : how many it takes
    calibration : how probabilities are made of logits
    refitted : whether it was fitted again on train and val together
    class_weight, positive_weight : as the options of the head
    correction : of weighed classes, what is added to their logits for an honest confidence; the decision goes without
    kind, file : how it is kept
    imports : packages whose classes it is made of; nothing imports them but who is asked to with --import
    plugin : the package that it is a plug-in of, with the version
    reason : why it is kept as a pickle, which is not shared
    """

    clf: str
    params: Mapping[str, Json] = field(default_factory=dict)
    temperature: Annotated[float, Gt(0)]
    features: Annotated[int, Ge(1)]
    calibration: str = "temperature"
    refitted: bool = False
    class_weight: str = "none"
    positive_weight: Annotated[float, Gt(0)] = 1.0
    kind: HeadForm
    file: Annotated[str, plain_name] = omitted("")
    correction: tuple[float, ...] | None = omitted(None)
    imports: tuple[str, ...] = omitted(())
    plugin: str = omitted("")
    reason: str = omitted("")
    more: Mapping[str, Json] = rest()

    @property
    def to_be_named(self) -> tuple[str, ...]:
        """What --import has to name before it can be loaded."""
        return (() if self.plugin else self.imports) + (("joblib",) if self.kind == "pickle" else ())


@dataclass(frozen=True)
class SplitRecord(ManifestSection):
    """Which images were in which part; which of them exactly is in `split.npz`.

    images : part -> count; classes : part -> class -> count
    declared : whether the data declares them; grouped : whether groups were kept together; None: not recorded
    grouped_by : the column of the groups, or what else they are, in a word
    """

    digest: str
    images: Mapping[str, Count] = field(default_factory=dict)
    classes: Mapping[str, Mapping[str, Count]] = field(default_factory=dict)
    declared: bool | None = omitted(None)
    grouped: bool | None = omitted(None)
    grouped_by: str | None = omitted(None)
    more: Mapping[str, Json] = rest()


@dataclass(frozen=True)
class DataRecord(ManifestSection):
    """The images it was made of; None: not recorded.

    source : the name of their folder or file
    images : all of them; bad : unreadable ones; duplicates : copies of others
    """

    source: str | None = omitted(None)
    images: Count | None = omitted(None)
    bad: Count | None = omitted(None)
    duplicates: Count | None = omitted(None)
    more: Mapping[str, Json] = rest()


@dataclass(frozen=True)
class MetricsRecord(ManifestSection):
    """What was measured on one part.

    images : of the part; values : metric -> value, None where it is not defined
    intervals : metric -> [low, high], 95 %
    calibration_error_by_chance : 95 % of the calibration errors where every confidence is true; None: not recorded
    groups : that the images belong to; None where all are independent, or not recorded
    cautions : sentences on intervals that are too narrow
    """

    images: Count = 0
    values: Mapping[str, float | None] = rest()
    intervals: Mapping[str, Interval | None] | None = None
    calibration_error_by_chance: Interval | None = omitted(None)
    groups: Count | None = omitted(None)
    cautions: tuple[str, ...] = omitted(())

    def get(self, name: str) -> float | None:
        """The value of a metric; None where it was not measured, or is not defined."""
        return self.values.get(name)

    def chosen_by(self, metric: str) -> float | None:
        """The value of the option --metric."""
        from featx.metrics.table import metric_form, target_of_metrics

        form = metric_form(metric, target_of_metrics(self.values))
        return self.values.get(metric if form is None else form.key)


Parts = Mapping[str, MetricsRecord | None]


def metrics_on(parts: Parts, part: str) -> MetricsRecord:
    """What was measured on a part; nothing, of no image, where it has none."""
    return parts.get(part) or MetricsRecord()


@dataclass(frozen=True)
class ClassRecord(ManifestSection):
    """What was measured on one class of a part.

    values : metric -> value, None where it is not defined
    intervals : precision and recall -> [low, high], 95 %; None: not recorded
    """

    label: str
    values: Mapping[str, float | None] = rest()
    images: Count = 0
    intervals: Mapping[str, Interval | None] | None = omitted(None)


@dataclass(frozen=True)
class ScoreRecord(ManifestSection):
    """What the best bundle of a run is chosen by: the value of a metric on "val", by folds ("cv") or "none"."""

    metric: str
    value: float | None = None
    where: str = "val"


@dataclass(frozen=True)
class CandidateRecord(ManifestSection):
    """A head that was tried: its options, and its score, of the metric, on "val" or by folds ("cv")."""

    clf: str
    params: Mapping[str, Json] = field(default_factory=dict)
    score: float | None = None
    metric: str = "accuracy"
    where: str = "cv"


@dataclass(frozen=True)
class ChosenRecord(ManifestSection):
    """The layers and the head of one fold of a nested estimate."""

    outputs: tuple[str, ...]
    clf: str


@dataclass(frozen=True)
class NestedRecord(ManifestSection):
    """What nested cross-validation measured: `MetricsRecord`, and what was chosen in each fold."""

    folds: Count
    chosen: tuple[ChosenRecord, ...] = ()
    images: Count = 0
    values: Mapping[str, float | None] = rest()
    intervals: Mapping[str, Interval | None] | None = None


@dataclass(frozen=True)
class EpochRecord(ManifestSection):
    """An epoch of training, the first of which is 1; values : loss, accuracy, learning rate ..., by name."""

    epoch: Annotated[int, Ge(1)]
    values: Mapping[str, float | None] = rest()


@dataclass(frozen=True)
class FinetuneRecord(ManifestSection):
    """How the network was trained further: the epoch whose weights were kept, and the options."""

    options: Mapping[str, Json] = rest()
    best_epoch: Annotated[int, Ge(1)] | None = omitted(None)


@dataclass(frozen=True)
class BaselineRecord(ManifestSection):
    """How a network was trained from scratch: which, the epoch whose weights were kept, and the options."""

    net: str
    options: Mapping[str, Json] = rest()
    best_epoch: Annotated[int, Ge(1)] | None = omitted(None)


@dataclass(frozen=True)
class OriginRecord(ManifestSection):
    """The bundle that was fine-tuned: its name, its digest, and its metrics by part."""

    bundle: str
    digest: str = omitted("")
    metrics: Parts = field(default_factory=dict)

    def metrics_on(self, part: str) -> MetricsRecord:
        """What was measured on a part; nothing, of no image, where it has none."""
        return metrics_on(self.metrics, part)


def known_policy(policy: Mapping[str, object]) -> None:
    """Refuse what `AugmentOptions` cannot be made of."""
    from featx.config.augment import AugmentOptions

    known = {one.name for one in fields(AugmentOptions)}
    unknown = next((name for name in policy if name not in known), None)
    if unknown is not None:
        raise FieldError("is not an augmentation that this featx knows").within(unknown)
    read_record(AugmentOptions, policy)


@dataclass(frozen=True)
class AugmentRecord(ManifestSection):
    """How images were altered in training: the section `augment` of a pipeline, its seed, views of each image."""

    policy: Annotated[Mapping[str, Json], known_policy]
    seed: int = 0
    views: Count | None = omitted(None)
