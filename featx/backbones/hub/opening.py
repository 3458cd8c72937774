"""KerasHub's networks as one flat Keras graph in which every transformer block is one layer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np

from featx.backbones import modelfile
from featx.backbones.calls import forget_calls
from featx.backbones.hub.folder import OUTPUT, TOWERS, HubFolder, has_weights, read_content, read_folder
from featx.backbones.hub.library import import_hub
from featx.backbones.hub.positions import interpolate_positions
from featx.backbones.hub.timm import is_padded_as_timm
from featx.backbones.hub.towers import build_tower
from featx.backbones.keras_files import keras_folders
from featx.backbones.names import give_stable_names
from featx.backbones.runtime import KerasConfig, KerasLayer, KerasModel, KerasTensor, import_keras
from featx.backbones.spec import BackboneSpec
from featx.errors import BackboneError
from featx.io.shown import error_line

# the class of a layer that holds all blocks -> its attribute that lists them
_ENCODERS = {
    "DINOV2Encoder": "layers",
    "DINOV3Encoder": "layers",
    "ViTEncoder": "encoder_layers",
    "DeiTEncoder": "encoder_layers",
    "HGNetV2Encoder": "stages_list",
}
# layers of DenseNet's stem -> what timm's network, whose weights they get, pads on every side; KerasHub's pads one more
# on the right than on the left, so that it sees everything half a pixel further. Its presets have timm's weights, too
_DENSENET_PADDING = {"conv1_conv": 3, "pool1": 1}


def open_hub_backbone(spec: BackboneSpec) -> KerasModel:
    """The network of a folder at the size of the spec, with its own weights or random ones.

    Raises
    ------
    BackboneError
        KerasHub is not installed or cannot read the folder, or the network does not work at this size.
    """
    folder = read_folder(Path(spec.name))
    folder.check_size(spec.input_size)
    network = _load(folder, spec.input_size, random=spec.weights == "random")
    tower = getattr(network, "vision_encoder", network)
    of_timm = "architecture" in read_content(folder.path)
    call = _call_padded if is_padded_as_timm(folder.family, of_timm, spec.source) else _open_encoder
    return _flatten(_resize(tower, spec.input_size, folder), spec.input_size, folder, call)


def _load(folder: HubFolder, size: tuple[int, int], random: bool) -> KerasModel:
    """The network as KerasHub makes it: of patches for the images that it was written for, else for those of a size."""
    if not random and not has_weights(folder.path):
        raise BackboneError(
            f"{folder.label} holds no weights: neither model.weights.h5 nor model.safetensors. Copy them there, or "
            "give --weights random."
        )
    hub = import_hub()
    content = read_content(folder.path)
    try:
        if folder.path.is_file():
            return _load_file(folder.path, random)
        if folder.family in TOWERS and "model_type" in content:
            return build_tower(str(folder.path), content, load_weights=not random)
        given: dict[str, object] = {} if folder.patch else {"image_shape": (*size, 3)}
        with redirect_stdout(StringIO()):  # some of its converters print what they do
            return hub.models.Backbone.from_preset(str(folder.path), load_weights=not random, dtype="float32", **given)
    except Exception as error:  # its readers of JSON, HDF5 and safetensors each have errors of their own
        missing = "it lacks " if isinstance(error, KeyError) else ""
        reason = missing + error_line(error, 400)
        raise BackboneError(f"KerasHub cannot read {folder.label}: {reason}. Is the folder complete?") from error


def _load_file(path: Path, random: bool) -> KerasModel:
    """The backbone of a model that KerasHub saved as one `.keras` file."""
    with keras_folders():
        model = import_keras().models.load_model(path, compile=False, safe_mode=True)
    backbone = getattr(model, "backbone", model)
    return type(backbone).from_config(backbone.get_config()) if random else backbone


def _resize(network: KerasModel, size: tuple[int, int], folder: HubFolder) -> KerasModel:
    """The network for images of another size: its weights, with the positions interpolated."""
    config = network.get_config()
    shape = config.get("image_shape")
    wanted = {name: [*size, 3] for name in ("image_shape", "position_embedding_shape") if config.get(name)}
    if shape is None or all(list(config[name])[:2] == [*size] for name in wanted):
        return network
    try:
        resized = type(network).from_config(config | wanted)
    except ValueError as error:
        reason = error_line(error, 300)
        raise BackboneError(f"{folder.label} does not work at {size[0]} x {size[1]} pixels: {reason}.") from error
    smooth = bool(config.get("antialias_in_interpolation", False))
    for old, new in zip(_variables(network), _variables(resized), strict=True):
        if old.shape == new.shape:
            new.assign(old)
        elif "float" in str(new.dtype):  # the numbers of the positions are the new network's own
            new.assign(interpolate_positions(np.asarray(old), new.shape[-2], smooth))
    return resized


def _variables(network: KerasModel) -> list[KerasTensor]:
    """All variables but DINOv2's positions at the image size, which are made of others."""
    return [variable for variable in network.variables if "interpolated_position_embeddings" not in variable.path]


