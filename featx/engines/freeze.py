"""Freeze a Keras model: variables become constants, so that normalisation folds into convolutions."""

from __future__ import annotations

from dataclasses import dataclass

from featx.backbones.runtime import KerasModel, KerasTensor, TensorFlow

_COMPILED = "_XlaMustCompile"  # how a call is marked that XLA compiles
_INLINED = "_inlined"


@dataclass(frozen=True)
class Frozen:
    """A graph without variables.

    function : uint8 (n, height, width, 3) -> list of tensors
    outputs : output name -> name of its node in the graph; the function's results are in this order
    """

    function: TensorFlow  # a concrete function
    outputs: dict[str, str]


def freeze(model: KerasModel, batch_size: int | None = None, takes: str = "uint8") -> Frozen:
    """The model as a graph of constants, in inference mode.

    batch_size : None for any; takes : the type of what it is given
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    nodes = {name: f"output_{index}" for index, name in enumerate(model.output)}

    def run(images: KerasTensor) -> list[KerasTensor]:
        results = model(tf.cast(images, tf.float32), training=False)
        return [tf.identity(tf.cast(results[name], tf.float32), name=node) for name, node in nodes.items()]

    images = tf.TensorSpec((batch_size, *model.input_shape[1:]), takes, name="images")
    concrete = tf.function(run, input_signature=[images], autograph=False).get_concrete_function()
    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False)
    return Frozen(frozen, nodes)


def without_xla(frozen: Frozen) -> Frozen:
    """The same graph with the calls that Keras has XLA compile, such as grouped convolutions, inlined.

    Other runtimes know no such calls; TensorFlow itself needs them on a CPU.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = frozen.function
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    if not any(_COMPILED in node.attr for node in nodes):
        return frozen
    for inner in graph.library.function:
        inner.signature.name += _INLINED  # TensorFlow knows the function of the old name already, marked
    for marked in (*nodes, *graph.library.function):
        for attribute in (_COMPILED, "_noinline"):
            marked.attr.pop(attribute, None)
    for value in (value for node in nodes for value in node.attr.values() if value.HasField("func")):
        value.func.name += _INLINED
    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    names = [tensor.name for tensor in function.inputs], [tensor.name for tensor in function.outputs]
    taken, given = ([wrapped.graph.get_tensor_by_name(name) for name in some] for some in names)
    inlined = convert_variables_to_constants_v2(wrapped.prune(taken, given), lower_control_flow=False)
    return Frozen(inlined, frozen.outputs)
