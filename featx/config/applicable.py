"""Refuse options that would have no effect beside the others, where they are typed, not where they are shared.

A section of a pipeline file may serve several heads; what is typed is meant for one command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from featx.config.augment import OPERATIONS
from featx.config.head import OWN_HEADS
from featx.config.option import Keys
from featx.config.sections import Pipeline
from featx.config.table import SECTIONS
from featx.config.training import TrainingOptions
from featx.errors import UsageError

DENSE_OPTIONS = frozenset({"hidden", "activation", "l2", *(entry.name for entry in fields(TrainingOptions))})
_SEARCHED = ("logreg", "svm", "ridge", "knn")
_HEADS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(DENSE_OPTIONS, ("dense", "auto")),
    "kernel": ("svm",),
    "gamma": ("svm",),
    "grid": ("estimator",),
    "strength": _SEARCHED,
}
"""Option of a head -> the values of `head.clf` that it changes something of"""
_TRAINING: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "learning_rate": ("schedule", ("constant", "cosine", "exponential", "plateau")),
    "decay": ("schedule", ("exponential",)),
    "factor": ("schedule", ("plateau",)),
    "plateau_patience": ("schedule", ("plateau",)),
    "least_rate": ("schedule", ("cosine", "plateau", "exponential")),
    "momentum": ("optimizer", ("sgd",)),
}
_OTHERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "head.threshold_range": ("thresholds", ("per_class", "global")),
    "head.gamma": ("kernel", ("rbf",)),
    "augment.fill_value": ("fill_mode", ("constant",)),
    "features.weights_seed": ("weights", ("random",)),
}
"""Option of any training, and of others -> another one of its section, and the values of it that it belongs to"""


@dataclass(frozen=True)
class _Condition:
    """Options that change something only where others are set.

    holds : whether these are; without : what is missing; advice : what to type
    commands : of which this is true; none: of all
    """

    keys: frozenset[str]
    holds: Callable[[Pipeline], bool]
    without: str
    advice: str
    commands: frozenset[str] = frozenset()


_FROZEN = frozenset({"extract", "fit-head"})  # commands that look at altered images only where these are cached
_CONDITIONS = (
    _Condition(
        frozenset(f"augment.{name}" for name in (*OPERATIONS, "fill_mode", "fill_value")),
        lambda pipeline: pipeline.augment.views > 0,
        "without altered versions of the images",
        "Add --views 5",
        _FROZEN,
    ),
    _Condition(
        frozenset({"augment.fill_mode", "augment.fill_value"}),
        lambda pipeline: bool({"rotation", "shift", "shear", "zoom"} & set(pipeline.augment.operations)),
        "where nothing uncovers pixels",
        "Add --rotation, --shift, --shear or --zoom",
        _FROZEN | {"finetune", "baseline", "run"},
    ),
    _Condition(
        frozenset({"tracking.tracking_uri", "tracking.experiment"}),
        lambda pipeline: pipeline.tracking.tracker != "none",
        "without a tracker",
        "Add --tracker mlflow",
    ),
    _Condition(
        frozenset({"report.plots"}), lambda pipeline: pipeline.report.html, "with --no-html", "Let the page be written"
    ),
    _Condition(
        frozenset({"head.folds"}),
        lambda pipeline: pipeline.head.search != "val" or pipeline.head.nested,
        "with --search val, which has no folds",
        "Choose --search cv",
    ),
    _Condition(
        frozenset({"finetune.gradual", "finetune.layer_decay", "finetune.batch_norm"}),
        lambda pipeline: pipeline.finetune.unfreeze != "none",
        "with --unfreeze none, which trains the head alone",
        "Choose --unfreeze all, a layer or a number of layers",
    ),
    _Condition(
        frozenset({"finetune.gpu_memory"}),
        lambda pipeline: pipeline.finetune.devices != "cpu",
        "with --devices cpu",
        "Choose --devices 1",
    ),
)


def require_applicable(pipeline: Pipeline, typed: Keys, command: str = "") -> Pipeline:
    """Return the pipeline when every option that was typed changes something.

    typed : `section.key` -> value, all of which the pipeline has; command : that it was typed for

    Raises
    ------
    UsageError
        One does nothing beside the others.
    """
    for key in typed:
        section, _, name = key.partition(".")
        value = getattr(getattr(pipeline, section), name, None)
        if value == getattr(SECTIONS[section], name, None):
            continue
        if section == "head" and name in _HEADS:
            _require_head(pipeline, name, value)
        of_training = issubclass(SECTIONS[section], TrainingOptions)
        if found := _OTHERS.get(key) or (_TRAINING.get(name) if of_training else None):
            _require_other(pipeline, key, value, found)
        for one in _CONDITIONS:
            if key in one.keys and command in (one.commands or {command}) and not one.holds(pipeline):
                text = f"{_flag(name)} {value} ({key}) has no effect {one.without}. {one.advice}, or leave it out."
                raise UsageError(text)
    return pipeline


def _require_head(pipeline: Pipeline, name: str, value: object) -> None:
    heads = set(pipeline.compare.clf) | {pipeline.head.clf}
    if name == "grid" and not heads <= set(OWN_HEADS):  # the classifier of a plug-in
        return
    if not heads & set(_HEADS[name]):
        listed = " or ".join(f"--clf {clf}" for clf in _HEADS[name])
        raise UsageError(
            f"{_flag(name)} {value} (head.{name}) has no effect with --clf {pipeline.head.clf}. Choose {listed}, or "
            "leave it out."
        )


def _require_other(pipeline: Pipeline, key: str, value: object, belongs: tuple[str, tuple[str, ...]]) -> None:
    section, _, name = key.partition(".")
    other, values = belongs
    chosen = getattr(getattr(pipeline, section), other)
    if chosen not in values:
        listed = " or ".join(f"{_flag(other)} {one}" for one in values)
        raise UsageError(
            f"{_flag(name)} {value} ({key}) has no effect with {_flag(other)} {chosen}. Choose {listed}, or leave it "
            "out."
        )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
