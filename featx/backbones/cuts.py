"""Where a network can be cut in two, and the two parts.

A layer is a clean cut when one tensor crosses there: all that the layers above take from below is this layer's output.
Both parts then do together what the network does, and the upper one can be trained alone on outputs of the lower one.
What depends on the shape of an image alone, such as rotary positions, is the same for all of them: it does not cross.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter

from featx.backbones.runtime import KerasConfig, KerasLayer, KerasModel, KerasTensor, import_keras
from featx.errors import BackboneError
from featx.io.suggest import did_you_mean

_OFFERED = 8  # clean cuts that an error names
_OF_SHAPE_ALONE = frozenset({"DINOV3RopePositionEmbedding"})  # classes of layers without weights
_Call = tuple[str, int]  # a layer's name, and which of its calls in this network


class LayerGraph:
    """Which call of which layer takes the result of which, in a functional network with one call or several per layer.

    names : the layers, and operations between them, in the network's order
    layers : the same as objects; a model inside the network counts as one layer
    """

    def __init__(self, network: KerasModel) -> None:
        config = network.get_config()
        self.layers = list(network.operations)
        self.names = [layer.name for layer in self.layers]
        self._position = {name: i for i, name in enumerate(self.names)}
        needs: dict[_Call, set[_Call]] = {}
        for layer in config["layers"]:
            for number, arguments in enumerate(layer["inbound_nodes"] or [None]):  # an input takes nothing
                needs[layer["name"], number] = set(_tensors(arguments))
        order = list(TopologicalSorter(needs).static_order())
        place = {call: i for i, call in enumerate(order)}
        self._layer_of = [self._position[name] for name, _ in order]
        self._below = [
            []
            if _depends_on_shape_alone(self.layers[self._position[call[0]]])
            else sorted(place[other] for other in needs[call])
            for call in order
        ]
        self._inputs = {place[call] for call in self._ends(network, config["input_layers"])}
        self._outputs = {place[call] for call in self._ends(network, config["output_layers"])}

    @cached_property
    def takes(self) -> list[set[int]]:
        """For each layer the layers whose results it takes, by position."""
        found: list[set[int]] = [set() for _ in self.names]
        for call, below in enumerate(self._below):
            found[self._layer_of[call]] |= {self._layer_of[other] for other in below}
        return found

    @cached_property
    def ancestors(self) -> list[int]:
        """For each layer the set of layers it needs, itself among them, as bits of a number."""
        found = [0] * len(self.names)
        needed: list[int] = []  # layers by call
        for call, below in enumerate(self._below):
            bits = 1 << self._layer_of[call]
            for other in below:
                bits |= needed[other]
            needed.append(bits)
            found[self._layer_of[call]] |= bits
        return found

    @cached_property
    def clean(self) -> list[bool]:
        """Whether the network can be cut at each layer.

        Every path from the inputs to the outputs passes through its one call, that call gives one tensor, and no
        weights are used on both sides: trained above, they would change what is below.
        """
        on_all_paths = self._calls_on_all_paths()
        shared = self._calls_that_share_weights()
        found = [False] * len(self.names)
        for call in on_all_paths:
            layer, below = self._layer_of[call], self._needed_calls[call]
            once = self._layer_of.count(layer) == 1
            apart = all(calls & below in (0, calls) for calls in shared)
            found[layer] = once and apart and not isinstance(self.layers[layer].output, list | tuple | dict)
        return found

    @cached_property
    def branches(self) -> list[bool]:
        """Whether several calls take what each layer gives."""
        takers = [0] * len(self._below)
        for below in self._below:
            for call in below:
                takers[call] += 1
        found = [False] * len(self.names)
        for call, count in enumerate(takers):
            found[self._layer_of[call]] |= count > 1
        return found

    @cached_property
    def _needed_calls(self) -> list[int]:
        """For each call the calls that it needs, itself among them, as bits."""
        sets: list[int] = []
        for i, below in enumerate(self._below):
            bits = 1 << i
            for j in below:
                bits |= sets[j]
            sets.append(bits)
        return sets

    def _calls_on_all_paths(self) -> list[int]:
        """The calls through which as many paths lead from inputs to outputs as there are."""
        count = len(self._below)
        down = [int(i in self._inputs) for i in range(count)]  # paths from the inputs to here
        for i, below in enumerate(self._below):
            down[i] += sum(down[j] for j in below)
        up = [int(i in self._outputs) for i in range(count)]  # paths from here to the outputs
        for i in reversed(range(count)):
            for j in self._below[i]:
                up[j] += up[i]
        total = sum(down[i] for i in self._outputs)
        return [i for i in range(count) if down[i] * up[i] == total]

    def _calls_that_share_weights(self) -> list[int]:
        """Sets of calls, as bits, that use one variable; those of a single call are left out."""
        users: dict[int, int] = {}
        for call, layer in enumerate(self._layer_of):
            for variable in getattr(self.layers[layer], "weights", ()):
                users[id(variable)] = users.get(id(variable), 0) | 1 << call
        return list({calls for calls in users.values() if calls.bit_count() > 1})

    def _ends(self, network: KerasModel, value: KerasConfig) -> list[_Call]:
        """The calls of `[name, call, tensor]`, or of a list or dict of such."""
        if isinstance(value, dict):
            return [call for item in value.values() for call in self._ends(network, item)]
        if value and isinstance(value[0], str):
            # Keras numbers the calls of a model inside a model from 1, here and nowhere else
            nested = isinstance(self.layers[self._position[value[0]]], type(network))
            return [(value[0], value[1] - nested)]
        return [call for item in value for call in self._ends(network, item)]


def _tensors(value: object) -> Iterator[_Call]:
    """The calls whose tensors occur in the serialised arguments of a call."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            name, number, _ = value["config"]["keras_history"]
            yield name, number
        else:
            for item in value.values():
                yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _depends_on_shape_alone(layer: KerasLayer) -> bool:
    return type(layer).__name__ in _OF_SHAPE_ALONE


