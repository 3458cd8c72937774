"""The options of the sections as keywords, for editors and type checkers.

Written by `python -m featx.api.generate` from `featx.config`. Do not edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict


class PreparedKeywords(TypedDict, total=False):
    """Which numbers are computed of each image, and how."""

    resize: Literal["auto", "stretch", "crop", "pad"]
    """Method that fits an image to that square (auto: as the network's files state, else stretch)."""
    crop_share: float | None
    """Share of the resized image that is kept, from the centre (default: as the network's files state, else 1)."""
    interpolation: Literal["auto", "bilinear", "bicubic"]
    """Interpolation used for resizing (auto: as the network's files state, else bilinear)."""
    preprocessing: str
    """Range of pixel values that the network expects: imagenet (torch), half (tf), clip, caffe, none (auto: the
    backbone's own)."""
    mean: float | Sequence[float]
    """Mean of each channel, or of all, subtracted after --scale; like 0.485,0.456,0.406."""
    std: float | Sequence[float]
    """Standard deviation of each channel, or of all, by which values are divided after --mean; like
    0.229,0.224,0.225."""
    scale: float | None
    """Factor that pixels in 0 to 255 are multiplied by first (default: 1/255 with --mean or --std)."""
    channels: Literal["auto", "rgb", "bgr"]
    """Order of the channels that the network expects (auto: rgb)."""
    prefix_tokens: int | None
    """Number of tokens before the patch tokens, such as a class token (default: detected)."""


class DataKeywords(TypedDict, total=False):
    """Which images, which labels, which split."""

    path_column: str
    """CSV column that holds the image path."""
    label_column: str
    """CSV column that holds the label."""
    split_column: str | None
    """CSV column that holds train, val or test (default: 'split' if there is one)."""
    group_column: str | None
    """CSV column of groups (one plant, one patient) that the split keeps together."""
    group_duplicates: float | None
    """Never split images apart whose features have at least this cosine similarity, like 0.95."""
    weight_column: str | None
    """CSV column of sample weights for fitting."""
    image_dir: str | Path | None
    """Folder or URL that CSV paths are relative to (default: the CSV's)."""
    label_separator: str | None
    """Separator of several labels in one cell, or json for lists; makes the set multi-label."""
    label_columns: str | Sequence[str]
    """CSV columns of 0 and 1, one per class; '*' for all that have no other use."""
    relabel: str | Path | None
    """A CSV of path,label that replaces labels, such as a corrected label_errors.csv."""
    classes: str | Sequence[str] | None
    """Class names in the order to use, separated by commas (default: alphanumeric)."""
    split: Sequence[float]
    """Shares of train, val and test, unless the data declares its own split."""
    max_train: int | None
    """Most training images to use, with the same share of every class."""
    seed: int
    """Seed of the split, of the folds and of training."""


class FeaturesKeywords(PreparedKeywords, total=False):
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
    """Side in pixels of the square image that the network is given (default: the network's own)."""
    levels: Literal["full", "10bit", "12bit", "14bit", "minmax", "percentile"]
    """Range of values in 16-bit files that becomes black to white: full, the 10 to 14 bits that a scanner used, minmax
    of each image, or percentile (1 % at either end is cut off)."""
    imports: str | Sequence[str]
    """A Python module that defines custom layers of a .keras file, or the classes of a bundle's head; may be repeated.
    Its code is executed."""
    precision: Literal["float32", "bfloat16", "float16", "int8"]
    """Precision of the backbone's arithmetic; int8 is calibrated on training images and needs featx[int8]."""
    storage: Literal["float16", "float32"]
    """Type that features are stored in."""
    compression: Literal["none", "zstd"]
    """Compression of new feature files; zstd needs hdf5plugin to read."""
    engine: Literal["auto", "tensorflow", "openvino"]
    """Engine that runs the backbone (auto: OpenVINO without a GPU, else TensorFlow)."""
    infer_batch: int
    """Images per inference batch (0: the fastest for the backbone)."""
    workers: int
    """Threads that decode images (0: one per core); with --cluster, per worker."""
    cache: str | Path
    """Folder of the feature store."""
    cluster: str | None
    """Extract on Ray: local, or HOST:PORT of a cluster whose machines share --cache and the images; needs featx[ray]
    (default: in this process)."""
    cluster_workers: int
    """Number of workers of --cluster (0: one per GPU, and one per core on machines without a GPU)."""


class AugmentKeywords(TypedDict, total=False):
    """How images are altered at random: one policy for cached views, fine-tuning and test-time averaging."""

    views: int
    """Number of augmented versions of every training image to fit heads on, besides the image itself."""
    flip: Literal["none", "horizontal", "vertical", "both"]
    """Flip half of the images left to right, upside down, or both independently."""
    rotation: float
    """Rotate by up to this many degrees either way."""
    shift: float
    """Shift by up to this share of width and height, independently."""
    shear: float
    """Shear either way, by up to this share of the height."""
    zoom: float
    """Zoom by a factor between 1 - ZOOM and 1 + ZOOM."""
    crop: float
    """Random crop of at least this share of the area, resized to full size (0: no crop)."""
    brightness: float
    """Multiply brightness by a factor between 1 - BRIGHTNESS and 1 + BRIGHTNESS."""
    contrast: float
    """Multiply contrast by a factor between 1 - CONTRAST and 1 + CONTRAST."""
    saturation: float
    """Multiply saturation by a factor between 1 - SATURATION and 1 + SATURATION."""
    erasing: float
    """Random erasing: grey out a rectangle of up to this share of the area."""
    fill_mode: Literal["nearest", "reflect", "constant"]
    """Filling of uncovered pixels: the nearest edge, the mirror image, or a constant."""
    fill_value: int
    """Grey value of --fill-mode constant, from 0, black, to 255, white."""


class ReportKeywords(TypedDict, total=False):
    """Where results go, and whether a page shows them."""

    name: str | None
    """Name of the run; results go to RUNS/NAME (default: the pipeline's or the data's name)."""
    runs: str | Path
    """Folder of results."""
    plots: Literal["png", "svg", "pdf"]
    """Files of plots: PNG alone, or SVG or PDF beside it, for print."""
    html: bool
    """Write report/index.html with the results."""
    keep_paths: bool
    """Keep folders, which may name people, in the commands and options that pages, packs and cards show."""


class TrackingKeywords(TypedDict, total=False):
    """The tracker that every bundle is reported to: its options, figures, epochs, report and model card."""

    tracker: Literal["none", "mlflow"]
    """Experiment tracker that every new bundle is logged to; mlflow needs featx[mlflow]."""
    tracking_uri: str | None
    """MLflow tracking URI: sqlite:///FILE, or a server's address (default: MLFLOW_TRACKING_URI, else mlflow.db
    here)."""
    experiment: str | None
    """MLflow experiment (default: the name of the run)."""


class NextKeywords(TypedDict, total=False):
    """Which images of a pool are worth a label, and how many."""

    count: int
    """Number of images to choose."""
    doubt: Literal["margin", "entropy", "none"]
    """Measure of a model's uncertainty: the margin between its two likeliest classes, or the entropy of all; none:
    images are chosen for being typical and different alone."""
    same: float
    """Least similarity of near-duplicates, of which one is chosen; the cosine about the mean of the pool."""
    far: float
    """Images farther than this from all training images are listed apart; 99 % of the known are within 1."""


class EnoughKeywords(TypedDict, total=False):
    """How accuracy is measured against the number of images, and how far it is extrapolated."""

    repeats: int
    """Number of times that each size is measured."""
    more: int | Sequence[int]
    """Numbers of further images to forecast for (default: half as many, as many, three times as many)."""


class CompareKeywords(TypedDict, total=False):
    """What `featx compare` goes through: every combination of these; an empty list stands for its section's value."""

    backbone: str | Sequence[str]
    """Networks and .keras files, separated by commas (default: features.backbone)."""
    input_size: int | Sequence[int]
    """Sides in pixels of the square a network sees (default: features.input_size)."""
    layer: str | Sequence[str]
    """A layer, or LAYER@POOLING; blocks: where a block ends or the network branches; all: wherever it can be cut; may
    be repeated (default: features.layer)."""
    pooling: str | Sequence[str]
    """avg, max, grid:N or flatten; may be repeated (default: features.pooling)."""
    clf: str | Sequence[str]
    """Kinds of head, separated by commas (default: head.clf)."""
    stage: str | Sequence[str]
    """head: a head on cached features; finetuned: trained end to end as well; from-cache: trained above
    finetune.from_cache as well."""
    override: Mapping[str, object] | None
    """Other keys for one data set, backbone, kind of head or stage, by its name."""


class DriftKeywords(TypedDict, total=False):
    """When new images count as different, and how many of the strangest are shown."""

    level: float
    """Share of false alarms that is accepted: images count as different where p is at most this."""
    strangest: int
    """Images farthest from all training images that are listed, at most."""


class MapKeywords(TypedDict, total=False):
    """How images are placed in two dimensions."""

    method: Literal["tsne", "pca", "umap"]
    """t-SNE keeps neighbours, pca large distances and takes no time; umap needs featx[umap]."""
    sample: int
    """Images that are placed by t-SNE or UMAP; others go where the nearest of these are."""
    points: int
    """Images that the page shows, at most; of more, so many that are drawn at random."""
    pictures: int
    """Images that have a picture in the page, of 1 KB each."""
