"""The section features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from featx.config.bounds import Ge, Gt, Le
from featx.config.option import Place, Section, option
from featx.config.texts import ClusterAddress

Resize = Literal["auto", "stretch", "crop", "pad"]
Interpolation = Literal["auto", "bilinear", "bicubic"]
Levels = Literal["full", "10bit", "12bit", "14bit", "minmax", "percentile"]
Channels = Literal["auto", "rgb", "bgr"]
Precision = Literal["float32", "bfloat16", "float16", "int8"]
EngineName = Literal["auto", "tensorflow", "openvino"]
Storage = Literal["float16", "float32"]
Compression = Literal["none", "zstd"]


@dataclass(frozen=True)
class FeaturesOptions(Section):
    """Which numbers are computed of each image, and how."""

    backbone: Place = option(
        "EfficientNetLite0",
        "A network that 'featx backbones' lists, a .keras file, a graph file (.onnx, .xml of OpenVINO, .tflite, a "
        "SavedModel folder), a folder of KerasHub or Hugging Face, hf:OWNER/NAME or hub:PRESET (featx[hub]).",
        metavar="NAME|FILE",
    )
    weights: Place = option(
        "auto",
        "bundled, imagenet, random, or a .weights.h5, .h5 or .keras file (auto: bundled where there are such, "
        "else imagenet).",
        metavar="WEIGHTS",
    )
    weights_seed: Annotated[int, Ge(0), Le(2**32 - 1)] = option(0, "Seed of --weights random.")
    layer: tuple[str, ...] = option(
        (),
        "A layer, or LAYER@POOLING, to take features from; may be repeated (default: the backbone's last).",
        metavar="LAYER",
        repeated=True,
    )
    pooling: tuple[str, ...] = option(
        (),
        "avg, max, grid:N, flatten or none, of tokens also cls and cls+avg; may be repeated (default: avg).",
        metavar="POOLING",
        repeated=True,
    )
    input_size: Annotated[int, Ge(1), Le(8192)] | None = option(
        None, "Side in pixels of the square image that the network is given (default: the network's own)."
    )
    resize: Resize = option(
        "auto", "Method that fits an image to that square (auto: as the network's files state, else stretch)."
    )
    crop_share: Annotated[float, Gt(0), Le(1)] | None = option(
        None,
        "Share of the resized image that is kept, from the centre (default: as the network's files state, else 1).",
    )
    interpolation: Interpolation = option(
        "auto", "Interpolation used for resizing (auto: as the network's files state, else bilinear)."
    )
    levels: Levels = option(
        "full",
        "Range of values in 16-bit files that becomes black to white: full, the 10 to 14 bits that a scanner used, "
        "minmax of each image, or percentile (1 % at either end is cut off).",
    )
    preprocessing: str = option(
        "auto",
        "Range of pixel values that the network expects: imagenet (torch), half (tf), clip, caffe, none (auto: "
        "the backbone's own).",
        metavar="auto|NAME",
    )
    mean: tuple[float, ...] = option(
        (),
        "Mean of each channel, or of all, subtracted after --scale; like 0.485,0.456,0.406.",
        metavar="R,G,B",
    )
    std: tuple[float, ...] = option(
        (),
        "Standard deviation of each channel, or of all, by which values are divided after --mean; like "
        "0.229,0.224,0.225.",
        metavar="R,G,B",
    )
    scale: Annotated[float, Gt(0)] | None = option(
        None, "Factor that pixels in 0 to 255 are multiplied by first (default: 1/255 with --mean or --std)."
    )
    channels: Channels = option("auto", "Order of the channels that the network expects (auto: rgb).")
    prefix_tokens: Annotated[int, Ge(0)] | None = option(
        None, "Number of tokens before the patch tokens, such as a class token (default: detected)."
    )
    imports: tuple[str, ...] = option(
        (),
        "A Python module that defines custom layers of a .keras file, or the classes of a bundle's head; may be "
        "repeated. Its code is executed.",
        metavar="MODULE",
        repeated=True,
        flag="import",
    )
    precision: Precision = option(
        "float32",
        "Precision of the backbone's arithmetic; int8 is calibrated on training images and needs featx[int8].",
    )
    storage: Storage = option("float16", "Type that features are stored in.")
    compression: Compression = option("none", "Compression of new feature files; zstd needs hdf5plugin to read.")
    engine: EngineName = option(
        "auto", "Engine that runs the backbone (auto: OpenVINO without a GPU, else TensorFlow)."
    )
    infer_batch: Annotated[int, Ge(0), Le(4096)] = option(
        0, "Images per inference batch (0: the fastest for the backbone)."
    )
    workers: Annotated[int, Ge(0)] = option(
        0, "Threads that decode images (0: one per core); with --cluster, per worker."
    )
    cache: Place = option("cache", "Folder of the feature store.", metavar="DIR")
    cluster: ClusterAddress | None = option(
        None,
        "Extract on Ray: local, or HOST:PORT of a cluster whose machines share --cache and the images; needs "
        "featx[ray] (default: in this process).",
        metavar="ADDRESS|local",
    )
    cluster_workers: Annotated[int, Ge(0)] = option(
        0,
        "Number of workers of --cluster (0: one per GPU, and one per core on machines without a GPU).",
    )
