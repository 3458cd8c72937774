"""The network itself: built, named, given its weights, and cut at the layers that were asked for.

A cut network is one flat Keras graph of built-in layers: preprocessing, the backbone up to the deepest layer, and one
pooling per output. Nothing behind the deepest layer is in it, so nothing behind it runs.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from featx.backbones import lite0, modelfile, weights
from featx.backbones.names import give_stable_names
from featx.backbones.preprocessing import FORMULAS, TORCH_STD, Formula
from featx.backbones.runtime import import_keras
from featx.backbones.spec import BackboneSpec, Output
from featx.errors import BackboneError
from featx.io.suggest import did_you_mean

if TYPE_CHECKING:
    import keras


def build(spec: BackboneSpec, top: bool = False) -> keras.Model:
    """The whole network with its weights, every layer under its stable name.

    Takes float32 (n, height, width, 3), already preprocessed. With `top` the classification layers are part of it.

    Raises
    ------
    BackboneError
        Weights that cannot be had, do not fit, or leave a variable unassigned.
    """
    network = construct(spec, top)
    weights.assign(network, spec, top)
    return network


# At most one network: what `identify` built is what `cut` needs next.
_spare: dict[tuple[BackboneSpec, bool], Any] = {}


def keep_for_cut(spec: BackboneSpec, top: bool, network: keras.Model) -> None:
    """Hand a network that nobody will change to the `cut` that follows, which then need not build it again."""
    _spare.clear()
    _spare[spec, top] = network


def construct(spec: BackboneSpec, top: bool = False) -> keras.Model:
    """The network with random weights drawn from the seed; the state of every random generator is left as it was."""
    with _seeded(spec.weights_seed):
        if spec.entry is None:
            return modelfile.open_backbone(spec)
        if spec.entry.family == "featx":
            return lite0.build_lite0(spec.input_size, top)
        network = _construct_application(spec, top)
    return give_stable_names(network)


def _construct_application(spec: BackboneSpec, top: bool) -> keras.Model:
    applications = import_keras().applications
    arguments: dict[str, Any] = {"classes": weights.count_classes(spec)} if top else {}
    try:
        network = getattr(applications, spec.name)(
            weights=None, include_top=top, input_shape=(*spec.input_size, 3), **arguments
        )
    except ValueError as error:
        raise BackboneError(f"{spec.name} cannot be built for {spec.input_size[0]} pixels a side: {error}") from error
    if spec.entry is not None and spec.entry.family == "efficientnet":
        network = _rescale_after_normalization(network)
    return network


def _rescale_after_normalization(network: keras.Model) -> keras.Model:
    """The graph that Keras builds for EfficientNetB0-B7 only when `weights == "imagenet"`.

    The published weights were trained with the input divided by the standard deviation, not by its root; Keras mends
    that with one more layer (https://github.com/tensorflow/tensorflow/issues/49930), which the same weights from a
    file need just as well.
    """
    keras = import_keras()
    scale = [std**-0.5 for std in TORCH_STD]

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        result = layer(*args, **kwargs)
        return keras.layers.Rescaling(scale)(result) if isinstance(layer, keras.layers.Normalization) else result

    inputs = keras.Input(network.input_shape[1:], name="input_layer")
    return keras.models.clone_model(network, input_tensors=inputs, call_function=call)


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


# --- cutting -----------------------------------------------------------------------------------------------------


def needs_top(spec: BackboneSpec, outputs: Iterable[Output]) -> bool:
    """Whether a layer asked for belongs to the classification top."""
    return spec.entry is not None and any(output.layer in spec.entry.top for output in outputs)


def cut(spec: BackboneSpec, outputs: Sequence[Output]) -> keras.Model:
    """Preprocessing, the network up to the deepest layer asked for, and the poolings, as one model.

    Takes float32 (n, height, width, 3), RGB in [0, 255]; gives {output.name: float32 (n, ...)}: (n, features) for
    avg, max, grid:N and flatten, the map as it is for none. Made of Keras' own layers, so that plain Keras reloads it.
    Called without `training=True`, dropout and batch normalisation are in inference mode.

    Raises
    ------
    BackboneError
        An unknown layer, a pooling that the layer's output does not have, or what `build` raises.
    """
    top = needs_top(spec, outputs)
    network = _spare.pop((spec, top), None) or build(spec, top)
    return cut_network(network, spec, outputs)


def cut_network(network: keras.Model, spec: BackboneSpec, outputs: Sequence[Output]) -> keras.Model:
    """`cut` of a network that is built already; the layers are shared with it."""
    keras = import_keras()
    names = list(dict.fromkeys(output.layer for output in outputs))
    maps = [_find_layer(network, spec, name).output for name in names]
    for name, map_ in zip(names, maps, strict=True):
        if isinstance(map_, list | tuple | dict):
            raise BackboneError(f"Layer {name!r} of {spec.label} has several outputs; featx takes layers with one.")
    inputs = keras.Input((*spec.input_size, 3), name="image")
    image = preprocess(inputs, spec.preprocessing)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return layer(*keras.tree.map_structure(lambda tensor: image if tensor is inputs else tensor, args), **kwargs)

    # the same layers, called one by one on the preprocessed image: a flat network, no model inside a model
    part = keras.Model(network.inputs[0], maps)
    flat = keras.models.clone_model(part, input_tensors=inputs, clone_function=lambda layer: layer, call_function=call)
    by_layer = dict(zip(names, flat.outputs, strict=True))
    return keras.Model(inputs, {output.name: pool(by_layer[output.layer], output) for output in outputs})


def _find_layer(network: keras.Model, spec: BackboneSpec, name: str) -> Any:
    names = [layer.name for layer in network.layers]
    if name not in names:
        known = [*names, *(spec.entry.top if spec.entry else ())]
        raise BackboneError(
            f"No layer {name!r} in {spec.label}.{did_you_mean(name, known, most=3)} "
            f"'featx layers {spec.label}' lists them."
        )
    return network.layers[names.index(name)]


def preprocess(images: Any, preprocessing: str) -> Any:
    """RGB in [0, 255] as the network was trained to see it; the formulas of keras.applications."""
    formula = FORMULAS[preprocessing]
    if formula == Formula():
        return images
    keras = import_keras()
    pixels = keras.ops.flip(images, axis=-1) if formula.bgr else images
    scale, offset = (list(one) if isinstance(one, tuple) else one for one in (formula.scale, formula.offset))
    return keras.layers.Rescaling(scale, offset=offset, name="featx_preprocessing")(pixels)


# --- pooling -----------------------------------------------------------------------------------------------------


def pool(tensor: Any, output: Output) -> Any:
    """A map as numbers.

    tensor : (n, height, width, channels), or (n, steps, channels), or (n, features), which avg and max leave alone
    """
    layers = import_keras().layers
    name = f"featx_{output.layer}_{output.pooling.replace(':', '')}"
    if output.pooling == "none":
        return tensor
    if output.pooling == "flatten":
        return layers.Flatten(name=name)(tensor)
    if output.pooling.startswith("grid:"):
        return _pool_grid(tensor, int(output.pooling[5:]), output, name)
    table = {
        (4, "avg"): layers.GlobalAveragePooling2D,
        (4, "max"): layers.GlobalMaxPooling2D,
        (3, "avg"): layers.GlobalAveragePooling1D,
        (3, "max"): layers.GlobalMaxPooling1D,
    }
    rank = len(tensor.shape)
    if rank == 2:
        return tensor
    if (rank, output.pooling) not in table:
        raise BackboneError(f"{output.name}: the layer gives {tensor.shape[1:]}. Take it with flatten or none.")
    return table[rank, output.pooling](name=name)(tensor)


def _pool_grid(tensor: Any, side: int, output: Output, name: str) -> Any:
    """The average over each cell of a grid, flattened: bins from floor(i h / N) to ceil((i + 1) h / N)."""
    layers = import_keras().layers
    if len(tensor.shape) != 4:
        raise BackboneError(f"{output.name}: a grid needs a map; the layer gives {tensor.shape[1:]}. Take avg.")
    height, width = tensor.shape[1:3]
    if side > min(height, width):
        raise BackboneError(
            f"{output.name}: the map is {height} x {width}, too small for a grid of {side} x {side}. Choose grid:"
            f"{min(height, width)} or less, an earlier layer, or larger images."
        )
    if height % side == 0 and width % side == 0:
        cells = layers.AveragePooling2D((height // side, width // side), name=f"{name}_cells")(tensor)
    else:
        rows = _bins(tensor, "bhwc,hg->bgwc", side, 1, f"{name}_rows")
        cells = _bins(rows, "bhwc,wg->bhgc", side, 2, f"{name}_columns")
    return layers.Flatten(name=name)(cells)


def _bins(tensor: Any, equation: str, count: int, axis: int, name: str) -> Any:
    """Average the places along one axis into `count` bins, by a fixed matrix."""
    import numpy as np

    length = tensor.shape[axis]
    matrix = np.zeros((length, count), np.float32)
    for i in range(count):
        start, stop = i * length // count, -(-(i + 1) * length // count)
        matrix[start:stop, i] = 1 / (stop - start)
    shape = [count if i == axis else side for i, side in enumerate(tensor.shape)][1:]
    layer = import_keras().layers.EinsumDense(equation, shape, kernel_initializer="zeros", trainable=False, name=name)
    binned = layer(tensor)
    layer.set_weights([matrix])
    return binned
