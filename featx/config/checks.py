"""Checks of a whole pipeline: every bound, and options that contradict each other."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import PurePath
from typing import get_args

from featx.config.augment import AugmentOptions
from featx.config.compare import CompareOptions, Stage
from featx.config.features import FeaturesOptions
from featx.config.finetune import FinetuneOptions
from featx.config.head import OWN_HEADS, HeadOptions, check_head_name, head_names
from featx.config.option import check_bounds
from featx.config.results import ReportOptions
from featx.config.sections import Pipeline
from featx.config.table import SECTIONS
from featx.config.training import TrainingOptions
from featx.errors import UsageError
from featx.io.counting import counted
from featx.io.urls import is_url

DEEPEST = 3
"""Folders of a run's name at most: featx models looks no deeper"""


def check_options(pipeline: Pipeline) -> Pipeline:
    """Return the pipeline when every number is within its bounds and no two options contradict each other.

    Raises
    ------
    UsageError
        That names the key, the bound and what came.
    """
    for section in SECTIONS:
        check_bounds(getattr(pipeline, section), f"{section}.")
    _check_augment(pipeline.augment)
    _check_cluster(pipeline.features)
    _check_head(pipeline.head)
    trained = (("head", pipeline.head), ("finetune", pipeline.finetune), ("baseline", pipeline.baseline))
    for section, options in trained:
        _check_training(section, options)
        _check_span(section, options)
    _check_finetune(pipeline.finetune)
    _check_compare(pipeline.compare)
    _check_run(pipeline.report)
    for name, where in (("features.cache", pipeline.features.cache), ("report.runs", pipeline.report.runs)):
        if is_url(where):
            raise UsageError(f"{name} must be a folder on this machine, got {where}: only images may be URLs.")
    return pipeline


def check_dense(head: HeadOptions) -> None:
    """Raise UsageError where options of the dense head are out of bounds or contradict each other."""
    check_bounds(head, "head.")
    _check_training("head", head)


def _check_run(options: ReportOptions) -> None:
    if options.name is None:
        return
    path = PurePath(os.path.normpath(options.name))
    if path.is_absolute() or path.parts[:1] == ("..",):
        raise UsageError(
            f"report.name must be a name in {options.runs}, the folder of results, like flowers or trials/flowers, got "
            f"{options.name}, which is outside of it. Choose that folder with --runs DIR."
        )
    if len(path.parts) > DEEPEST:
        raise UsageError(
            f"report.name must be {DEEPEST} folders deep at most, got {options.name}. See also --runs DIR."
        )


def _check_augment(options: AugmentOptions) -> None:
    if options.views and not options.operations:
        raise UsageError(
            f"augment.views must be 0 where no operation is on, got {options.views}: every view would be the "
            "image itself. Add one, like --flip horizontal or --rotation 20; featx augment draws what they do."
        )


def _check_head(options: HeadOptions) -> None:
    check_head_name(options.clf)
    if options.strength is not None and options.clf == "estimator":
        raise UsageError(
            f"head.strength belongs to other heads than clf estimator, got {options.strength}. Leave it out, and "
            "give the parameters to try: --grid '{var_smoothing: [1e-9, 1e-6]}'."
        )
    low, high = options.threshold_range
    if not 0 < low <= high < 1:
        raise UsageError(
            f"head.threshold_range must be two numbers between 0 and 1, the lower first, got {low},{high}."
        )
    if (options.clf == "estimator") != (options.estimator is not None):
        raise UsageError(
            "head.clf: estimator and head.estimator go together: --clf estimator --estimator "
            f"sklearn.naive_bayes.GaussianNB; got clf {options.clf}, estimator {options.estimator}."
        )


def _check_cluster(options: FeaturesOptions) -> None:
    if options.cluster is None and options.cluster_workers:
        raise UsageError(
            "features.cluster_workers belongs to features.cluster, which is not set; got "
            f"{options.cluster_workers}. Add --cluster local, or the address of a cluster."
        )


def _check_compare(options: CompareOptions) -> None:
    for name, own in (("clf", OWN_HEADS), ("stage", get_args(Stage))):
        for value in getattr(options, name):
            if value not in own and value not in (known := head_names() if name == "clf" else own):
                raise UsageError(f"compare.{name} must be a list of {', '.join(known)}, got {value!r}.")
    for name in ("data", "backbone", "input_size", "clf", "stage"):
        values = getattr(options, name)
        if len(set(values)) < len(values):
            raise UsageError(f"compare.{name} must be a list without repetitions, got {_listed(values)}.")
    if not options.stage:
        raise UsageError(f"compare.stage must be a list of at least one of {', '.join(get_args(Stage))}, got none.")
    for name, keys in (options.override or {}).items():
        if not isinstance(keys, dict):
            raise UsageError(
                f"compare.override takes keys for each name, like {name}: {{finetune.unfreeze: 10}}; got {keys!r}."
            )


def _check_finetune(options: FinetuneOptions) -> None:
    if options.downscale > 1 and options.from_cache is not None:
        raise UsageError(
            "finetune.downscale is trained on images, and finetune.from_cache reads no images. Leave one of them out."
        )
    if options.mixed_precision == "float16" and options.devices not in {"1", "cpu"}:
        raise UsageError(
            f"finetune.mixed_precision float16 scales its loss by the gradients of one device, and finetune.devices is "
            f"{options.devices}. Choose --mixed-precision bfloat16, or --devices 1."
        )


def _check_training(section: str, options: TrainingOptions) -> None:
    if not options.least_rate < options.learning_rate:
        raise UsageError(
            f"{section}.least_rate must be less than {section}.learning_rate ({options.learning_rate}), "
            f"got {options.least_rate}."
        )
    if options.schedule == "plateau" and options.plateau_patience >= options.patience:
        raise UsageError(
            f"{section}.plateau_patience must be less than {section}.patience ({options.patience}), or training stops "
            f"before the rate falls; got {options.plateau_patience}."
        )
    if options.schedule == "piecewise":
        _check_pieces(section, options.boundaries, options.rates)
    elif options.boundaries or options.rates:
        raise UsageError(
            f"{section}.boundaries and {section}.rates belong to the schedule piecewise, and {section}.schedule is "
            f"{options.schedule}. Add --schedule piecewise."
        )


def _check_pieces(section: str, boundaries: tuple[int, ...], rates: tuple[float, ...]) -> None:
    if not boundaries or len(rates) != len(boundaries) + 1:
        raise UsageError(
            f"The schedule piecewise needs {section}.boundaries and one rate more in {section}.rates, like "
            f"--boundaries 20,35 --rates 1e-4,5e-4,1e-3; got {counted(len(boundaries), 'boundary', 'boundaries')} and "
            f"{counted(len(rates), 'rate')}."
        )
    if any(after <= before for before, after in pairwise((0, *boundaries))):
        raise UsageError(
            f"{section}.boundaries must be epochs that rise from 1 on, like 20,35; got {_listed(boundaries)}."
        )


def _listed(values: tuple[object, ...]) -> str:
    return ",".join(map(str, values))


def _check_span(section: str, options: TrainingOptions) -> None:
    """What must happen before the last epoch; a head that is fitted again may be given fewer epochs."""
    if options.warmup and options.warmup >= options.epochs:
        raise UsageError(
            f"{section}.warmup must be less than {section}.epochs ({options.epochs}), got {options.warmup}."
        )
    if options.boundaries and options.boundaries[-1] >= options.epochs:
        raise UsageError(
            f"{section}.boundaries must be less than {section}.epochs ({options.epochs}), "
            f"got {_listed(options.boundaries)}."
        )
