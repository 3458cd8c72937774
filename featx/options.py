"""Every option once: its section, name, type, default and help.

The command line (`featx.cli`) and the pipeline file (`featx.pipeline`) are both made from these dataclasses, so an
option of the one is a key of the other: `--input-size 150` is `features: {input_size: 150}`. `--set
features.input_size=150` overrides a key of any section.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from featx.errors import UsageError

Resize = Literal["stretch", "crop", "pad"]
Precision = Literal["float32", "bfloat16", "float16"]
EngineName = Literal["auto", "tensorflow", "openvino"]
Clf = Literal["logreg", "svm", "ridge", "knn", "dense", "auto"]
Metric = Literal["accuracy", "balanced_accuracy", "macro_f1", "log_loss"]

_FORBID_UNKNOWN = {"extra": "forbid"}  # read by pydantic when it validates a section of a pipeline file


def _option(default: Any, help: str, *, metavar: str | None = None, least: float | None = None) -> Any:  # noqa: A002
    return field(default=default, metadata={"help": help, "metavar": metavar, "least": least})


@dataclass(frozen=True)
class DataOptions:
    """Which images, which labels, which split."""

    __pydantic_config__ = _FORBID_UNKNOWN

    path: str | None = _option(None, "A folder per class, train/val/test folders, a CSV, or image files.")
    path_column: str = _option("path", "CSV column that holds the image path.", metavar="NAME")
    label_column: str = _option("label", "CSV column that holds the label.", metavar="NAME")
    split_column: str | None = _option(
        None, "CSV column that holds train, val or test (default: 'split' if there is one).", metavar="NAME"
    )
    group_column: str | None = _option(
        None, "CSV column of what belongs together (a plant, a patient): never split apart.", metavar="NAME"
    )
    weight_column: str | None = _option(None, "CSV column of sample weights for fitting.", metavar="NAME")
    image_dir: str | None = _option(None, "Folder that CSV paths are relative to (default: the CSV's).", metavar="DIR")
    label_separator: str | None = _option(
        None, "Several labels in one cell, separated by this: a multi-label set.", metavar="TEXT"
    )
    relabel: str | None = _option(
        None, "A CSV of path,label that replaces labels, such as a corrected label_errors.csv.", metavar="FILE"
    )
    classes: tuple[str, ...] | None = _option(
        None, "The classes in this order, separated by commas (default: alphanumeric).", metavar="A,B,..."
    )
    split: tuple[float, float, float] = _option(
        (0.8, 0.1, 0.1), "Shares of train, val and test where the data declares none.", metavar="TRAIN,VAL,TEST"
    )
    max_train: int | None = _option(
        None, "Take at most this many training images, the same share of every class.", metavar="N", least=1
    )
    seed: int = _option(0, "Seed of the split, of the folds and of training.")


@dataclass(frozen=True)
class FeaturesOptions:
    """Which numbers are computed of each image, and how."""

    __pydantic_config__ = _FORBID_UNKNOWN

    backbone: str = _option(
        "EfficientNetLite0", "A network that 'featx backbones' lists, or a .keras file.", metavar="NAME|FILE"
    )
    weights: str = _option(
        "auto",
        "bundled, imagenet, random, or a .weights.h5, .h5 or .keras file (auto: bundled where there are such, "
        "else imagenet).",
        metavar="WEIGHTS",
    )
    weights_seed: int = _option(0, "Seed of --weights random.")
    layer: tuple[str, ...] = _option(
        (),
        "A layer, or LAYER@POOLING, to take features from; may be repeated (default: the backbone's last).",
        metavar="LAYER",
    )
    pooling: tuple[str, ...] = _option(
        (), "avg, max, grid:N, flatten or none; may be repeated (default: avg).", metavar="POOLING"
    )
    input_size: int | None = _option(None, "Side in pixels of the square the network sees (default: its own).", least=1)
    resize: Resize = _option("stretch", "How an image is brought to that square.")
    preprocessing: str = _option(
        "auto", "tf, caffe, torch or none (auto: the backbone's own).", metavar="auto|tf|caffe|torch|none"
    )
    precision: Precision = _option("float32", "Arithmetic of the backbone.")
    storage: Literal["float16", "float32"] = _option("float16", "How features are stored.")
    compression: Literal["none", "zstd"] = _option("none", "Of new feature files; zstd needs hdf5plugin to read.")
    engine: EngineName = _option("auto", "What runs the backbone (auto: OpenVINO without a GPU, else TensorFlow).")
    infer_batch: int = _option(0, "Images per inference (0: what is fastest for the backbone).", least=0)
    workers: int = _option(0, "Decoding threads (0: one per core).", least=0)
    cache: str = _option("cache", "Folder of the feature store.", metavar="DIR")


@dataclass(frozen=True)
class HeadOptions:
    """Which classifier is fitted on the features."""

    __pydantic_config__ = _FORBID_UNKNOWN

    clf: Clf = _option("logreg", "The kind of head; auto tries several and keeps the best by validation.")
    kernel: Literal["linear", "rbf"] = _option("linear", "Of --clf svm.")
    strength: float | None = _option(
        None, "Regularisation C of logreg and svm, 1/alpha of ridge, neighbours of knn (default: searched)."
    )
    metric: Metric = _option("accuracy", "What the search and the choice of the best bundle go by.")
    search: Literal["auto", "cv", "val"] = _option("auto", "Where strengths are compared: folds of train, or val.")
    folds: int = _option(5, "Folds of --search cv.", least=2)
    memory: str | None = _option(
        None,
        "Most memory that features may take, like 1GB; larger ones are streamed (default: half of it).",
        metavar="SIZE",
    )
    class_weight: Literal["none", "balanced"] = _option("none", "Give every class the same weight.")
    hidden: str = _option(
        "256,0.3,128", "Layers of --clf dense: whole numbers are units, fractions are dropout.", metavar="LIST"
    )
    activation: str = _option("relu", "Of the hidden layers of --clf dense.")
    optimizer: str = _option("adam", "adam, sgd, rmsprop, adagrad, adadelta, adamax or nadam.", metavar="NAME")
    learning_rate: float = _option(1e-3, "Of --clf dense.")
    epochs: int = _option(100, "At most; --clf dense stops early.", least=1)
    batch_size: int = _option(64, "Of --clf dense.", least=1)
    patience: int = _option(10, "Epochs without a better val loss before --clf dense stops.", least=1)


@dataclass(frozen=True)
class FinetuneOptions:
    """How backbone and head are trained end to end."""

    __pydantic_config__ = _FORBID_UNKNOWN

    enabled: bool = _option(True, "Whether 'featx run' fine-tunes.")
    unfreeze: str = _option(
        "all", "What trains: all, none, a layer name (it and all above), or a number of layers.", metavar="all|LAYER|N"
    )
    optimizer: Literal["adam", "sgd"] = _option("adam", "sgd has momentum.")
    learning_rate: float = _option(1e-4, "Of the optimizer.")
    momentum: float = _option(0.9, "Of sgd.")
    epochs: int = _option(5, "How often every training image is seen.", least=1)
    batch_size: int = _option(32, "Images per step.", least=1)
    batch_norm: Literal["frozen", "train"] = _option("frozen", "Whether batch normalisation keeps its statistics.")


@dataclass(frozen=True)
class ReportOptions:
    """Where results go."""

    __pydantic_config__ = _FORBID_UNKNOWN

    name: str | None = _option(None, "Results go to RUNS/NAME (default: the pipeline's or the data's name).")
    runs: str = _option("runs", "Folder of results.", metavar="DIR")


@dataclass(frozen=True)
class Pipeline:
    """The sections of a pipeline file. A stage is handed its section whole."""

    __pydantic_config__ = _FORBID_UNKNOWN

    data: DataOptions = field(default_factory=DataOptions)
    features: FeaturesOptions = field(default_factory=FeaturesOptions)
    head: HeadOptions = field(default_factory=HeadOptions)
    finetune: FinetuneOptions = field(default_factory=FinetuneOptions)
    report: ReportOptions = field(default_factory=ReportOptions)


SECTIONS: Mapping[str, type] = {
    "data": DataOptions,
    "features": FeaturesOptions,
    "head": HeadOptions,
    "finetune": FinetuneOptions,
    "report": ReportOptions,
}


def parse_bytes(text: str) -> int:
    """Bytes of a size like `800MB`, `1.5GB` or a plain number.

    Raises
    ------
    UsageError
        When it is no size.
    """
    found = re.fullmatch(r"\s*([\d.]+)\s*([kKmMgGtT]?)i?[bB]?\s*", text)
    try:
        number = float(found[1]) if found else -1.0
    except ValueError:
        number = -1.0
    if not found or number <= 0:
        raise UsageError(f"A size is a number and a unit, like 800MB or 1.5GB; got {text!r}.")
    return int(number * 1000 ** ("kmgt".index(found[2].lower()) + 1 if found[2] else 0))


def check_options(pipeline: Pipeline) -> Pipeline:
    """Return the pipeline when every number is within its bounds.

    Raises
    ------
    UsageError
        That names the key, the bound and what came.
    """
    for section in SECTIONS:
        options = getattr(pipeline, section)
        for entry in fields(options):
            value, least = getattr(options, entry.name), entry.metadata.get("least")
            if least is not None and value is not None and value < least:
                raise UsageError(f"{section}.{entry.name} must be at least {least}, got {value}.")
    if pipeline.head.memory is not None:
        parse_bytes(pipeline.head.memory)
    if pipeline.head.strength is not None and pipeline.head.strength <= 0:
        raise UsageError(f"head.strength must be more than 0, got {pipeline.head.strength}.")
    for section in ("head", "finetune"):
        rate = getattr(pipeline, section).learning_rate
        if rate <= 0:
            raise UsageError(f"{section}.learning_rate must be more than 0, got {rate}.")
    return pipeline
