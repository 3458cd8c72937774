"""The plan of a comparison: every pass and the fits on its features, with all options, before any work."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TypeAlias, get_args

from featx.backbones import BACKBONES
from featx.config import Pipeline, Stage
from featx.config.head import head_names
from featx.config.route import section_of, set_keys
from featx.dataset.columns import column_options, without_columns
from featx.dataset.folders import expand, is_folder
from featx.errors import UsageError
from featx.heads.table import head_kind
from featx.io.suggest import did_you_mean
from featx.io.urls import is_url

Keys: TypeAlias = dict[str, object]
"""`section.key` -> value"""

_logger = logging.getLogger(__name__)
_NAME = "compare"  # of the results, where neither the pipeline nor its file has a name
# the sections that may differ by each of these
_OVERRIDABLE = {
    "data": ("data", "features", "augment", "head", "finetune", "report"),
    "backbone": ("features", "augment", "head", "finetune"),
    "clf": ("head", "finetune"),
    "stage": ("finetune",),
}
_COMPARED = {"data.path", "features.backbone", "head.clf", "report.runs", "report.html", "report.keep_paths"}


@dataclass(frozen=True)
class Combination:
    """A kind of head and what is trained, with all options of both."""

    clf: str
    stage: str
    pipeline: Pipeline


@dataclass(frozen=True)
class Pass:
    """One data set through one backbone at one size, and what is made of its features.

    data : the name of the data set; pipeline : whose features section has all layers and poolings of the pass
    """

    data: str
    pipeline: Pipeline
    combinations: tuple[Combination, ...]


def plan(pipeline: Pipeline) -> list[Pass]:
    """Every pass that the section `compare` asks for, with its options checked. Nothing is read or computed.

    Raises
    ------
    UsageError
        No data set, two of one name, an override of something that is not compared, options that contradict each other.
    """
    asked = pipeline.compare
    if not asked.data and pipeline.data.path is None:
        raise UsageError(
            "No images: name folders or CSVs, or a pipeline file with compare.data or data.path (-p FILE)."
        )
    _require_one_grouping(pipeline)
    axes: dict[str, Sequence[str]] = {
        "data": asked.data or (str(pipeline.data.path),),
        "backbone": asked.backbone or (pipeline.features.backbone,),
        "clf": asked.clf or (pipeline.head.clf,),
        "stage": asked.stage,
    }
    overrides = _read_overrides(asked.override or {}, axes)
    names = _name_data(axes["data"], overrides)
    heads = list(product(axes["clf"], axes["stage"]))
    passes = []
    for data, backbone, size in product(axes["data"], axes["backbone"], asked.input_size or (None,)):
        keys: Keys = {"data.path": data, "features.backbone": backbone}
        listed = {"input_size": size, "layer": list(asked.layer), "pooling": list(asked.pooling)}
        keys |= {f"features.{name}": value for name, value in listed.items() if value}
        keys |= overrides["data", data] | overrides["backbone", backbone]
        keys |= {"report.name": f"{name_of(pipeline)}/{names[data]}", "report.html": False}
        common = set_keys(_applicable(pipeline, data, len(axes["data"])), keys, "compare")
        made = tuple(_plan_combination(common, clf, stage, overrides) for clf, stage in heads)
        passes.append(Pass(names[data], common, made))
    return passes


def _require_one_grouping(pipeline: Pipeline) -> None:
    """Refuse groups of near-duplicates where each backbone would have its own, and the split would differ."""
    passes = max(1, len(pipeline.compare.backbone)) * max(1, len(pipeline.compare.input_size))
    if pipeline.data.group_duplicates is not None and passes > 1:
        raise UsageError(
            "data.group_duplicates groups images by the features of one backbone at one size, and the split would "
            f"differ among these {passes}. Leave it out, or list the groups in a column of a CSV and name it: "
            "--group-column."
        )


def _applicable(pipeline: Pipeline, data: str, sets: int) -> Pipeline:
    """The pipeline without the columns of a CSV that others of several data sets are, where one is a folder."""
    unfit = column_options(pipeline.data)
    if sets == 1 or not unfit or not is_folder(expand(data)):
        return pipeline
    _logger.warning("%s is a folder, so it is compared without %s.", data, ", ".join(f"data.{name}" for name in unfit))
    return replace(pipeline, data=without_columns(pipeline.data))


def name_of(pipeline: Pipeline) -> str:
    """The folder of a comparison below the folder of results."""
    return pipeline.report.name or _NAME


def _plan_combination(common: Pipeline, clf: str, stage: str, overrides: Mapping[tuple[str, str], Keys]) -> Combination:
    keys: Keys = {"head.clf": clf}
    if clf != "estimator":
        keys |= {"head.estimator": None, "head.grid": None}
    given = overrides["clf", clf] | overrides["stage", stage]
    if not head_kind(clf if clf != "auto" else "logreg").weighs and common.head.class_weight != "none":
        _logger.warning("%s is fitted without head.class_weight, which does not change its votes.", clf)
        keys |= {"head.class_weight": "none"}
    found = set_keys(common, keys | given, "compare")
    if stage == "from-cache" and found.finetune.from_cache is None:
        raise UsageError(
            f"The stage from-cache trains above a layer of {found.features.backbone}, and none is named. Add "
            "finetune.from_cache: LAYER, or to compare.override of a backbone; featx layers lists them."
        )
    if stage == "finetuned":
        found = replace(found, finetune=replace(found.finetune, from_cache=None))
    return Combination(clf, stage, found)


def _read_overrides(asked: Mapping[str, Keys], axes: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], Keys]:
    """(axis, value) -> `section.key` -> value; empty for what nothing is said of."""
    owners: dict[str, set[tuple[str, str]]] = {}
    for axis, values in axes.items():
        for value in values:
            for name in {value, short_name(axis, value)}:
                owners.setdefault(name, set()).add((axis, value))
    found: dict[tuple[str, str], Keys] = {(axis, value): {} for axis, values in axes.items() for value in values}
    for name, keys in asked.items():
        meant = owners.get(name, set())
        if not meant and _is_known(name):
            continue  # a part of what a file compares was asked for
        if not meant:
            offer = did_you_mean(name, owners, f"There are: {', '.join(owners)}.")
            raise UsageError(f"compare.override: {name!r} is not something that is compared.{offer}")
        if len(meant) > 1:
            could = " or ".join(f"{axis} {value}" for axis, value in sorted(meant))
            raise UsageError(
                f"compare.override: {name!r} could be {could}. Write it in full, a folder as ./{name} in both places."
            )
        ((axis, value),) = meant
        for key in keys:
            section = section_of(key, f"compare.override of {name}")
            if section not in _OVERRIDABLE[axis] or key in _COMPARED:
                raise UsageError(
                    f"compare.override of {name}: {key} cannot differ by {axis}. What can: keys of "
                    f"{', '.join(_OVERRIDABLE[axis])} that are not compared themselves."
                )
        found[axis, value] |= keys
    return found


def _is_known(name: str) -> bool:
    """Whether it could be compared, though it is not now."""
    return name in {*BACKBONES, *head_names(), *get_args(Stage)} or is_url(name) or Path(name).exists()


def short_name(axis: str, value: str) -> str:
    """What people call it: a data set by its folder or its CSV, a .keras file by its stem."""
    path = Path(value)
    if axis == "data":
        return path.stem if path.suffix.lower() in {".csv", ".tsv"} else path.expanduser().resolve().name
    return path.stem if path.suffix == ".keras" else value


def _name_data(data: Sequence[str], overrides: Mapping[tuple[str, str], Keys]) -> dict[str, str]:
    names: dict[str, str] = {}
    for path in data:
        name = str(overrides["data", path].get("report.name") or short_name("data", path))
        others = [other for other, known in names.items() if known == name]
        if others:
            raise UsageError(
                f"{others[0]} and {path} are both called {name!r}. Give one of them another name: compare.override: "
                f"{{{path}: {{report.name: OTHER}}}}"
            )
        names[path] = name
    return names
