"""The options of the sections that train as keywords, for editors and type checkers.

Written by `python -m featx.api.generate` from `featx.config`. Do not edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict


class TrainingKeywords(TypedDict, total=False):
    """How a network is trained epoch by epoch: what the dense head and fine-tuning have in common."""

    preset: Literal["sgd", "piecewise", "rmsprop"] | None
    """Preset of the training options below; options given override it."""
    optimizer: Literal["adam", "sgd", "rmsprop", "adagrad", "adadelta", "adamax", "nadam"]
    """Optimizer of the network."""
    momentum: float
    """Momentum of --optimizer sgd."""
    learning_rate: float
    """Learning rate of the network, where --schedule begins."""
    schedule: Literal["constant", "piecewise", "cosine", "exponential", "plateau"]
    """Schedule of the learning rate of the network."""
    boundaries: int | Sequence[int]
    """Last epoch of each rate of --schedule piecewise, counted from 0 as in Keras, like 20,35."""
    rates: float | Sequence[float]
    """Learning rates of --schedule piecewise, one more than --boundaries."""
    decay: float
    """Factor on the rate after each epoch of --schedule exponential."""
    factor: float
    """Factor on the rate at each plateau of --schedule plateau."""
    plateau_patience: int
    """Epochs without improvement in --monitor before --schedule plateau lowers the rate."""
    least_rate: float
    """Lowest rate: what cosine would reach one epoch after the last, and the floor of plateau and exponential."""
    warmup: int
    """Epochs in which the rate first rises linearly to --learning-rate."""
    epochs: int
    """Most epochs; the network may stop earlier."""
    batch_size: int
    """Batch size of the network."""
    monitor: Literal["val_loss", "val_accuracy"]
    """Quantity that decides which epoch of the network is best; its weights are kept."""
    patience: int
    """Epochs without improvement in --monitor before the network stops."""
    min_delta: float
    """Smallest improvement that renews the patience."""
    baseline: float | None
    """The patience is renewed only where --monitor is better than this."""
    stop_accuracy: float | None
    """Training accuracy at which to stop (with --stop-val-accuracy, once both are reached)."""
    stop_val_accuracy: float | None
    """Validation accuracy at which to stop."""
    tensorboard: str | Path | None
    """Folder for TensorBoard logs of the network, written while it trains."""


class HeadKeywords(TrainingKeywords, total=False):
    """Which classifier is fitted on the features."""

    clf: Literal["logreg", "svm", "ridge", "knn", "dense", "estimator", "auto"]
    """The kind of head; auto tries several and keeps the best by validation."""
    estimator: str | None
    """A classifier for --clf estimator with its module: sklearn.ensemble.RandomForestClassifier, or one of your own
    that follows the conventions of scikit-learn, like my_module.MyClassifier, whose code is then executed."""
    grid: Mapping[str, object] | None
    """Parameters of that classifier with the values to search, as a mapping."""
    kernel: Literal["linear", "rbf"]
    """Kernel of --clf svm."""
    strength: float | None
    """Regularisation C of logreg and svm, 1/alpha of ridge, neighbours of knn (default: searched)."""
    gamma: float | None
    """Gamma of --kernel rbf, as a multiple of scikit-learn's gamma="scale" (default: searched; 1 with --strength)."""
    combine: Literal["auto", "none", "greedy", "all"]
    """Choice among several layers for the head: the best one, the best ones side by side as well, or all side by side
    (auto: greedy with --clf auto, else none)."""
    normalize: Literal["none", "l2"]
    """Scale the features of every image to unit length first."""
    pca: float | None
    """Number of principal components to keep, or the share (below 1) of the variance."""
    metric: Literal["auto", "accuracy", "balanced_accuracy", "macro_f1", "log_loss", "roc_auc", "average_precision"]
    """Metric that the search and the choice of the best bundle go by (auto: accuracy; average_precision for several
    labels per image)."""
    search: Literal["auto", "cv", "val"]
    """Images that strengths are compared on: folds of train, or val."""
    folds: int
    """Number of folds of --search cv."""
    refit: bool
    """Refit the best head on train and val together."""
    nested: bool
    """Estimate by nested cross-validation how well the chosen head generalises; for few images."""
    calibrate: Literal["temperature", "sigmoid", "isotonic"]
    """Method that turns the head's outputs into confidences."""
    thresholds: Literal["per_class", "global", "none"]
    """Choice of the probability from which a label is given, for several labels per image (none: 0.5)."""
    threshold_range: Sequence[float]
    """Range in which thresholds are searched, before confidence is corrected for weights of classes."""
    memory: str | int | None
    """Most memory that features may take, like 1GB; beyond it they are streamed (default: half of the machine's
    memory)."""
    class_weight: str
    """Weights of classes: none, balanced (every class counts the same), or NAME=WEIGHT for some."""
    positive_weight: float
    """Factor on the weight of present labels, for several labels per image."""
    hidden: str | Sequence[float]
    """Hidden layers of --clf dense: whole numbers are units, fractions are dropout."""
    activation: str
    """Activation of the hidden layers of --clf dense."""
    l2: float
    """L2 penalty on the weights of every layer of --clf dense."""


class FinetuneKeywords(TrainingKeywords, total=False):
    """How backbone and head are trained end to end."""

    enabled: bool
    """Fine-tune in 'featx run'."""
    unfreeze: str | int
    """Part that trains along with the head: all, none, a layer or block (and all above it), or a number of layers."""
    from_cache: str | None
    """Train only what is above this layer, on its cached outputs; the layer and those below never run again."""
    gradual: int
    """Start with the head alone and unfreeze one more block, from the top, every N epochs (0: all at once)."""
    layer_decay: float
    """Learning rate of each block, as a share of the rate of the block above it."""
    batch_norm: Literal["frozen", "train"]
    """frozen keeps the pretrained statistics of batch normalisation; train updates them."""
    weight_decay: float
    """Weight decay of kernels, decoupled from the gradient as in AdamW."""
    class_weight: str | None
    """none, balanced, or a weight for some classes (default: as the head was fitted)."""
    label_smoothing: float
    """Label smoothing: share of every target that is spread evenly over the classes."""
    mixup: float
    """Mixup: alpha of the Beta distribution of the mixing weights (0: off)."""
    cutmix: float
    """CutMix: alpha of the Beta distribution of the pasted area (0: off)."""
    downscale: int
    """Read images N times larger and learn how to scale them down to the backbone's size."""
    mixed_precision: Literal["none", "auto", "float16", "bfloat16"]
    """Precision of the backbone's arithmetic while it trains (auto: the fastest on the GPU)."""
    devices: str | int
    """GPUs that share each batch: all, a number of them, or cpu for none."""
    gpu_memory: str | float
    """Largest share of the GPU's memory to use, or grow to take it as needed."""
    checkpoints: Literal["none", "best", "all"]
    """Keep the whole network of the best or of every epoch as .keras files in checkpoints/ beside the report."""
    regraft: bool
    """If the head is not a network, fit logistic regression on its features and start from that."""
