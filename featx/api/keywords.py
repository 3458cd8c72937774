"""The options of the sections as keywords, for editors and type checkers.

Written by `python -m featx.api.generate` from `featx.config`. Do not edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict


class TrainingKeywords(TypedDict, total=False):
    """How a network is trained epoch by epoch: what the dense head and fine-tuning have in common."""

    preset: Literal["sgd", "piecewise", "rmsprop"] | None
    """A set of the options below, which those given override."""
    optimizer: Literal["adam", "sgd", "rmsprop", "adagrad", "adadelta", "adamax", "nadam"]
    """Optimizer of the network."""
    momentum: float
    """Momentum of --optimizer sgd."""
    learning_rate: float
    """Learning rate of the network, where --schedule begins."""
    schedule: Literal["constant", "piecewise", "cosine", "exponential", "plateau"]
    """How the learning rate of the network changes from epoch to epoch."""
    boundaries: int | Sequence[int]
    """Last epochs of each rate of --schedule piecewise, counted from 0 as Keras does, like 20,35."""
    rates: float | Sequence[float]
    """Learning rates of --schedule piecewise, one more than --boundaries."""
    decay: float
    """What --schedule exponential multiplies the rate by in each epoch."""
    factor: float
    """What --schedule plateau multiplies the rate by at a plateau."""
    plateau_patience: int
    """Epochs without a better --monitor before --schedule plateau lowers the rate."""
    least_rate: float
    """The rate cosine would reach one epoch after the last, and the floor of plateau and exponential."""
    warmup: int
    """Epochs in which the rate rises linearly to where the schedule begins."""
    epochs: int
    """Epochs at most; the network stops early."""
    batch_size: int
    """Rows in each training step of the network."""
    monitor: Literal["val_loss", "val_accuracy"]
    """What decides which epoch of the network is the best; its weights are kept."""
    patience: int
    """Epochs without a better --monitor before the network stops."""
    min_delta: float
    """Only an improvement by more than this renews the patience."""
    baseline: float | None
    """The patience is renewed only where --monitor is better than this."""
    stop_accuracy: float | None
    """Stop once the training accuracy reaches this (with --stop-val-accuracy: once both are reached)."""
    stop_val_accuracy: float | None
    """Stop once the val accuracy reaches this."""
    tensorboard: str | Path | None
    """Folder for TensorBoard: the curves of the network are written to it while it trains."""


class DataKeywords(TypedDict, total=False):
    """Which images, which labels, which split."""

    path_column: str
    """CSV column that holds the image path."""
    label_column: str
    """CSV column that holds the label."""
    split_column: str | None
    """CSV column that holds train, val or test (default: 'split' if there is one)."""
    group_column: str | None
    """CSV column of what belongs together (a plant, a patient): never split apart."""
    group_duplicates: float | None
    """Never split images apart whose features have at least this cosine similarity, like 0.95."""
    weight_column: str | None
    """CSV column of sample weights for fitting."""
    image_dir: str | Path | None
    """Folder or URL that CSV paths are relative to (default: the CSV's)."""
    label_separator: str | None
    """Several labels in one cell, separated by this, or json for lists: a multi-label set."""
    label_columns: str | Sequence[str]
    """CSV columns of 0 and 1, one per class; '*' for all that have no other use."""
    relabel: str | Path | None
    """A CSV of path,label that replaces labels, such as a corrected label_errors.csv."""
    classes: str | Sequence[str] | None
    """The classes in this order, separated by commas (default: alphanumeric)."""
    split: Sequence[float]
    """Shares of train, val and test where the data declares none."""
    max_train: int | None
    """Take at most this many training images, the same share of every class."""
    seed: int
    """Seed of the split, of the folds and of training."""


class FeaturesKeywords(TypedDict, total=False):
    """Which numbers are computed of each image, and how."""

    backbone: str | Path
    """A network that 'featx backbones' lists, a .keras file, a graph file (.onnx, .xml of OpenVINO, .tflite, a
    SavedModel folder), a folder of KerasHub or Hugging Face, hf:OWNER/NAME or hub:PRESET (featx[hub])."""
    weights: str | Path
    """bundled, imagenet, random, or a .weights.h5, .h5 or .keras file (auto: bundled where there are such, else
    imagenet)."""
    weights_seed: int
    """Seed of --weights random."""
    layer: str | Sequence[str]
    """A layer, or LAYER@POOLING, to take features from; may be repeated (default: the backbone's last)."""
    pooling: str | Sequence[str]
    """avg, max, grid:N, flatten or none, of tokens also cls and cls+avg; may be repeated (default: avg)."""
    input_size: int | None
    """Side in pixels of the square the network sees (default: its own)."""
    resize: Literal["auto", "stretch", "crop", "pad"]
    """How an image is brought to that square (auto: as its files say, else stretch)."""
    crop_share: float | None
    """Share of the resized image that is kept, from the middle (default: as its files say, else 1)."""
    interpolation: Literal["auto", "bilinear", "bicubic"]
    """Filter of the resizing (auto: as its files say, else bilinear)."""
    levels: Literal["full", "10bit", "12bit", "14bit", "minmax", "percentile"]
    """Which values of deep files are black and white: all that 16 bits hold; those of 10 to 14 bits in files of 16; the
    smallest and largest of each image; those that 1 % are below and above."""
    preprocessing: str
    """Values that the network is given: imagenet (torch), half (tf), clip, caffe, none (auto: the backbone's own)."""
    mean: float | Sequence[float]
    """Mean of the values of each channel, or of all, subtracted after --scale; like 0.485,0.456,0.406."""
    std: float | Sequence[float]
    """What they are divided by then; like 0.229,0.224,0.225."""
    scale: float | None
    """What pixels in 0 to 255 are multiplied by first (default: 1/255 where --mean or --std is given)."""
    channels: Literal["auto", "rgb", "bgr"]
    """Order of the channels that the network is given (auto: rgb)."""
    prefix_tokens: int | None
    """Tokens in front of those of the patches, such as a class token (default: found out)."""
    imports: str | Sequence[str]
    """A Python module that defines layers of a .keras file; may be repeated. Its code is run."""
    precision: Literal["float32", "bfloat16", "float16"]
    """Arithmetic of the backbone."""
    storage: Literal["float16", "float32"]
    """How features are stored."""
    compression: Literal["none", "zstd"]
    """Compression of new feature files; zstd needs hdf5plugin to read."""
    engine: Literal["auto", "tensorflow", "openvino"]
    """What runs the backbone (auto: OpenVINO without a GPU, else TensorFlow)."""
    infer_batch: int
    """Images per inference (0: what is fastest for the backbone)."""
    workers: int
    """Decoding threads (0: one per core); with --cluster those of each worker."""
    cache: str | Path
    """Folder of the feature store."""
    cluster: str | None
    """Extract on Ray: local, or HOST:PORT of a cluster whose machines share --cache and the images; needs featx[ray]
    (default: in this process)."""
    cluster_workers: int
    """Workers of --cluster, which share its cores (0: one per GPU, and one per core of machines without a GPU)."""


class ReportKeywords(TypedDict, total=False):
    """Where results go, and whether a page shows them."""

    name: str | None
    """Results go to RUNS/NAME (default: the pipeline's or the data's name)."""
    runs: str | Path
    """Folder of results."""
    html: bool
    """Write report/index.html with the results."""
    keep_paths: bool
    """Keep folders, which may name people, in the commands and options that pages, packs and cards show."""


class HeadKeywords(TrainingKeywords, total=False):
    """Which classifier is fitted on the features."""

    clf: Literal["logreg", "svm", "ridge", "knn", "dense", "estimator", "auto"]
    """The kind of head; auto tries several and keeps the best by validation."""
    estimator: str | None
    """A classifier of scikit-learn for --clf estimator, like sklearn.naive_bayes.GaussianNB."""
    grid: Mapping[str, object] | None
    """Parameters of that classifier, each with the values to search."""
    kernel: Literal["linear", "rbf"]
    """Kernel of --clf svm."""
    strength: float | None
    """Regularisation C of logreg and svm, 1/alpha of ridge, neighbours of knn (default: searched)."""
    combine: Literal["auto", "none", "greedy", "all"]
    """Which of several layers a head is fitted on: the best one, the best ones side by side as well, or all side by
    side (auto: greedy with --clf auto, else none)."""
    normalize: Literal["none", "l2"]
    """Bring every image's features to unit length first."""
    pca: float | None
    """Keep this many principal components, or this share (below 1) of the variance."""
    metric: Literal["auto", "accuracy", "balanced_accuracy", "macro_f1", "log_loss", "roc_auc", "average_precision"]
    """What the search and the choice of the best bundle go by (auto: accuracy; of several labels per image,
    average_precision)."""
    search: Literal["auto", "cv", "val"]
    """Where strengths are compared: folds of train, or val."""
    folds: int
    """Number of folds of --search cv."""
    refit: bool
    """Fit the winner once more, on train and val together."""
    nested: bool
    """Estimate by nested cross-validation how good such a choice is; for few images."""
    calibrate: Literal["temperature", "sigmoid", "isotonic"]
    """How confidence is made of the head's decisions."""
    thresholds: Literal["per_class", "global", "none"]
    """From which probability on a label is given, where images have several (none: 0.5)."""
    threshold_range: Sequence[float]
    """The range that is searched for thresholds."""
    memory: str | int | None
    """Most memory that features may take, like 1GB; larger ones are streamed (default: half of it)."""
    class_weight: str
    """none, balanced (every class weighs the same), or a weight for some classes."""
    positive_weight: float
    """Multiplies the weight of having a label, where images have several."""
    hidden: str | Sequence[float]
    """Layers of --clf dense: whole numbers are units, fractions are dropout."""
    activation: str
    """Activation of the hidden layers of --clf dense."""
    l2: float
    """Penalty on the squared weights of every layer of --clf dense."""


class TrackingKeywords(TypedDict, total=False):
    """The tracker that every bundle is reported to: its options, figures, epochs, report and model card."""

    tracker: Literal["none", "mlflow"]
    """Where every new bundle is reported; mlflow needs featx[mlflow]."""
    tracking_uri: str | None
    """MLflow's store: sqlite:///FILE, or a server's address (default: MLFLOW_TRACKING_URI, else mlflow.db here)."""
    experiment: str | None
    """The experiment that runs belong to (default: the name of the results)."""


class FinetuneKeywords(TrainingKeywords, total=False):
    """How backbone and head are trained end to end."""

    enabled: bool
    """Whether 'featx run' fine-tunes."""
    unfreeze: str | int
    """What trains beside the head: all, none, a layer or block (it and all above), or a number of layers."""
    from_cache: str | None
    """Train only what is above this layer, on its outputs in the cache; it and the layers below never run again."""
    gradual: int
    """Begin with the head; every N epochs one more block from the top joins in (0: all at once)."""
    layer_decay: float
    """Learning rate of a block as a share of that of the one above it."""
    batch_norm: Literal["frozen", "train"]
    """Whether batch normalisation keeps its statistics."""
    weight_decay: float
    """Decay of kernels, decoupled from the gradient as in AdamW."""
    class_weight: str | None
    """none, balanced, or a weight for some classes (default: as the head was fitted)."""
    label_smoothing: float
    """The part of every target that is spread evenly over the classes."""
    mixup: float
    """Train on means of two images: alpha of the distribution of their weights (0: off)."""
    cutmix: float
    """Train on images with a box of another: alpha of the distribution of its area (0: off)."""
    downscale: int
    """Read images N times as large, and learn how they are scaled down to the backbone's size."""
    mixed_precision: Literal["none", "auto", "float16", "bfloat16"]
    """Arithmetic of the backbone while it trains (auto: what the GPU is fast at)."""
    devices: str | int
    """GPUs that share each batch; cpu uses none."""
    gpu_memory: str | float
    """Share of the GPU's memory to take at most, or as needed."""
    checkpoints: Literal["none", "best", "all"]
    """Keep the whole network of the best or of every epoch as .keras, in checkpoints/ beside the report."""
    regraft: bool
    """Where the head is not a network: fit logistic regression on its features, and start from that."""


class ExtractKeywords(DataKeywords, FeaturesKeywords, total=False):
    """Options of the sections data and features."""


class ReadFeaturesKeywords(DataKeywords, FeaturesKeywords, ReportKeywords, total=False):
    """Options of the sections data, features and report."""


class FitHeadKeywords(DataKeywords, FeaturesKeywords, HeadKeywords, ReportKeywords, TrackingKeywords, total=False):
    """Options of the sections data, features, head, report and tracking."""


class TuneKeywords(DataKeywords, FeaturesKeywords, FinetuneKeywords, ReportKeywords, TrackingKeywords, total=False):
    """Options of the sections data, features, finetune, report and tracking."""


class EvaluateKeywords(DataKeywords, total=False):
    """Options of the section data."""
