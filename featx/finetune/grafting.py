"""Join a bundle's backbone and head into one Keras model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.backbones import import_keras
from featx.bundle.bundle import Bundle
from featx.errors import BundleError
from featx.finetune.downscaling import prepend_downscale
from featx.heads import persist

if TYPE_CHECKING:
    import keras

GRAFTABLE = ("logreg", "svm", "ridge", "dense")
HEAD = "featx_head"
_FEATURES = "featx_features"
_FLAT = "featx_flat"


def graft(bundle: Bundle, downscale: int = 1) -> keras.Model:
    """Backbone and head of a bundle as one Keras model.

    Takes float32 (n, height, width, 3), RGB in [0, 255]; gives logits (n, classes), the temperature applied: their
    softmax, or sigmoid of several labels, is the bundle's confidence, but for the curves of `--calibrate`.

    downscale : above 1 it takes images that are so many times as high and wide; see `featx.finetune.downscaling`

    Raises
    ------
    BundleError
        When the head is not a network: an SVM with a radial kernel, or nearest neighbours.
    """
    require_graftable(bundle)
    return graft_onto(load_backbone(bundle, downscale), bundle)


def graft_onto(backbone: keras.Model, bundle: Bundle) -> keras.Model:
    """What `graft` gives, made of the layers of the bundle's backbone, which `load_backbone` has loaded."""
    keras = import_keras()
    names = bundle.manifest.output_names
    outputs = backbone.output if isinstance(backbone.output, dict) else {names[0]: backbone.output}
    flat = [keras.layers.Flatten(name=f"{_FLAT}_{i}")(outputs[name]) for i, name in enumerate(names)]
    features = flat[0] if len(flat) == 1 else keras.layers.Concatenate(name=_FEATURES)(flat)
    return keras.Model(backbone.inputs[0], graft_head(bundle, features))


def graft_head(bundle: Bundle, features: keras.KerasTensor) -> keras.KerasTensor:
    """Logits (n, classes), the temperature applied, of features (n, d): the head behind its transform."""
    keras, features = import_keras(), _graft_transform(bundle, features)
    if bundle.manifest.head.kind == "linear":
        kernel, bias = persist.load_dense(bundle.path / "head.npz")
        dense = keras.layers.Dense(kernel.shape[1], name=HEAD, dtype="float32")
        logits = dense(features)
        dense.set_weights([kernel, bias])
        return logits
    head = persist.load_network(bundle.path / "head.keras")
    head.name = HEAD
    return keras.layers.Rescaling(1 / bundle.temperature, name="featx_temperature")(head(features))


def load_backbone(bundle: Bundle, downscale: int = 1) -> keras.Model:
    """The backbone of a bundle, which may get a learnable down-scaling in front."""
    backbone: keras.Model = persist.load_network(bundle.path / "backbone.keras")
    return backbone if downscale == 1 else prepend_downscale(backbone, downscale)


def require_graftable(bundle: Bundle) -> None:
    """Refuse a bundle that `graft` cannot take, before anything is computed."""
    if not bundle.trainable:
        raise BundleError(
            f"{bundle.shown} was fitted on a graph file, whose network cannot be trained. Fit a head on a network of "
            "'featx backbones' or on a .keras file, and fine-tune that."
        )
    if not is_graftable(bundle):
        raise BundleError(
            f"{bundle.shown} has a head ({bundle.manifest.head.clf}) that is not a network and cannot be trained end "
            f"to end. Heads that can: {', '.join(GRAFTABLE)}. Name one with --from, or add --regraft to start from "
            "logistic regression on the same features."
        )


def is_graftable(bundle: Bundle) -> bool:
    """Whether the head of a bundle is a network, or linear and so a layer of one."""
    return bundle.manifest.head.kind in {"linear", "network"}


def _graft_transform(bundle: Bundle, features: keras.KerasTensor) -> keras.KerasTensor:
    """Return features (n, d) behind the transform of a bundle's head, whose layers do not train."""
    layers = import_keras().layers
    if bundle.transform.unit:
        features = layers.UnitNormalization(axis=-1, name="featx_unit")(features)
    mean, components = bundle.transform.mean, bundle.transform.components
    if mean is None or components is None:
        return features
    projection = layers.Dense(len(components), name="featx_components", dtype="float32")
    features = projection(features)
    projection.set_weights([components.T, -(components @ mean)])
    return features


def feature_tensor(model: keras.Model) -> keras.KerasTensor:
    """The tensor of a grafted model, or of its upper half, that is the features (n, d), before the head's transform."""
    names = {layer.name for layer in model.layers}
    last, tensor = _FEATURES if _FEATURES in names else f"{_FLAT}_0", model.outputs[0]
    while (made := tensor._keras_history).operation.name != last:  # `layer.output` may be another model's tensor
        tensor = made.operation._inbound_nodes[made.node_index].input_tensors[0]
    return tensor
