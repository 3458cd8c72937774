"""A `.keras` file as a backbone: its JSON, read without TensorFlow, and its network, flattened."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from featx.backbones.custom import custom_objects, unknown_class
from featx.backbones.keras_files import keras_folders
from featx.backbones.runtime import KerasConfig, KerasLayer, KerasModel, KerasTensor, import_keras
from featx.errors import BackboneError
from featx.io.counting import counted
from featx.io.jsontypes import parse_json
from featx.io.modules import named_modules
from featx.io.shown import error_line

if TYPE_CHECKING:
    from featx.backbones.spec import BackboneSpec

DEFAULT_SIDE = 224  # of a network that takes images of any size
_MODELS = {"Functional", "Sequential", "Model"}
_TO_VECTOR = {"Flatten", "GlobalAveragePooling2D", "GlobalMaxPooling2D"}
_CLASSIFIER = _TO_VECTOR | {"Dense", "Dropout", "Activation", "BatchNormalization", "Softmax", "ReLU"}


# --- without TensorFlow ------------------------------------------------------------------------------------------


def read_config(path: Path) -> KerasConfig:
    """The network's configuration as Keras wrote it.

    Raises
    ------
    BackboneError
        When the file is not a model of Keras 3.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config = parse_json(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise BackboneError(f"{path.name} is not a .keras file of Keras 3: {error_line(error)}.") from error
    if not isinstance(config, dict) or "layers" not in config.get("config", {}):
        raise BackboneError(f"{path.name} is neither a functional nor a sequential model; save it as one of these.")
    return config


def input_size(path: Path) -> tuple[int, int]:
    """Height and width that the file fixes; 224 where it leaves them open.

    Raises
    ------
    BackboneError
        When its input is not an RGB image.
    """
    shape = next(_input_shapes(read_config(path)), None)
    if not isinstance(shape, list) or len(shape) != 4 or shape[3] != 3:
        raise BackboneError(f"{path.name} does not take RGB images: its input is {shape}, not [n, height, width, 3].")
    return shape[1] or DEFAULT_SIDE, shape[2] or DEFAULT_SIDE


def _input_shapes(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        if value.get("class_name") == "InputLayer":
            yield value["config"].get("batch_shape")
        for item in value.values():
            yield from _input_shapes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _input_shapes(item)


def default_layer(path: Path) -> str:
    """The last layer before the classifier: what a pooling and dense layers follow, else the last layer."""
    return _last_layer(read_config(path), cut_classifier=True)


def _last_layer(config: KerasConfig, cut_classifier: bool) -> str:
    layers = [layer for layer in config["config"]["layers"] if layer["class_name"] != "InputLayer"]
    last = len(layers) - 1
    for index in range(len(layers) - 1, 0, -1):
        if not cut_classifier or layers[index]["class_name"] not in _CLASSIFIER:
            break
        if layers[index]["class_name"] in _TO_VECTOR:
            last = index - 1
            break
    layer = layers[last]
    nested = layer["class_name"] in _MODELS
    return _last_layer(layer, cut_classifier=False) if nested else str(layer["config"]["name"])


# --- with it -----------------------------------------------------------------------------------------------------


def load(path: Path, size: tuple[int, int] | None = None) -> KerasModel:
    """The network of a `.keras` file as one flat functional model with its weights.

    Raises
    ------
    BackboneError
        A file that Keras cannot read, or will not read safely, or that does not work at this size.
    """
    keras = import_keras()
    try:
        objects = custom_objects()
        with keras_folders():
            model = keras.models.load_model(path, custom_objects=objects, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError) as error:
        missing = unknown_class(path)
        if missing is not None:
            raise BackboneError(missing) from error
        raise BackboneError(f"Cannot load {path.name}: {error_line(error, 500)}.") from error
    return flatten(model, size or input_size(path), path.name)


def open_backbone(spec: BackboneSpec) -> KerasModel:
    """The network of a `.keras` backbone at the size of the spec, with its own weights or new random ones."""
    named_modules().allow_found(spec.imports)
    network = load(Path(spec.name), spec.input_size)
    return import_keras().models.clone_model(network) if spec.weights == "random" else network


def flatten(model: KerasModel, size: tuple[int, int], label: str) -> KerasModel:
    """A copy on a new input with models inside the model opened up: every layer is called in this network alone.

    Raises
    ------
    BackboneError
        When the layers do not work at this size, or there are several inputs.
    """
    keras = import_keras()
    if len(model.inputs) != 1:
        raise BackboneError(
            f"{label} has {counted(len(model.inputs), 'input')}; featx needs a network with one, the image."
        )
    try:
        network = keras.Model(model.inputs[0], model.outputs)
        while any(isinstance(layer, keras.Model) for layer in network.layers):
            _separate_names(network)
            network = _clone(network, size, _open_model, clone_function=lambda layer: layer)
        flat = _clone(network, size, _skip_conversion)
    except ValueError as error:
        reason = error_line(error, 500)
        raise BackboneError(f"{label} does not work at {size[0]} x {size[1]} pixels: {reason}.") from error
    _copy_weights(network, flat)
    return flat


def _clone(
    network: KerasModel, size: tuple[int, int], call: Callable[..., KerasTensor], **arguments: object
) -> KerasModel:
    keras = import_keras()
    inputs = keras.Input((*size, 3), name="image")
    return keras.models.clone_model(network, input_tensors=inputs, call_function=call, **arguments)


def _open_model(layer: KerasLayer, *args: KerasTensor, **kwargs: object) -> KerasTensor:
    # `call` of a model runs its layers one by one, so they become layers of the outer graph
    return layer.call(*args, **kwargs) if hasattr(layer, "layers") else layer(*args, **kwargs)


def _skip_conversion(layer: KerasLayer, *args: KerasTensor, **kwargs: object) -> KerasTensor:
    # ... and puts an operation before them that does nothing
    return args[0] if type(layer).__name__ == "ConvertToTensor" else layer(*args, **kwargs)


def _copy_weights(source: KerasModel, target: KerasModel) -> None:
    by_name = {layer.name: layer for layer in source.layers}
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(by_name[layer.name].get_weights())
        if hasattr(layer, "finalize_state"):  # Normalization computes with copies of its variables
            layer.finalize_state()


def _separate_names(network: KerasModel) -> None:
    """Put the inner model's name before an inner layer's name that the outer model has too."""
    keras = import_keras()
    taken = {layer.name for layer in network.layers}
    for model in network.layers:
        for layer in model.layers if isinstance(model, keras.Model) else ():
            if layer.name in taken:
                layer.name = f"{model.name}_{layer.name}"
            taken.add(layer.name)
