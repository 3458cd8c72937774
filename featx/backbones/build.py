"""Build a Keras network: named, with its weights, with or without the classification top."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from featx.backbones import lite, modelfile, weights
from featx.backbones.calls import forget_calls
from featx.backbones.hub.folder import is_hub_folder
from featx.backbones.hub.opening import open_hub_backbone
from featx.backbones.names import give_stable_names
from featx.backbones.preprocessing import TORCH_STD
from featx.backbones.runtime import KerasLayer, KerasTensor, import_keras
from featx.backbones.spec import BackboneSpec
from featx.errors import BackboneError

if TYPE_CHECKING:
    import keras


def build(spec: BackboneSpec, top: bool = False, constructed: keras.Model | None = None) -> keras.Model:
    """The whole network with its weights, every layer under its stable name.

    Takes float32 (n, height, width, 3), already preprocessed. With `top` the classification layers are part of it.

    constructed : what `construct` gave for the same, which gets the weights; None to construct it

    Raises
    ------
    BackboneError
        Weights that cannot be had, do not fit, or leave a variable unassigned.
    """
    weights.require_weights_file(spec)  # a large network takes seconds to build
    network = construct(spec, top) if constructed is None else constructed
    weights.assign(network, spec, top)
    return network


def construct(spec: BackboneSpec, top: bool = False) -> keras.Model:
    """The network with random weights drawn from the seed; the state of every random generator is left as it was."""
    with _seeded(spec.weights_seed):
        if spec.entry is None:
            return open_hub_backbone(spec) if is_hub_folder(Path(spec.name)) else modelfile.open_backbone(spec)
        if spec.entry.family == "featx":
            return lite.build_lite(spec.name, spec.input_size, top)
        network = _construct_application(spec, top)
    return give_stable_names(network)


def _construct_application(spec: BackboneSpec, top: bool) -> keras.Model:
    applications = import_keras().applications
    arguments = {"classes": weights.count_classes(spec)} if top else {}
    try:
        network = getattr(applications, spec.name)(
            weights=None, include_top=top, input_shape=(*spec.input_size, 3), **arguments
        )
    except ValueError as error:
        raise BackboneError(f"{spec.name} cannot be built for {spec.input_size[0]} pixels a side: {error}") from error
    if spec.entry is not None and spec.entry.family == "efficientnet":
        network = _rescale_after_normalization(network, anew=spec.weights == "random")
    return network


def _rescale_after_normalization(network: keras.Model, *, anew: bool) -> keras.Model:
    """The graph that Keras builds for EfficientNetB0-B7 only when `weights == "imagenet"`.

    The published weights were trained with the input divided by the standard deviation, not by its root; Keras mends
    that with one more layer (https://github.com/tensorflow/tensorflow/issues/49930), which the same weights from a
    file need just as well.

    anew : of new layers, whose random weights are a second draw in every version of featx
    """
    keras = import_keras()
    scale = [std**-0.5 for std in TORCH_STD]

    def call(layer: KerasLayer, *args: KerasTensor, **kwargs: object) -> KerasTensor:
        result = layer(*args, **kwargs)
        return keras.layers.Rescaling(scale)(result) if isinstance(layer, keras.layers.Normalization) else result

    inputs = keras.Input(network.input_shape[1:], name="input_layer")
    if anew:
        return keras.models.clone_model(network, input_tensors=inputs, call_function=call)
    forget_calls(network)
    return keras.models.clone_model(
        network, input_tensors=inputs, clone_function=lambda layer: layer, call_function=call
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    # An initializer without a seed draws one from Python's generator, and from nothing else.
    import_keras()
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
