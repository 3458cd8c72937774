"""The sections of a pipeline, and every option in them: name, type, default, help and bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, Literal

Resize = Literal["stretch", "crop", "pad"]
Precision = Literal["float32", "bfloat16", "float16"]
EngineName = Literal["auto", "tensorflow", "openvino"]
Clf = Literal["logreg", "svm", "ridge", "knn", "dense", "estimator", "auto"]
Metric = Literal["auto", "accuracy", "balanced_accuracy", "macro_f1", "log_loss", "roc_auc", "average_precision"]
Optimizer = Literal["adam", "sgd", "rmsprop", "adagrad", "adadelta", "adamax", "nadam"]
ScheduleKind = Literal["constant", "piecewise", "cosine", "exponential", "plateau"]
CheckpointKind = Literal["none", "best", "all"]
Monitor = Literal["val_loss", "val_accuracy"]
Preset = Literal["sgd", "piecewise", "rmsprop"]
Stage = Literal["head", "from-cache", "finetuned"]
ExportFormat = Literal["savedmodel", "onnx", "openvino", "litert"]
ExportPrecision = Literal["float32", "float16", "int8"]

_FORBID_UNKNOWN = {"extra": "forbid"}  # read by pydantic when it validates a section of a pipeline file


def _option(
    default: Any,
    help: str,  # noqa: A002
    *,
    metavar: str | None = None,
    least: float | None = None,
    most: float | None = None,
) -> Any:
    return field(default=default, metadata={"help": help, "metavar": metavar, "least": least, "most": most})


@dataclass(frozen=True)
class DataOptions:
    """Which images, which labels, which split."""

    __pydantic_config__ = _FORBID_UNKNOWN

    path: str | None = _option(
        None, "A folder per class, train/val/test folders, a CSV, or image files; a path or a URL."
    )
    path_column: str = _option("path", "CSV column that holds the image path.", metavar="NAME")
    label_column: str = _option("label", "CSV column that holds the label.", metavar="NAME")
    split_column: str | None = _option(
        None, "CSV column that holds train, val or test (default: 'split' if there is one).", metavar="NAME"
    )
    group_column: str | None = _option(
        None, "CSV column of what belongs together (a plant, a patient): never split apart.", metavar="NAME"
    )
    weight_column: str | None = _option(None, "CSV column of sample weights for fitting.", metavar="NAME")
    image_dir: str | None = _option(
        None, "Folder or URL that CSV paths are relative to (default: the CSV's).", metavar="DIR"
    )
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
    workers: int = _option(0, "Decoding threads (0: one per core); with --cluster those of each worker.", least=0)
    cache: str = _option("cache", "Folder of the feature store.", metavar="DIR")
    cluster: str | None = _option(
        None,
        "Extract on Ray: local, or HOST:PORT of a cluster whose machines share --cache and the images; needs "
        "featx[ray] (default: in this process).",
        metavar="ADDRESS|local",
    )
    cluster_workers: int = _option(
        0,
        "Workers of --cluster, which share its cores (0: one per GPU, and one per core of machines without a GPU).",
        least=0,
    )


@dataclass(frozen=True)
class TrainingOptions:
    """How a network is trained epoch by epoch: what the dense head and fine-tuning have in common.

    In the help texts `{trained}` stands for what is trained, which every section names.
    """

    __pydantic_config__ = _FORBID_UNKNOWN
    trained: ClassVar[str] = "the network"

    preset: Preset | None = _option(None, "A set of the options below, which those given override.")
    optimizer: Optimizer = _option("adam", "Of {trained}.")
    momentum: float = _option(0.9, "Of --optimizer sgd.", least=0)
    learning_rate: float = _option(1e-3, "Of {trained}, where --schedule begins.")
    schedule: ScheduleKind = _option("constant", "How the learning rate of {trained} changes from epoch to epoch.")
    boundaries: tuple[int, ...] = _option(
        (), "Of --schedule piecewise: the epochs after which the next rate holds, like 20,35.", metavar="N,N,..."
    )
    rates: tuple[float, ...] = _option(
        (), "Of --schedule piecewise: the learning rates, one more than boundaries.", metavar="R,R,..."
    )
    decay: float = _option(0.95, "Of --schedule exponential: what each epoch multiplies the rate by.")
    factor: float = _option(0.5, "Of --schedule plateau: what a plateau multiplies the rate by.")
    plateau_patience: int = _option(
        5, "Of --schedule plateau: epochs without a better --monitor before the rate falls.", least=1
    )
    least_rate: float = _option(0.0, "The rate where cosine ends, and the floor of plateau and exponential.", least=0)
    warmup: int = _option(0, "Epochs in which the rate rises linearly to where the schedule begins.", least=0)
    epochs: int = _option(100, "At most; {trained} stops early.", least=1)
    batch_size: int = _option(64, "Of {trained}.", least=1)
    monitor: Monitor = _option("val_loss", "What tells the best epoch of {trained}, whose weights are kept.")
    patience: int = _option(10, "Epochs without a better --monitor before {trained} stops.", least=1)
    min_delta: float = _option(0.0, "Only an improvement by more than this renews the patience.", least=0)
    baseline: float | None = _option(None, "The patience is renewed only where --monitor is better than this.")
    stop_accuracy: float | None = _option(
        None, "Stop once the training accuracy reaches this (with --stop-val-accuracy: once both are reached)."
    )
    stop_val_accuracy: float | None = _option(None, "Stop once the val accuracy reaches this.")
    tensorboard: str | None = _option(
        None, "Folder for TensorBoard: the curves of {trained} are written to it while it trains.", metavar="DIR"
    )


@dataclass(frozen=True)
class AugmentOptions:
    """How images are altered at random: one policy for cached views, fine-tuning and test-time averaging.

    Every operation is off at 0 (or none), which is the default. All act on the image at the network's size.
    """

    __pydantic_config__ = _FORBID_UNKNOWN

    views: int = _option(
        0, "Fit heads on so many altered versions of every training image, besides the image.", least=0, most=65_535
    )
    flip: Literal["none", "horizontal", "vertical", "both"] = _option(
        "none", "Mirror every second image, left to right, upside down, or each by its own chance."
    )
    rotation: float = _option(0.0, "Rotate by up to so many degrees either way.", least=0, most=180)
    shift: float = _option(
        0.0, "Move by up to this share of width and of height, either way, each by its own.", least=0, most=1
    )
    shear: float = _option(
        0.0, "Slant either way: bottom against top by up to this share of the height.", least=0, most=1
    )
    zoom: float = _option(0.0, "Magnify by a factor between 1 - ZOOM and 1 + ZOOM.", least=0, most=0.9)
    crop: float = _option(
        0.0, "Cut out at least this share of the area, brought back to size (0: no crop).", least=0, most=1
    )
    brightness: float = _option(0.0, "Multiply values by 1 - BRIGHTNESS to 1 + BRIGHTNESS.", least=0, most=1)
    contrast: float = _option(
        0.0, "Multiply the distance to the mean grey by 1 - CONTRAST to 1 + CONTRAST.", least=0, most=1
    )
    saturation: float = _option(
        0.0, "Multiply the distance of colours to grey by 1 - SATURATION to 1 + SATURATION.", least=0, most=1
    )
    erasing: float = _option(
        0.0, "Paint a rectangle grey, of up to this share of the area, somewhere.", least=0, most=1
    )
    fill_mode: Literal["nearest", "reflect", "constant"] = _option(
        "nearest", "What comes in where the image has moved away: its edge, its mirror image, or one value."
    )
    fill_value: int = _option(0, "Of --fill-mode constant: a grey from 0, black, to 255, white.", least=0, most=255)

    @property
    def operations(self) -> tuple[str, ...]:
        """The names of the operations that are on."""
        return tuple(name for name in OPERATIONS if getattr(self, name) not in {"none", 0})


OPERATIONS = (
    *("flip", "rotation", "shift", "shear", "zoom", "crop"),
    *("brightness", "contrast", "saturation", "erasing"),
)


@dataclass(frozen=True)
class HeadOptions(TrainingOptions):
    """Which classifier is fitted on the features."""

    __pydantic_config__ = _FORBID_UNKNOWN
    trained: ClassVar[str] = "--clf dense"

    clf: Clf = _option("logreg", "The kind of head; auto tries several and keeps the best by validation.")
    estimator: str | None = _option(
        None,
        "Of --clf estimator: a classifier of scikit-learn, as sklearn.naive_bayes.GaussianNB.",
        metavar="PATH",
    )
    grid: dict[str, Any] | None = _option(
        None, "Parameters of that classifier, each with the values to search.", metavar="{NAME: [VALUE,...]}"
    )
    kernel: Literal["linear", "rbf"] = _option("linear", "Of --clf svm.")
    strength: float | None = _option(
        None, "Regularisation C of logreg and svm, 1/alpha of ridge, neighbours of knn (default: searched)."
    )
    combine: Literal["auto", "none", "greedy", "all"] = _option(
        "auto",
        "Of several layers: take the best one, also try the best ones side by side, or put all side by side (auto: "
        "greedy with --clf auto, else none).",
    )
    normalize: Literal["none", "l2"] = _option("none", "Bring every image's features to unit length first.")
    pca: float | None = _option(
        None, "Keep this many principal components, or this share (below 1) of the variance.", metavar="N|SHARE"
    )
    metric: Metric = _option(
        "auto",
        "What the search and the choice of the best bundle go by (auto: accuracy; of several labels per image, "
        "average_precision).",
    )
    search: Literal["auto", "cv", "val"] = _option("auto", "Where strengths are compared: folds of train, or val.")
    folds: int = _option(5, "Folds of --search cv.", least=2)
    refit: bool = _option(False, "Fit the winner once more, on train and val together.")
    nested: bool = _option(False, "Estimate by nested cross-validation how good such a choice is; for few images.")
    calibrate: Literal["temperature", "sigmoid", "isotonic"] = _option(
        "temperature", "How confidence is made of the head's decisions."
    )
    thresholds: Literal["per_class", "global", "none"] = _option(
        "per_class", "From which probability on a label is given, where images have several (none: 0.5)."
    )
    threshold_range: tuple[float, float] = _option(
        (0.05, 0.95), "The range that is searched for thresholds.", metavar="LOW,HIGH"
    )
    memory: str | None = _option(
        None,
        "Most memory that features may take, like 1GB; larger ones are streamed (default: half of it).",
        metavar="SIZE",
    )
    class_weight: str = _option(
        "none", "none, balanced (every class weighs the same), or a weight for some classes.", metavar="NAME=W,..."
    )
    positive_weight: float = _option(1.0, "Multiplies the weight of having a label, where images have several.")
    hidden: str = _option(
        "256,0.3,128", "Layers of --clf dense: whole numbers are units, fractions are dropout.", metavar="LIST"
    )
    activation: str = _option("relu", "Of the hidden layers of --clf dense.")
    l2: float = _option(0.0, "Penalty on the squared weights of every layer of --clf dense.", least=0)


@dataclass(frozen=True)
class FinetuneOptions(TrainingOptions):
    """How backbone and head are trained end to end."""

    __pydantic_config__ = _FORBID_UNKNOWN
    trained: ClassVar[str] = "the fine-tune"

    enabled: bool = _option(True, "Whether 'featx run' fine-tunes.")
    unfreeze: str = _option(
        "all",
        "What trains beside the head: all, none, a layer or block (it and all above), or a number of layers.",
        metavar="all|LAYER|BLOCK|N|none",
    )
    from_cache: str | None = _option(
        None,
        "Train only what is above this layer, on its outputs in the cache; it and the layers below never run again.",
        metavar="LAYER",
    )
    gradual: int = _option(
        0,
        "Begin with the head; every N epochs one more block from the top joins in (0: all at once).",
        metavar="N",
        least=0,
    )
    layer_decay: float = _option(1.0, "Learning rate of a block as a share of that of the one above it.")
    batch_norm: Literal["frozen", "train"] = _option("frozen", "Whether batch normalisation keeps its statistics.")
    weight_decay: float = _option(0.0, "Decay of kernels, decoupled from the gradient as in AdamW.", least=0)
    class_weight: str | None = _option(
        None, "none, balanced, or a weight for some classes (default: as the head was fitted).", metavar="NAME=W,..."
    )
    label_smoothing: float = _option(0.0, "The part of every target that is spread evenly over the classes.", least=0)
    mixup: float = _option(
        0.0,
        "Train on means of two images: alpha of the distribution of their weights (0: off).",
        metavar="ALPHA",
        least=0,
    )
    cutmix: float = _option(
        0.0,
        "Train on images with a box of another: alpha of the distribution of its area (0: off).",
        metavar="ALPHA",
        least=0,
    )
    downscale: int = _option(
        1,
        "Read images N times as large, and learn how they are scaled down to the backbone's size.",
        metavar="N",
        least=1,
    )
    mixed_precision: Literal["none", "auto", "float16", "bfloat16"] = _option(
        "none", "Arithmetic of the backbone while it trains (auto: what the GPU is fast at)."
    )
    devices: str = _option("1", "GPUs that share each batch; cpu uses none.", metavar="all|N|cpu")
    gpu_memory: str = _option("grow", "Share of the GPU's memory to take at most, or as needed.", metavar="SHARE|grow")
    checkpoints: CheckpointKind = _option(
        "none", "Keep the whole network of the best or of every epoch as .keras, in checkpoints/ beside the report."
    )
    regraft: bool = _option(
        False, "Where the head is no network: fit logistic regression on its features, and start from that."
    )
    learning_rate: float = _option(1e-4, "Of {trained}, where --schedule begins.")
    epochs: int = _option(5, "How often every training image is seen, at most.", least=1)
    batch_size: int = _option(32, "Images per step.", least=1)
    monitor: Monitor = _option("val_accuracy", "What tells the best epoch of {trained}, whose weights are kept.")


@dataclass(frozen=True)
class BaselineOptions(TrainingOptions):
    """Which small network is trained from scratch to compare with, and how."""

    __pydantic_config__ = _FORBID_UNKNOWN
    trained: ClassVar[str] = "the baseline"

    net: Literal["conv1", "conv3", "conv6"] = _option(
        "conv3", "How many convolutions; conv3 and conv6 have a hidden dense layer, of 1024 and 256 units, behind them."
    )
    input_size: int = _option(64, "Side in pixels of the square the network sees.", metavar="N", least=8)
    dropout: float = _option(0.5, "Share of what the last layer takes that is left out in training.", least=0)
    epochs: int = _option(30, "How often every training image is seen, at most.", least=1)
    batch_size: int = _option(32, "Images per step.", least=1)
    monitor: Monitor = _option("val_accuracy", "What tells the best epoch of {trained}, whose weights are kept.")
    patience: int = _option(8, "Epochs without a better --monitor before training stops.", least=1)


@dataclass(frozen=True)
class CompareOptions:
    """What `featx compare` goes through: every combination of these; an empty list stands for its section's value."""

    __pydantic_config__ = _FORBID_UNKNOWN

    data: tuple[str, ...] = _option((), "Data sets, each as data.path (default: that).", metavar="DATA")
    backbone: tuple[str, ...] = _option(
        (), "Networks and .keras files, separated by commas (default: features.backbone).", metavar="A,B,..."
    )
    input_size: tuple[int, ...] = _option(
        (), "Sides in pixels of the square a network sees (default: features.input_size).", metavar="N,N,..."
    )
    layer: tuple[str, ...] = _option(
        (),
        "A layer, or LAYER@POOLING; blocks: where a block ends or the network branches; all: wherever it can be cut; "
        "may be repeated (default: features.layer).",
        metavar="LAYER|blocks|all",
    )
    pooling: tuple[str, ...] = _option(
        (), "avg, max, grid:N or flatten; may be repeated (default: features.pooling).", metavar="POOLING"
    )
    clf: tuple[str, ...] = _option((), "Kinds of head, separated by commas (default: head.clf).", metavar="A,B,...")
    stage: tuple[str, ...] = _option(
        ("head",),
        "head: the head on cached features; finetuned: and trained end to end; from-cache: and trained above "
        "finetune.from_cache.",
        metavar="STAGE,...",
    )
    override: dict[str, dict[str, Any]] | None = _option(
        None,
        "Other keys of a data set, backbone, kind of head or stage, by its name.",
        metavar="{NAME: {SECTION.KEY: VALUE}}",
    )


