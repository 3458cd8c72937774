"""Backbone and head of a bundle as one Keras model, and which of its layers train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featx.backbones import import_keras
from featx.bundle import Bundle
from featx.errors import BundleError, UsageError
from featx.heads import persist

if TYPE_CHECKING:
    import keras

GRAFTABLE = ("logreg", "svm", "ridge", "dense")
HEAD = "featx_head"
_FEATURES = "featx_features"
_FLAT = "featx_flat"


def graft(bundle: Bundle) -> keras.Model:
    """Backbone and head of a bundle as one Keras model.

    Takes float32 (n, height, width, 3), RGB in [0, 255]; gives logits (n, classes), the temperature applied: their
    softmax is the bundle's confidence.

    Raises
    ------
    BundleError
        When the head is not a network: an SVM with a radial kernel, or nearest neighbours.
    """
    require_graftable(bundle)
    keras, kind = import_keras(), bundle.about["head"]["kind"]
    backbone = persist.load_network(bundle.path / "backbone.keras")
    outputs = backbone.output if isinstance(backbone.output, dict) else {bundle.about["outputs"][0]: backbone.output}
    names = bundle.about["outputs"]
    flat = [keras.layers.Flatten(name=f"{_FLAT}_{i}")(outputs[name]) for i, name in enumerate(names)]
    features = flat[0] if len(flat) == 1 else keras.layers.Concatenate(name=_FEATURES)(flat)
    features = _graft_front(keras, bundle, features)
    if kind == "linear":
        kernel, bias = persist.load_dense(bundle.path / "head.npz")
        dense = keras.layers.Dense(kernel.shape[1], name=HEAD, dtype="float32")
        logits = dense(features)
        dense.set_weights([kernel, bias])
    else:
        head = persist.load_network(bundle.path / "head.keras")
        head.name = HEAD
        logits = keras.layers.Rescaling(1 / bundle.temperature, name="featx_temperature")(head(features))
    return keras.Model(backbone.inputs[0], logits)


def require_graftable(bundle: Bundle) -> None:
    """Refuse a bundle that `graft` cannot take, before anything is computed."""
    if bundle.multilabel:
        raise BundleError(f"{bundle.path} gives several labels per image. Only heads of one class can be fine-tuned.")
    if bundle.about["head"]["kind"] not in {"linear", "network"}:
        raise BundleError(
            f"{bundle.path} has a head ({bundle.about['head']['clf']}) that is no network and cannot be trained end to "
            f"end. Heads that can: {', '.join(GRAFTABLE)}. Fit one: featx fit-head --clf logreg, then --from it."
        )


def _graft_front(keras: Any, bundle: Bundle, features: Any) -> Any:
    """The front of a bundle's head as layers, which do not train."""
    if bundle.front.unit:
        features = keras.layers.UnitNormalization(axis=-1, name="featx_unit")(features)
    mean, components = bundle.front.mean, bundle.front.components
    if mean is None or components is None:
        return features
    projection = keras.layers.Dense(len(components), name="featx_components", dtype="float32")
    features = projection(features)
    projection.set_weights([components.T, -(components @ mean)])
    return features


def feature_network(model: keras.Model) -> keras.Model:
    """The part of a grafted model that gives the features (n, d), as they are before the head and its front."""
    names = {layer.name for layer in model.layers}
    last = model.get_layer(_FEATURES if _FEATURES in names else f"{_FLAT}_0")
    return import_keras().Model(model.inputs, last.output)


def unfreeze(model: keras.Model, what: str, batch_norm: str = "frozen") -> int:
    """Set which layers train: the head always, of the backbone `what` says; returns how many weights arrays train.

    what : "all", "none", a layer's name (it and everything above), or a number of layers from the top
    batch_norm : "frozen" keeps batch normalisation in inference mode wherever it is

    Raises
    ------
    UsageError
        An unknown layer.
    """
    keras = import_keras()
    backbone = [layer for layer in model.layers if not layer.name.startswith("featx_")]
    first = _first_trained([layer.name for layer in backbone], what)
    for position, layer in enumerate(backbone):
        frozen_norm = batch_norm == "frozen" and isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = position >= first and not frozen_norm
    for layer in model.layers:
        if layer.name.startswith("featx_") and layer.name != HEAD:
            layer.trainable = False  # the matrices of grid pooling are no weights
    return len(model.trainable_variables)


def _first_trained(names: list[str], what: str) -> int:
    if what == "all":
        return 0
    if what == "none":
        return len(names)
    if what.lstrip("-").isdigit():
        count = int(what)
        return 0 if count < 0 else max(0, len(names) - count)
    if what in names:
        return names.index(what)
    import difflib

    near = difflib.get_close_matches(what, names, n=1)
    raise UsageError(
        f"No layer {what!r} in this backbone to unfreeze from."
        + (f" Did you mean {near[0]!r}?" if near else " Give all, none, a number of layers, or a name of featx layers.")
    )
