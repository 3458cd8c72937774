"""The digest of a Keras network's computation: its layers, their settings and their inputs."""

from __future__ import annotations

from featx.backbones.runtime import KerasModel
from featx.io.digests import digest_json

# What a layer's configuration says of training and of bookkeeping, and not of what it computes.
_LEFT_OUT = ("initializer", "regularizer", "constraint", "trainable", "dtype", "batch_shape", "build_config", "seed")


def digest_architecture(model: KerasModel) -> str:
    """SHA-256 of the layers, what each computes and what it takes its input from."""
    config = model.get_config()
    return digest_json([_essence(layer) for layer in config["layers"]])


def _essence(value: object) -> object:
    if isinstance(value, dict):
        return {k: _essence(v) for k, v in value.items() if not k.endswith(_LEFT_OUT) and k not in {"module", "shape"}}
    if isinstance(value, list | tuple):
        return [_essence(item) for item in value]
    return value
