"""Freeze a Keras model: variables become constants, so that normalisation folds into convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from featx.backbones.runtime import KerasModel, KerasTensor, TensorFlow, import_keras

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


def freeze_for_others(model: KerasModel, takes: str = "uint8") -> Frozen:
    """The model as a graph of constants for other runtimes than TensorFlow, which know no calls that XLA compiles."""
    with _calls_inlined():
        frozen = freeze(model, takes=takes)
    return without_xla(frozen)


@contextmanager
def _calls_inlined() -> Iterator[None]:
    """What is traced has the operations of the functions that it calls: to inline them later takes ten times as long.

    Within the tracing of another function, a function that is "run eagerly" adds what it does to the graph of that one.
    """
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def freeze(model: KerasModel, batch_size: int | None = None, takes: str = "uint8") -> Frozen:
    """The model as a graph of constants, in inference mode.

    batch_size : None for any; takes : the type of what it is given
    """
    import tensorflow as tf

    keras, variables = import_keras(), model.variables
    nodes = {name: f"output_{index}" for index, name in enumerate(model.output)}
    values = [np.asarray(variable) for variable in variables]

    def run(images: KerasTensor) -> list[KerasTensor]:
        # traced with constants from the start: replacing variables later takes longer than tracing
        constants = list(zip(variables, map(tf.constant, values), strict=True))
        with keras.StatelessScope(state_mapping=constants):
            results = model(tf.cast(images, tf.float32), training=False)
        return [tf.identity(tf.cast(results[name], tf.float32), name=node) for name, node in nodes.items()]

    images = tf.TensorSpec((batch_size, *model.input_shape[1:]), takes, name="images")
    traced = tf.function(run, input_signature=[images], autograph=False).get_concrete_function()
    return Frozen(traced if _is_whole(traced) else _replace_variables(traced), nodes)


def _is_whole(traced: TensorFlow) -> bool:
    """Whether a function takes nothing from outside, as the statistics of a `Normalization`, and calls no other."""
    return not traced.captured_inputs and all("PartitionedCall" not in op.type for op in traced.graph.get_operations())


def _replace_variables(function: TensorFlow) -> TensorFlow:
    """The same function with what it takes from outside as constants, and what it calls inlined."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(function, lower_control_flow=False)


def without_xla(frozen: Frozen) -> Frozen:
    """The same graph with the calls that Keras has XLA compile, such as grouped convolutions, inlined.

    Other runtimes know no such calls; TensorFlow itself needs them on a CPU.
    """
    import tensorflow as tf

    function = frozen.function
    if _is_whole(function):
        return frozen
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
    return Frozen(_replace_variables(wrapped.prune(taken, given)), frozen.outputs)
