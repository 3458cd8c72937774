"""Small networks of KerasHub with random weights, written as folders, and what KerasHub itself makes of them."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from featx.backbones import import_keras

SIDE, PATCH = 56, 14
VALUES = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_FOLDERS: list[TemporaryDirectory[str]] = []  # gone with the process


def make_network(family: str, side: int = SIDE, blocks: int = 3) -> Any:
    """A network with weights that are random, but for none that is zero."""
    keras = import_keras()
    import keras_hub
    from keras_hub.src.models.clip.clip_vision_encoder import CLIPVisionEncoder
    from keras_hub.src.models.siglip.siglip_vision_encoder import SigLIPVisionEncoder

    keras.utils.set_random_seed(7)
    shape, models = (side, side, 3), keras_hub.models
    wide = {"intermediate_dim": 96, "image_shape": shape}
    transformer = {"patch_size": PATCH, "num_layers": blocks, "num_heads": 3, "hidden_dim": 48}
    makers = {
        "dinov2": lambda: models.DINOV2Backbone(
            **transformer, **wide, num_register_tokens=2, position_embedding_shape=shape, name="dinov2"
        ),
        "dinov3": lambda: models.DINOV3Backbone(**transformer, **wide, num_register_tokens=4),
        "vit": lambda: models.ViTBackbone(**transformer, mlp_dim=96, image_shape=shape),
        "siglip": lambda: SigLIPVisionEncoder(**transformer, **wide),
        "clip": lambda: CLIPVisionEncoder(**transformer, **wide),
        "resnet": lambda: models.ResNetBackbone(
            input_conv_filters=[64],
            input_conv_kernel_sizes=[7],
            stackwise_num_filters=[64, 64, 64, 64],
            stackwise_num_blocks=[1, 1, 1, 1],
            stackwise_num_strides=[1, 2, 2, 2],
            block_type="basic_block",
        ),
    }
    makers |= {
        "vgg": lambda: models.VGGBackbone(
            stackwise_num_repeats=[1, 1], stackwise_num_filters=[8, 16], image_shape=(None, None, 3)
        ),
        "densenet": lambda: models.DenseNetBackbone(stackwise_num_repeats=[1, 1], image_shape=(None, None, 3)),
        "xception": lambda: models.XceptionBackbone(
            stackwise_conv_filters=[[32, 64], [64, 64]], stackwise_pooling=[True, False], image_shape=(None, None, 3)
        ),
    }
    network = makers[family]()
    random = np.random.default_rng(5)
    for variable in network.variables:
        if "float" in str(variable.dtype) and "moving" not in variable.path:
            variable.assign(variable + random.normal(0, 0.05, variable.shape))
    for layer in network.layers:  # which computes with a copy of its positions
        if hasattr(layer, "interpolated_position_embeddings"):
            layer.interpolated_position_embeddings.assign(layer.position_embeddings)
    return network


def save_folder(folder: Path, family: str = "dinov2", side: int = SIDE, values: bool = True, blocks: int = 3) -> Any:
    """Write the network as KerasHub does, with the values that it is given; returns it, the same one each time."""
    network, saved = _made_once(family, side, blocks)
    shutil.copytree(saved, folder)
    if values:
        text = {"size": {"height": SIDE, "width": SIDE}, "image_mean": VALUES["mean"], "image_std": VALUES["std"]}
        (folder / "preprocessor_config.json").write_text(json.dumps(text))
    return network


@cache
def _made_once(family: str, side: int, blocks: int) -> tuple[Any, Path]:
    """A network and its folder, which other tests of this process copy."""
    network = make_network(family, side, blocks)
    _FOLDERS.append(TemporaryDirectory(prefix="featx-hub-"))
    folder = Path(_FOLDERS[-1].name, "net")
    network.save_to_preset(str(folder))
    return network, folder


def normalize(pixels: np.ndarray) -> np.ndarray:
    """What the network is given, in NumPy."""
    return ((pixels / 255 - np.array(VALUES["mean"])) / np.array(VALUES["std"])).astype(np.float32)


def run_network(network: Any, pixels: np.ndarray) -> np.ndarray:
    """What the network itself gives; not by `predict`, which takes a second to trace it."""
    model = import_keras().Model(network.inputs[0], network.outputs[0])
    return np.asarray(model(normalize(pixels), training=False))


def run_blocks(network: Any, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Tokens float32 (n, tokens, channels) behind every block and at the end, as KerasHub gives them."""
    keras, given = import_keras(), normalize(pixels)
    asked = {name.replace("stage", "block"): tensor for name, tensor in network.pyramid_outputs.items()}
    model = keras.Model(network.inputs[0], asked | {"output": network.outputs[0]})
    return {name: np.asarray(value) for name, value in model(given, training=False).items()}
