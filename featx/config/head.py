"""The section head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

from featx.config.bounds import Ge, Gt, Positive, Sentence
from featx.config.option import Also, Known, option
from featx.config.texts import ByteSize, HiddenLayers
from featx.config.training import TrainingOptions
from featx.errors import UsageError
from featx.io.plugins import PlugIn, find_plugins
from featx.io.suggest import did_you_mean

Clf = Literal["logreg", "svm", "ridge", "knn", "dense", "estimator", "auto"]
OWN_HEADS: tuple[str, ...] = get_args(Clf)
Kernel = Literal["linear", "rbf"]
Combine = Literal["auto", "none", "greedy", "all"]
Normalize = Literal["none", "l2"]
Metric = Literal["auto", "accuracy", "balanced_accuracy", "macro_f1", "log_loss", "roc_auc", "average_precision"]
Search = Literal["auto", "cv", "val"]
Calibrate = Literal["temperature", "sigmoid", "isotonic"]
Thresholds = Literal["per_class", "global", "none"]


def check_head_name(name: str) -> str:
    """The name of a kind of head, where there is one of that name.

    Raises
    ------
    UsageError
        It is neither one of featx nor of a plug-in.
    """
    if name not in OWN_HEADS and name not in (known := head_names()):
        near = did_you_mean(name, known, f"There are: {', '.join(known)}.")
        raise UsageError(f"head.clf must be a kind of head (--clf), got {name!r}.{near}")
    return name


def head_names() -> tuple[str, ...]:
    """Every kind of head: featx' own, then those of plug-ins."""
    return (*OWN_HEADS, *(name for name in find_plugins("featx.heads") if name not in OWN_HEADS))


def plugin_of(clf: str) -> PlugIn | None:
    """The plug-in that is the head of this name; None for those of featx."""
    return None if clf in OWN_HEADS else find_plugins("featx.heads").get(clf)


@dataclass(frozen=True)
class HeadOptions(TrainingOptions):
    """Which classifier is fitted on the features."""

    trained: ClassVar[str] = "--clf dense"

    clf: Annotated[str, Known(OWN_HEADS)] = option(
        "logreg", "The kind of head; auto tries several and keeps the best by validation."
    )
    estimator: str | None = option(
        None,
        "A classifier for --clf estimator with its module: sklearn.ensemble.RandomForestClassifier, or one of your own "
        "that follows the conventions of scikit-learn, like my_module.MyClassifier, whose code is then executed.",
        metavar="MODULE.CLASS",
    )
    grid: dict[str, object] | None = option(
        None, "Parameters of that classifier with the values to search, as a mapping.", metavar="{NAME: [VALUE,...]}"
    )
    kernel: Kernel = option("linear", "Kernel of --clf svm.")
    strength: Positive | None = option(
        None, "Regularisation C of logreg and svm, 1/alpha of ridge, neighbours of knn (default: searched)."
    )
    gamma: Positive | None = option(
        None,
        'Gamma of --kernel rbf, as a multiple of scikit-learn\'s gamma="scale" (default: searched; 1 with --strength).',
    )
    combine: Combine = option(
        "auto",
        "Choice among several layers for the head: the best one, the best ones side by side as well, or all side by "
        "side (auto: greedy with --clf auto, else none).",
    )
    normalize: Normalize = option("none", "Scale the features of every image to unit length first.")
    pca: Annotated[float, Gt(0), Sentence("must be a number of components or a share of the variance")] | None = option(
        None, "Number of principal components to keep, or the share (below 1) of the variance.", metavar="N|SHARE"
    )
    metric: Metric = option(
        "auto",
        "Metric that the search and the choice of the best bundle go by (auto: accuracy; average_precision for several "
        "labels per image).",
    )
    search: Search = option("auto", "Images that strengths are compared on: folds of train, or val.")
    folds: Annotated[int, Ge(2)] = option(5, "Number of folds of --search cv.")
    refit: bool = option(False, "Refit the best head on train and val together.")
    nested: bool = option(
        False, "Estimate by nested cross-validation how well the chosen head generalises; for few images."
    )
    calibrate: Calibrate = option("temperature", "Method that turns the head's outputs into confidences.")
    thresholds: Thresholds = option(
        "per_class",
        "Choice of the probability from which a label is given, for several labels per image (none: 0.5).",
    )
    threshold_range: tuple[float, float] = option(
        (0.05, 0.95),
        "Range in which thresholds are searched, before confidence is corrected for weights of classes.",
        metavar="LOW,HIGH",
    )
    memory: Annotated[ByteSize, Also(int)] | None = option(
        None,
        "Most memory that features may take, like 1GB; beyond it they are streamed (default: half of the "
        "machine's memory).",
        metavar="SIZE",
    )
    class_weight: str = option(
        "none",
        "Weights of classes: none, balanced (every class counts the same), or NAME=WEIGHT for some.",
        metavar="NAME=W,...",
    )
    positive_weight: Positive = option(1.0, "Factor on the weight of present labels, for several labels per image.")
    hidden: Annotated[HiddenLayers, Also(tuple)] = option(
        HiddenLayers("256,0.3,128"),
        "Hidden layers of --clf dense: whole numbers are units, fractions are dropout.",
        metavar="LIST",
    )
    activation: str = option("relu", "Activation of the hidden layers of --clf dense.")
    l2: Annotated[float, Ge(0)] = option(0.0, "L2 penalty on the weights of every layer of --clf dense.")
