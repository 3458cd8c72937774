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
Precision = Literal["float32", "bfloat16", "float16"]
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
        None, "Side in pixels of the square the network sees (default: its own)."
    )
    resize: Resize = option("auto", "How an image is brought to that square (auto: as its files say, else stretch).")
    crop_share: Annotated[float, Gt(0), Le(1)] | None = option(
        None, "Share of the resized image that is kept, from the middle (default: as its files say, else 1)."
    )
    interpolation: Interpolation = option("auto", "Filter of the resizing (auto: as its files say, else bilinear).")
    levels: Levels = option(
        "full",
        "Which values of deep files are black and white: all that 16 bits hold; those of 10 to 14 bits in files of "
        "16; the smallest and largest of each image; those that 1 % are below and above.",
    )
    preprocessing: str = option(
        "auto",
        "Values that the network is given: imagenet (torch), half (tf), clip, caffe, none (auto: the backbone's own).",
        metavar="auto|NAME",
    )
    mean: tuple[float, ...] = option(
        (),
        "Mean of the values of each channel, or of all, subtracted after --scale; like 0.485,0.456,0.406.",
        metavar="R,G,B",
    )
    std: tuple[float, ...] = option((), "What they are divided by then; like 0.229,0.224,0.225.", metavar="R,G,B")
    scale: Annotated[float, Gt(0)] | None = option(
        None, "What pixels in 0 to 255 are multiplied by first (default: 1/255 where --mean or --std is given)."
    )
    channels: Channels = option("auto", "Order of the channels that the network is given (auto: rgb).")
    prefix_tokens: Annotated[int, Ge(0)] | None = option(
        None, "Tokens in front of those of the patches, such as a class token (default: found out)."
    )
    imports: tuple[str, ...] = option(
        (),
        "A Python module that defines layers of a .keras file; may be repeated. Its code is run.",
        metavar="MODULE",
        repeated=True,
        flag="import",
    )
    precision: Precision = option("float32", "Arithmetic of the backbone.")
    storage: Storage = option("float16", "How features are stored.")
    compression: Compression = option("none", "Compression of new feature files; zstd needs hdf5plugin to read.")
    engine: EngineName = option("auto", "What runs the backbone (auto: OpenVINO without a GPU, else TensorFlow).")
    infer_batch: Annotated[int, Ge(0), Le(4096)] = option(
        0, "Images per inference (0: what is fastest for the backbone)."
    )
    workers: Annotated[int, Ge(0)] = option(
        0, "Decoding threads (0: one per core); with --cluster those of each worker."
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
        "Workers of --cluster, which share its cores (0: one per GPU, and one per core of machines without a GPU).",
    )