def _flatten(
    network: KerasModel, size: tuple[int, int], folder: HubFolder, call: Callable[..., KerasTensor]
) -> KerasModel:
    """Call : calls each layer"""
    keras = import_keras()
    _take_positions(network)
    part = keras.Model(network.inputs[0], _deepest(network))
    if any(isinstance(layer, keras.Model) for layer in part.layers):
        part = modelfile.flatten(part, size, folder.label)
    for number, block in enumerate(getattr(network, "encoder_layers", ()), 1):
        block.name = f"block{number}"
    forget_calls(part)
    try:
        image = keras.Input((*size, 3), name="image")
        flat = keras.models.clone_model(
            part, input_tensors=image, clone_function=lambda layer: layer, call_function=call
        )
    except ValueError as error:
        reason = error_line(error, 300)
        raise BackboneError(f"{folder.label} does not work at {size[0]} x {size[1]} pixels: {reason}.") from error
    for layer in flat.layers:
        layer.name = layer.name.removeprefix(f"{network.name}_")
    flat.layers[-1].name = OUTPUT
    return give_stable_names(flat)


def _deepest(network: KerasModel) -> KerasTensor:
    """The output; of one that gives the map behind each of its stages (HGNetV2), that of the last."""
    if not isinstance(network.output, dict):
        return network.outputs[0]
    return network.output[max(name for name in network.output if name.startswith("stage"))]


def _take_positions(network: KerasModel) -> None:
    """Give DINOv2's embedding, which computes with a copy of its positions, the copy."""
    for layer in network.layers:
        copy = getattr(layer, "interpolated_position_embeddings", None)
        if copy is not None and copy.shape == layer.position_embeddings.shape:
            copy.assign(layer.position_embeddings)


def _call_padded(layer: KerasLayer, *args: KerasTensor, **kwargs: KerasConfig) -> KerasTensor:
    """Call a layer of DenseNet padded as timm's, by zeros in front of it: the maximum is taken of none below 0."""
    sides = _DENSENET_PADDING.get(layer.name)
    if sides is None:
        return layer(*args, **kwargs)
    layer.padding = "valid"
    return layer(import_keras().layers.ZeroPadding2D(sides, name=f"{layer.name}_pad")(args[0]), **kwargs)


def _open_encoder(layer: KerasLayer, *args: KerasTensor, **kwargs: KerasConfig) -> KerasTensor:
    """Call a layer; one that holds all blocks is opened, so that each block is a layer of the graph."""
    kind = type(layer).__name__
    if kind not in _ENCODERS:
        return layer(*args, **kwargs)
    tokens, stages = args[0], {}
    if kind == "ViTEncoder":
        tokens = layer.dropout(tokens)
    for number, block in enumerate(getattr(layer, _ENCODERS[kind]), 1):
        block.name = f"block{number}"
        stages[f"stage{number}"] = tokens = block(tokens, **kwargs)
    if kind == "HGNetV2Encoder":
        return (args[0], *stages.values())
    if kind == "DeiTEncoder":
        return (layer.layer_norm(tokens),) * 3
    return layer.layer_norm(tokens) if kind == "ViTEncoder" else (tokens, stages)