def clean_cuts(network: KerasModel) -> list[str]:
    """The layers that the network can be cut at, in its order, the lowest first; its inputs are none."""
    keras, graph = import_keras(), LayerGraph(network)
    return [
        layer.name
        for layer, clean in zip(graph.layers, graph.clean, strict=True)
        if clean and isinstance(layer, keras.Layer) and not isinstance(layer, keras.layers.InputLayer)
    ]


def nearest_clean_cuts(network: KerasModel, layer: str, cuts: Sequence[str] | None = None) -> list[str]:
    """The nearest of the clean cuts (or of some, in their order) below and above `layer`; itself where it is one."""
    cuts = clean_cuts(network) if cuts is None else cuts
    if layer in cuts:
        return [layer]
    # The order goes by the distance to the outputs: what a clean cut needs comes before it, and all that needs it after
    place = {one.name: i for i, one in enumerate(network.operations)}
    below = [name for name in cuts if place[name] < place[layer]]
    above = [name for name in cuts if place[name] > place[layer]]
    return [*below[-1:], *above[:1]]


@dataclass(frozen=True)
class Halves:
    """A network cut in two: `upper(lower(x))` is what the network gives for x.

    lower : from the network's inputs to the layer
    upper : from the layer's output to the network's outputs, in the network's structure of outputs; where the layer
        gives an output itself, `featx_identity` is in its place
    """

    lower: KerasModel
    upper: KerasModel


def split_network(network: KerasModel, layer: str, cuts: Sequence[str] | None = None) -> Halves:
    """Cut a functional network at a layer.

    Both halves are made of the network's own layers: who trains the upper one trains the network.

    cuts : the clean cuts, where they are known

    Raises
    ------
    BackboneError
        No such layer, or one at which more than one tensor crosses: the nearest clean cuts are named.
    """
    keras = import_keras()
    require_clean_cut(network, layer, cuts)
    again, tensor = _call_again(network, layer)
    lower = keras.Model(again.input, tensor)
    if any(map(_depends_on_shape_alone, network.layers)):
        again, tensor = _call_again(network, layer, constants=True)

    def beyond(output: KerasTensor) -> KerasTensor:
        # Keras refuses a model whose output is its input
        return keras.layers.Identity(name="featx_identity")(output) if output is tensor else output

    return Halves(lower, keras.Model(tensor, keras.tree.map_structure(beyond, again.output)))


def _call_again(network: KerasModel, layer: str, constants: bool = False) -> tuple[KerasModel, KerasTensor]:
    """The same layers called once more, and what one of them gives there.

    `layer.output` may be the tensor of another network that has the layer too.

    constants : put what depends on the shape alone into the network as numbers
    """
    keras, crossing = import_keras(), []

    def call(one: KerasLayer, *args: KerasTensor, **kwargs: object) -> KerasTensor:
        if constants and _depends_on_shape_alone(one):
            return one(*keras.tree.map_structure(lambda tensor: keras.ops.zeros((1, *tensor.shape[1:])), args))
        result = one(*args, **kwargs)
        if one.name == layer:
            crossing.append(result)
        return result

    again = keras.models.clone_model(network, clone_function=lambda one: one, call_function=call)
    return again, crossing[0]


def require_clean_cut(network: KerasModel, layer: str, cuts: Sequence[str] | None = None) -> None:
    """Refuse a layer that is not a clean cut (or none of some of them), and name those that are near.

    Raises
    ------
    BackboneError
        No such layer, or more than one tensor crosses there.
    """
    cuts = clean_cuts(network) if cuts is None else cuts
    if layer in cuts:
        return
    if layer not in {one.name for one in network.operations}:
        offer = f"Its last clean cuts are {', '.join(cuts[-_OFFERED:])}." if cuts else "It has no clean cut."
        raise BackboneError(f"No layer {layer!r} in this network.{did_you_mean(layer, cuts, most=3)} {offer}")
    near = [repr(one) for one in nearest_clean_cuts(network, layer, cuts)]
    offer = f"The nearest clean cuts, below and above: {', '.join(near)}." if near else "It has no clean cut."
    raise BackboneError(f"The network cannot be cut at {layer!r}: more than one tensor passes it. {offer}")
