"""The image towers of CLIP and SigLIP in Hugging Face folders: KerasHub has the networks but no converter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from featx.backbones.runtime import KerasLayer, KerasModel, KerasTensor
from featx.io.jsontypes import Json

_COMMON: Mapping[str, Json] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "image_size": 224,
}  # fmt: skip
# what `config.json` leaves out where it is the default of transformers
_DEFAULTS: Mapping[str, Mapping[str, Json]] = {
    "clip": {**_COMMON, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
    "siglip": {**_COMMON, "patch_size": 16, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
}
_ACTIVATIONS = {"gelu_pytorch_tanh": "gelu_approximate"}
_EPSILON = {"clip": 1e-5, "siglip": 1e-6}  # which KerasHub's encoders have


def tower_config(content: Mapping[str, Json]) -> Mapping[str, Json]:
    """The configuration of the image tower, defaults filled in."""
    own = content.get("vision_config", content)
    return {**_DEFAULTS[tower_kind(content)], **(own if isinstance(own, Mapping) else {})}


def tower_kind(content: Mapping[str, Json]) -> str:
    """`clip` or `siglip`."""
    return str(content["model_type"]).partition("_")[0]


def build_tower(folder: str, content: Mapping[str, Json], load_weights: bool) -> KerasModel:
    """KerasHub's encoder with the weights of the folder.

    Raises
    ------
    ValueError
        A tower of a shape that KerasHub's encoder does not have.
    KeyError
        A weight that the folder does not hold.
    """
    from keras_hub.src.models.clip.clip_vision_encoder import CLIPVisionEncoder
    from keras_hub.src.models.siglip.siglip_vision_encoder import SigLIPVisionEncoder

    kind, config = tower_kind(content), tower_config(content)
    if config["layer_norm_eps"] != _EPSILON[kind]:
        raise ValueError(f"layer_norm_eps is {config['layer_norm_eps']}, and KerasHub computes with {_EPSILON[kind]}")
    activation, side = str(config["hidden_act"]), config["image_size"]
    network = (CLIPVisionEncoder if kind == "clip" else SigLIPVisionEncoder)(
        patch_size=config["patch_size"],
        hidden_dim=config["hidden_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        intermediate_dim=config["intermediate_size"],
        intermediate_activation=_ACTIVATIONS.get(activation, activation),
        image_shape=(side, side, 3),
        dtype="float32",
    )
    if load_weights:
        from keras_hub.src.utils.transformers.safetensor_utils import SafetensorLoader

        with SafetensorLoader(folder, prefix="") as loader:
            _Port(loader).fill(network, kind)
    return network


class _Port:
    """Hugging Face's arrays, by their names below `vision_model.`, into KerasHub's variables."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def fill(self, network: KerasModel, kind: str) -> None:
        self._embedding(network.embedding)
        blocks = (self._clip_block, self._siglip_block)[kind == "siglip"]
        for number, block in enumerate(network.encoder_layers):
            blocks(block, f"encoder.layers.{number}")
        if kind == "clip":
            self._norm(network.pre_layer_norm, "pre_layrnorm")  # spelled so there
            self._norm(network.layer_norm, "post_layernorm")
        else:
            self._norm(network.post_layer_norm, "post_layernorm")
            self._pooling(network.head)

    def _get(self, name: str) -> np.ndarray:
        return np.asarray(self._loader.get_tensor(f"vision_model.{name}"), np.float32)

    def _embedding(self, layer: KerasLayer) -> None:
        projection = layer.patch_embedding
        projection.kernel.assign(self._get("embeddings.patch_embedding.weight").transpose(2, 3, 1, 0))
        if projection.use_bias:
            projection.bias.assign(self._get("embeddings.patch_embedding.bias"))
        layer.position_embedding.embeddings.assign(self._get("embeddings.position_embedding.weight"))
        if hasattr(layer, "class_embedding"):
            layer.class_embedding.assign(self._get("embeddings.class_embedding"))

    def _clip_block(self, block: KerasLayer, name: str) -> None:
        self._norm(block.layer_norm_1, f"{name}.layer_norm1")
        self._attention(block.attention, f"{name}.self_attn")
        self._norm(block.layer_norm_2, f"{name}.layer_norm2")
        self._dense(block.dense_1, f"{name}.mlp.fc1")
        self._dense(block.dense_2, f"{name}.mlp.fc2")

    def _siglip_block(self, block: KerasLayer, name: str) -> None:
        self._norm(block.layer_norm1, f"{name}.layer_norm1")
        self._attention(block.self_attn, f"{name}.self_attn")
        self._norm(block.layer_norm2, f"{name}.layer_norm2")
        self._dense(block.mlp.fc1, f"{name}.mlp.fc1")
        self._dense(block.mlp.fc2, f"{name}.mlp.fc2")

    def _pooling(self, head: KerasLayer) -> None:
        head.probe.assign(self._get("head.probe"))
        kernels = np.split(self._get("head.attention.in_proj_weight"), 3)
        biases = np.split(self._get("head.attention.in_proj_bias"), 3)
        for part, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True):
            self._assign_split(head.attention, part, kernel, bias)
        self._assign_output(head.attention, "head.attention.out_proj")
        self._norm(head.layer_norm, "head.layernorm")
        self._dense(head.mlp.fc1, "head.mlp.fc1")
        self._dense(head.mlp.fc2, "head.mlp.fc2")

    def _attention(self, attention: KerasLayer, name: str) -> None:
        for part, letter in (("query", "q"), ("key", "k"), ("value", "v")):
            kernel, bias = (self._get(f"{name}.{letter}_proj.{one}") for one in ("weight", "bias"))
            self._assign_split(attention, part, kernel, bias)
        self._assign_output(attention, f"{name}.out_proj")

    def _assign_split(self, attention: KerasLayer, part: str, kernel: np.ndarray, bias: np.ndarray) -> None:
        """(out, in) -> (in, heads, channels of a head)."""
        dense: KerasLayer = getattr(attention, f"_{part}_dense")
        dense.kernel.assign(kernel.T.reshape(dense.kernel.shape))
        dense.bias.assign(bias.reshape(dense.bias.shape))

    def _assign_output(self, attention: KerasLayer, name: str) -> None:
        dense: KerasLayer = attention._output_dense
        dense.kernel.assign(self._get(f"{name}.weight").T.reshape(dense.kernel.shape))
        dense.bias.assign(self._get(f"{name}.bias"))

    def _norm(self, layer: KerasLayer, name: str) -> None:
        layer.gamma.assign(self._get(f"{name}.weight"))
        layer.beta.assign(self._get(f"{name}.bias"))

    def _dense(self, layer: KerasLayer, name: str) -> None:
        kernel: KerasTensor = layer.kernel
        kernel.assign(self._get(f"{name}.weight").T)
        layer.bias.assign(self._get(f"{name}.bias"))
