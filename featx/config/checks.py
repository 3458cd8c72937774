"""Bounds of options, and options that contradict each other."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from itertools import pairwise
from typing import Any, get_args

from featx.config.sections import (
    SECTIONS,
    Clf,
    CompareOptions,
    FeaturesOptions,
    FinetuneOptions,
    HeadOptions,
    Pipeline,
    Stage,
    TrainingOptions,
)
from featx.config.values import parse_bytes, parse_hidden, parse_share
from featx.errors import UsageError
from featx.io.urls import is_url


def check_options(pipeline: Pipeline) -> Pipeline:
    """Return the pipeline when every number is within its bounds and no two options contradict each other.

    Raises
    ------
    UsageError
        That names the key, the bound and what came.
    """
    for section in SECTIONS:
        _check_bounds(section, getattr(pipeline, section))
    if pipeline.augment.views and not pipeline.augment.operations:
        raise UsageError(
            f"augment.views must be 0 where no operation is on, got {pipeline.augment.views}: every view would be the "
            "image itself. Add one, like --flip horizontal or --rotation 20; featx augment draws what they do."
        )
    _check_cluster(pipeline.features)
    if pipeline.head.memory is not None:
        parse_bytes(pipeline.head.memory)
    if pipeline.head.strength is not None and pipeline.head.strength <= 0:
        raise UsageError(f"head.strength must be more than 0, got {pipeline.head.strength}.")
    if pipeline.head.strength is not None and pipeline.head.clf == "estimator":
        raise UsageError(
            f"head.strength belongs to other heads than clf estimator, got {pipeline.head.strength}. Leave it out, and "
            "give the parameters to try: --grid '{var_smoothing: [1e-9, 1e-6]}'."
        )
    low, high = pipeline.head.threshold_range
    if not 0 < low <= high < 1:
        raise UsageError(
            f"head.threshold_range must be two numbers between 0 and 1, the lower first, got {low},{high}."
        )
    if (pipeline.head.clf == "estimator") != (pipeline.head.estimator is not None):
        raise UsageError(
            "head.clf: estimator and head.estimator go together: --clf estimator --estimator "
            f"sklearn.naive_bayes.GaussianNB; got clf {pipeline.head.clf}, estimator {pipeline.head.estimator}."
        )
    if pipeline.head.pca is not None and pipeline.head.pca <= 0:
        raise UsageError(
            f"head.pca must be a number of components or a share of the variance, got {pipeline.head.pca}."
        )
    check_dense(pipeline.head)
    check_training("finetune", pipeline.finetune)
    _check_finetune(pipeline.finetune)
    check_training("baseline", pipeline.baseline)
    if not pipeline.baseline.dropout < 1:
        raise UsageError(f"baseline.dropout must be less than 1, got {pipeline.baseline.dropout}.")
    trained = (("head", pipeline.head), ("finetune", pipeline.finetune), ("baseline", pipeline.baseline))
    for section, options in trained:
        _check_span(section, options)
    _check_compare(pipeline.compare)
    for name, where in (("features.cache", pipeline.features.cache), ("report.runs", pipeline.report.runs)):
        if is_url(where):
            raise UsageError(f"{name} must be a folder of this machine, got {where}: only images lie on URLs.")
    return pipeline


def _check_bounds(section: str, options: Any) -> None:
    for entry in fields(options):
        value, least, most = getattr(options, entry.name), entry.metadata.get("least"), entry.metadata.get("most")
        if least is not None and value is not None and not value >= least:
            raise UsageError(f"{section}.{entry.name} must be at least {least}, got {value}.")
        if most is not None and value is not None and not value <= most:
            raise UsageError(f"{section}.{entry.name} must be at most {most}, got {value}.")


def _check_cluster(options: FeaturesOptions) -> None:
    if options.cluster is None:
        if options.cluster_workers:
            raise UsageError(
                "features.cluster_workers belongs to features.cluster, which is not set; got "
                f"{options.cluster_workers}. Add --cluster local, or the address of a cluster."
            )
    elif options.cluster not in {"local", "auto"} and not re.fullmatch(r"[^\s/]+:\d{1,5}", options.cluster):
        raise UsageError(
            "features.cluster must be local or HOST:PORT, as ray start --head prints it, like 10.0.0.1:6379; "
            f"got {options.cluster!r}."
            + (" Run featx on a machine of the cluster and leave out ray://." if "ray://" in options.cluster else "")
        )


def _check_compare(options: CompareOptions) -> None:
    for name, known in (("clf", get_args(Clf)), ("stage", get_args(Stage))):
        for value in getattr(options, name):
            if value not in known:
                raise UsageError(f"compare.{name} must be a list of {', '.join(known)}, got {value!r}.")
    for name in ("data", "backbone", "input_size", "clf", "stage"):
        values = getattr(options, name)
        if len(set(values)) < len(values):
            raise UsageError(f"compare.{name} must be a list that names each once, got {_listed(values)}.")
    if not options.stage:
        raise UsageError(f"compare.stage must be a list of at least one of {', '.join(get_args(Stage))}, got none.")
    for name, keys in (options.override or {}).items():
        if not isinstance(keys, dict):
            raise UsageError(
                f"compare.override takes keys for each name, like {name}: {{finetune.unfreeze: 10}}; got {keys!r}."
            )
    if any(size < 1 for size in options.input_size):
        raise UsageError(f"compare.input_size must be at least 1, got {_listed(options.input_size)}.")


def _check_finetune(options: FinetuneOptions) -> None:
    if not 0 < options.layer_decay <= 1:
        raise UsageError(f"finetune.layer_decay must be more than 0 and at most 1, got {options.layer_decay}.")
    if not options.label_smoothing < 1:
        raise UsageError(f"finetune.label_smoothing must be less than 1, got {options.label_smoothing}.")
    if options.devices not in {"all", "cpu"} and not re.fullmatch(r"[1-9]\d*", options.devices):
        raise UsageError(f"finetune.devices is all, cpu, or a number of GPUs from 1 on; got {options.devices!r}.")
    if options.downscale > 1 and options.from_cache is not None:
        raise UsageError(
            "finetune.downscale is trained on images, and finetune.from_cache reads no images. Leave one of them out."
        )
    if options.mixed_precision == "float16" and options.devices not in {"1", "cpu"}:
        raise UsageError(
            f"finetune.mixed_precision float16 scales its loss by the gradients of one device, and finetune.devices is "
            f"{options.devices}. Choose --mixed-precision bfloat16, or --devices 1."
        )
    parse_share(options.gpu_memory)


def check_dense(head: HeadOptions) -> None:
    """Raise UsageError where options of the dense head are out of bounds or contradict each other."""
    check_training("head", head)
    parse_hidden(head.hidden)
    if not 0 < head.positive_weight < math.inf:
        raise UsageError(f"head.positive_weight must be more than 0, got {head.positive_weight}.")


def check_training(section: str, options: TrainingOptions) -> None:
    """Raise UsageError where options of a section that trains are out of bounds or contradict each other."""
    _check_bounds(section, options)
    if not 0 < options.learning_rate < math.inf:
        raise UsageError(f"{section}.learning_rate must be more than 0, got {options.learning_rate}.")
    for name in ("decay", "factor"):
        if not 0 < getattr(options, name) < 1:
            raise UsageError(f"{section}.{name} must be between 0 and 1, got {getattr(options, name)}.")
    for name in ("stop_accuracy", "stop_val_accuracy"):
        share = getattr(options, name)
        if share is not None and not 0 < share <= 1:
            raise UsageError(f"{section}.{name} is a share of the images above 0 and up to 1, like 0.99; got {share}.")
    if not options.momentum < 1:
        raise UsageError(f"{section}.momentum must be less than 1, got {options.momentum}.")
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
            f"--boundaries 20,35 --rates 1e-4,5e-4,1e-3; got {len(boundaries)} boundaries and {len(rates)} rates."
        )
    if any(after <= before for before, after in pairwise((0, *boundaries))):
        raise UsageError(
            f"{section}.boundaries must be epochs that rise from 1 on, like 20,35; got {_listed(boundaries)}."
        )
    if not all(0 < rate < math.inf for rate in rates):
        raise UsageError(f"{section}.rates must be more than 0, got {_listed(rates)}.")


def _listed(values: tuple[Any, ...]) -> str:
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