@dataclass(frozen=True)
class ReportOptions:
    """Where results go, and whether a page shows them."""

    __pydantic_config__ = _FORBID_UNKNOWN

    name: str | None = _option(None, "Results go to RUNS/NAME (default: the pipeline's or the data's name).")
    runs: str = _option("runs", "Folder of results.", metavar="DIR")
    html: bool = _option(True, "Write report/index.html with the results.")


@dataclass(frozen=True)
class TrackingOptions:
    """Where a tracker is told of every bundle: its options, figures, epochs, report and model card."""

    __pydantic_config__ = _FORBID_UNKNOWN

    tracker: Literal["none", "mlflow"] = _option("none", "Who is told of every new bundle; mlflow needs featx[mlflow].")
    tracking_uri: str | None = _option(
        None,
        "MLflow's store: sqlite:///FILE, or a server's address (default: MLFLOW_TRACKING_URI, else mlflow.db here).",
        metavar="URI",
    )
    experiment: str | None = _option(None, "The experiment that runs belong to (default: the name of the results).")


@dataclass(frozen=True)
class Pipeline:
    """The sections of a pipeline file. A stage is handed its section whole."""

    __pydantic_config__ = _FORBID_UNKNOWN

    data: DataOptions = field(default_factory=DataOptions)
    features: FeaturesOptions = field(default_factory=FeaturesOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    head: HeadOptions = field(default_factory=HeadOptions)
    finetune: FinetuneOptions = field(default_factory=FinetuneOptions)
    baseline: BaselineOptions = field(default_factory=BaselineOptions)
    compare: CompareOptions = field(default_factory=CompareOptions)
    report: ReportOptions = field(default_factory=ReportOptions)
    tracking: TrackingOptions = field(default_factory=TrackingOptions)


SECTIONS: Mapping[str, type] = {
    "data": DataOptions,
    "features": FeaturesOptions,
    "augment": AugmentOptions,
    "head": HeadOptions,
    "finetune": FinetuneOptions,
    "baseline": BaselineOptions,
    "compare": CompareOptions,
    "report": ReportOptions,
    "tracking": TrackingOptions,
}


def listed_options(section: type) -> list[Field[Any]]:
    """The options of a section in the order people read them: its own, then those of training, which it shares."""
    shared = {entry.name for entry in fields(TrainingOptions)} if issubclass(section, TrainingOptions) else set()
    return sorted(fields(section), key=lambda entry: entry.name in shared)


def help_of(section: type, option: Field[Any]) -> str:
    """The help of a section's option."""
    return str(option.metadata["help"]).replace("{trained}", getattr(section, "trained", ""))
