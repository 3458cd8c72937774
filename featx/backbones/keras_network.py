"""Keras networks (`keras.applications`, featx's own, `.keras` files) with the interface of `backbones.protocol`.

A cut network is one flat Keras graph of built-in layers: preprocessing, the backbone up to the deepest layer, and one
pooling per output. Nothing behind the deepest layer is in it, so nothing behind it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from featx.backbones import modelfile
from featx.backbones.architecture import digest_architecture
from featx.backbones.build import build, construct
from featx.backbones.hub.folder import is_hub_folder, read_folder
from featx.backbones.layers import describe_layers, describe_top
from featx.backbones.output import Output, did_you_mean_layer
from featx.backbones.pooling import pool
from featx.backbones.preprocessing import Formula, Preprocessing, named_preprocessing
from featx.backbones.protocol import LayerInfo, NetworkDigest, Sizes
from featx.backbones.runtime import KerasLayer, KerasModel, KerasTensor, import_keras
from featx.backbones.spec import BackboneSpec
from featx.backbones.values import read_values
from featx.backbones.weights import digest_weights
from featx.errors import BackboneError

_Files = tuple[tuple[int, int, int], ...]


class KerasNetwork:
    """A network that Keras builds. See `featx.backbones.protocol.BackboneNetwork`."""

    trainable = True

    def __init__(self, spec: BackboneSpec) -> None:
        self.spec = spec
        # What was built to be digested, by whether it has its top and by its files, is what `cut` needs next; and what
        # was constructed to be listed is what gets the weights then.
        self._built: dict[tuple[bool, _Files], KerasModel] = {}
        self._constructed: dict[tuple[bool, _Files], KerasModel] = {}

    @property
    def sizes(self) -> Sizes:
        """What the table knows of it, or what its file fixes."""
        entry = self.spec.entry
        if entry is None:
            return Sizes(modelfile.input_size(Path(self.spec.name)))
        return Sizes((entry.input_size, entry.input_size), entry.minimum)

    @property
    def preprocessing(self) -> Preprocessing:
        """What it is given."""
        return read_values(self.spec.preprocessing, self.spec.input_size)

    @property
    def trained_with(self) -> Preprocessing | None:
        """What `keras.applications` gives it; a `.keras` file does not say."""
        entry = self.spec.entry
        return None if entry is None else named_preprocessing(entry.preprocessing, self.sizes.default)

    @property
    def default_layer(self) -> str:
        """The last layer in front of the classifier."""
        return self.spec.entry.layer if self.spec.entry else modelfile.default_layer(Path(self.spec.name))

    @property
    def top(self) -> tuple[str, ...]:
        """The layers that only the classification network has; a `.keras` file is one network, whole."""
        return self.spec.entry.top if self.spec.entry else ()

    def layers(self, top: bool = True) -> list[LayerInfo]:
        """Every layer of the network in its order, those of the classification top last, marked."""
        key = (False, self._files())
        model = self._built.get(key) or self._constructed.get(key)
        if model is None:
            model = construct(self.spec)
            self._constructed = {key: model}
        found = describe_layers(model)
        return [*found, *describe_top(self.spec)] if top else found

    def digest(self, outputs: Iterable[Output] = ()) -> NetworkDigest:
        """What each layer computes and where it takes its input from; and all variables."""
        top = self._needs_top(outputs)
        model = self._build(top)
        self._built = {(top, self._files()): model}
        return NetworkDigest(digest_architecture(model), digest_weights(model))

    def cut(self, outputs: Sequence[Output]) -> KerasModel:
        """A flat model of Keras' own layers, so that plain Keras reloads it.

        Called without `training=True`, dropout and batch normalisation are in inference mode.
        """
        top = self._needs_top(outputs)
        model = self._built.pop((top, self._files()), None) or self._build(top)
        return cut_model(model, self.spec, outputs)

    def find_faults(self, outputs: Iterable[Output]) -> dict[Output, BackboneError]:
        """Those of the outputs that `cut` would refuse, and why; the network is built without its weights."""
        asked = list(outputs)
        model, faults = construct(self.spec, self._needs_top(asked)), {}
        for output in asked:
            try:
                cut_model(model, self.spec, (output,))
            except BackboneError as error:
                faults[output] = error
        return faults

    def _build(self, top: bool) -> KerasModel:
        constructed = self._constructed.pop((top, self._files()), None)
        self._constructed = {}
        return build(self.spec, top, constructed)

    def _files(self) -> _Files:
        """The state of the files that it is built of, which may be written anew between two calls."""
        return tuple((status.st_mtime_ns, status.st_size, status.st_ino) for status in map(Path.stat, self._paths()))

    def _paths(self) -> list[Path]:
        return [Path(text) for text in (self.spec.name, self.spec.weights) if Path(text).is_absolute()]

    def _needs_top(self, outputs: Iterable[Output]) -> bool:
        return any(output.layer in self.top for output in outputs)


def cut_model(model: KerasModel, spec: BackboneSpec, outputs: Sequence[Output]) -> KerasModel:
    """A built model, preprocessing in front of it, cut at the outputs; the layers are shared with it."""
    keras = import_keras()
    names = list(dict.fromkeys(output.layer for output in outputs))
    maps = [_find_layer(model, spec, name).output for name in names]
    for name, map_ in zip(names, maps, strict=True):
        if isinstance(map_, list | tuple | dict):
            raise BackboneError(f"Layer {name!r} of {spec.label} has several outputs; featx needs a layer with one.")
    inputs = keras.Input((*spec.input_size, 3), name="image")
    image = preprocess(inputs, read_values(spec.preprocessing, spec.input_size).formula)

    def call(layer: KerasLayer, *args: KerasTensor, **kwargs: object) -> KerasTensor:
        return layer(*keras.tree.map_structure(lambda tensor: image if tensor is inputs else tensor, args), **kwargs)

    # the same layers, called one by one on the preprocessed image: a flat network, no model inside a model
    part = keras.Model(model.inputs[0], maps)
    flat = keras.models.clone_model(part, input_tensors=inputs, clone_function=lambda layer: layer, call_function=call)
    by_layer = dict(zip(names, flat.outputs, strict=True))
    prefix = {name: _count_prefix(spec, tensor) for name, tensor in by_layer.items()}
    return keras.Model(
        inputs, {output.name: pool(by_layer[output.layer], output, prefix[output.layer]) for output in outputs}
    )


def _count_prefix(spec: BackboneSpec, tensor: KerasTensor) -> int | None:
    """The tokens in front of those of the patches, as given or as read from a folder; None if unknown."""
    if spec.prefix_tokens is not None or len(tensor.shape) != 3 or not is_hub_folder(Path(spec.name)):
        return spec.prefix_tokens
    return read_folder(Path(spec.name)).count_prefix(int(tensor.shape[1]), spec.input_size)


def _find_layer(model: KerasModel, spec: BackboneSpec, name: str) -> KerasLayer:
    names = [layer.name for layer in model.layers]
    if name not in names:
        known = [*names, *(spec.entry.top if spec.entry else ())]
        raise BackboneError(
            f"No layer {name!r} in {spec.label}.{did_you_mean_layer(name, known)} "
            f"'featx layers {spec.label}' lists them."
        )
    return model.layers[names.index(name)]


def preprocess(images: KerasTensor, formula: Formula) -> KerasTensor:
    """RGB in [0, 255] as the network was trained to see it."""
    if formula == Formula():
        return images
    keras = import_keras()
    pixels = keras.ops.flip(images, axis=-1) if formula.bgr else images
    scale, offset = (list(one) if isinstance(one, tuple) else one for one in (formula.scale, formula.offset))
    return keras.layers.Rescaling(scale, offset=offset, name="featx_preprocessing")(pixels)
