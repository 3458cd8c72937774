"""Where a network can be cut in two, and both halves run; test_networks.py cuts those of Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx.backbones import (
    Halves,
    Output,
    clean_cuts,
    list_layers,
    nearest_clean_cuts,
    open_network,
    resolve,
    split_network,
)
from featx.config import FeaturesOptions
from featx.errors import BackboneError


def check_halves(network: Any, halves: Halves, images: np.ndarray, known: Any = None) -> None:
    """Together they are the network, to the last bit, with its layers and weights, each on one side.

    known : what the network gives for the images, where somebody has computed it already
    """
    import keras

    crossing = np.asarray(halves.lower(images))
    expected, found = network(images) if known is None else known, halves.upper(crossing)
    keras.tree.assert_same_structure(expected, found)
    for one, other in zip(keras.tree.flatten(expected), keras.tree.flatten(found), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    names = [layer_names(half) for half in (halves.lower, halves.upper)]
    assert names[0] | names[1] == layer_names(network)
    mine = [{id(v) for v in half.variables} for half in (halves.lower, halves.upper)]
    assert not mine[0] & mine[1]
    assert mine[0] | mine[1] == {id(v) for v in network.variables}


def layer_names(network: Any) -> set[str]:
    """But inputs, and what stands for an output that crosses itself. A layer called twice on one side counts once."""
    import keras

    names = {layer.name for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)}
    return names - {"featx_identity"}


def noise(side: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (count, side, side, 3)).astype(np.float32)


def test_the_network_of_a_bundle_is_cut_behind_its_preprocessing() -> None:
    """Several outputs side by side: what is below one of them alone crosses too."""
    options = FeaturesOptions(backbone="VGG16", weights="random", input_size=32)
    network = open_network(resolve(options)).cut([Output("block2_pool", "max"), Output("block4_conv1", "avg")])
    names = clean_cuts(network)
    assert "featx_preprocessing" in names
    assert [name for name in names if name.startswith("block")] == [
        *("block1_conv1", "block1_conv2", "block1_pool", "block2_conv1", "block2_conv2", "block2_pool")
    ]
    for name in ("featx_preprocessing", "block2_pool"):
        check_halves(network, split_network(network, name), noise(32))
    with pytest.raises(BackboneError, match=r"cannot be cut at 'block3_pool'.*below and above: 'block2_pool'\.$"):
        split_network(network, "block3_pool")


# --- networks made for it ----------------------------------------------------------------------------------------


def small(body: Any, outputs: Any = lambda x: x) -> Any:
    """A network of `body` between a layer `first` and a layer `last`."""
    import keras

    inputs = keras.Input((8, 8, 3), name="pixels")
    x = body(keras.layers.Conv2D(4, 3, padding="same", name="first")(inputs))
    return keras.Model(inputs, outputs(keras.layers.Conv2D(2, 1, name="last")(x)))


def branches(x: Any) -> Any:
    from keras import layers

    left = layers.Conv2D(4, 3, padding="same", name="left")(x)
    right = layers.Conv2D(4, 1, name="right")(x)
    added = layers.Add(name="added")([left, right])
    return layers.Concatenate(name="joined")([layers.ReLU(name="upper")(added), added])


def test_layers_with_several_inputs_join_what_was_apart() -> None:
    network = small(branches)
    assert clean_cuts(network) == ["first", "added", "joined", "last"]
    for name in clean_cuts(network):
        check_halves(network, split_network(network, name), noise(8))
    with pytest.raises(BackboneError, match=r"at 'left'.*clean cuts, below and above: 'first', 'added'\."):
        split_network(network, "left")
    with pytest.raises(BackboneError, match=r"No layer 'aded'.*Did you mean 'added'\?.*are first, added, joined, last"):
        split_network(network, "aded")


def test_a_model_inside_the_model_is_one_layer() -> None:
    import keras

    def body(x: Any) -> Any:
        inner = keras.Input((8, 8, 4))
        block = keras.Model(inner, branches(inner), name="block")
        stack = keras.Sequential([keras.layers.Conv2D(4, 1), keras.layers.ReLU()], name="stack")
        return block(stack(block(x)[..., :4]))

    network = small(body)
    assert clean_cuts(network) == ["first", "last"]  # the block is on both sides of the stack
    check_halves(network, split_network(network, "first"), noise(8))

    inner = keras.Input((8, 8, 4))
    alone = small(keras.Model(inner, branches(inner), name="block"))
    assert clean_cuts(alone) == ["first", "block", "last"]
    check_halves(alone, split_network(alone, "block"), noise(8))

    outer = keras.Input((8, 8, 3))  # the network ends with a model inside it, whose calls Keras numbers otherwise
    ends = keras.Model(outer, alone(keras.layers.Rescaling(1 / 255, name="scale")(outer)))
    assert clean_cuts(ends) == ["scale", alone.name]
    check_halves(ends, split_network(ends, "scale"), noise(8))


def test_a_layer_with_weights_on_both_sides_forbids_a_cut_between() -> None:
    """Trained above the cut it would change what is below. One without weights may be anywhere."""
    from keras import layers

    shared, relu = layers.Conv2D(4, 1, name="shared"), layers.ReLU(name="relu")

    def body(x: Any) -> Any:
        x = layers.MaxPooling2D(name="between")(relu(shared(x)))
        return layers.BatchNormalization(name="after")(relu(shared(x)))

    network = small(body)
    assert clean_cuts(network) == ["first", "after", "last"]
    for name in clean_cuts(network):
        check_halves(network, split_network(network, name), noise(8))
    assert nearest_clean_cuts(network, "between") == ["first", "after"]


def test_a_layer_called_elsewhere_is_cut_in_this_network() -> None:
    import keras

    network = small(branches)
    other = keras.Input((4, 4, 3))
    network.get_layer("first")(other)  # a call that is not of this network
    again = keras.Model(other, network.get_layer("last")(branches(network.get_layer("first")(other))))
    assert clean_cuts(again) == ["first", "added", "joined", "last"]
    check_halves(again, split_network(again, "added"), noise(4))


def test_operations_between_layers_carry_paths_and_are_no_places_to_cut() -> None:
    network = small(lambda x: x * 2.0 + 1.0)
    assert clean_cuts(network) == ["first", "last"]
    around = small(lambda x: x + 2.0 * x)
    assert clean_cuts(around) == ["first", "last"]
    check_halves(around, split_network(around, "first"), noise(8))


def test_a_cut_at_an_output_leaves_it_above_too() -> None:
    import keras

    network = small(branches)
    again = keras.Model(network.inputs[0], {"low": network.get_layer("added").output, "high": network.output})
    assert clean_cuts(again) == ["first", "added"]
    check_halves(again, split_network(again, "added"), noise(8))


def test_outputs_keep_their_structure() -> None:
    from keras import layers

    network = small(branches, lambda x: {"map": x, "mean": layers.GlobalAveragePooling2D(name="mean")(x)})
    assert clean_cuts(network) == ["first", "added", "joined", "last"]
    check_halves(network, split_network(network, "joined"), noise(8))
    twice = small(branches, lambda x: [x, x])
    assert clean_cuts(twice) == ["first", "added", "joined", "last"]


def test_training_the_upper_half_trains_the_network() -> None:
    network = small(branches)
    halves = split_network(network, "added")
    before = {layer.name: [np.array(value) for value in layer.get_weights()] for layer in network.layers}
    halves.upper.compile("sgd", "mse", jit_compile=False)
    halves.upper.train_on_batch(np.ones((2, 8, 8, 4), np.float32), np.ones((2, 8, 8, 2), np.float32))
    moved = {
        layer.name
        for layer in network.layers
        if any(not np.array_equal(*pair) for pair in zip(layer.get_weights(), before[layer.name], strict=True))
    }
    assert moved == {"last"}
    check_halves(network, halves, noise(8))


def test_operations_are_not_listed_as_layers(tmp_path: Path) -> None:
    small(lambda x: x * 2.0).save(tmp_path / "doubled.keras")
    rows = list_layers(resolve(FeaturesOptions(backbone=str(tmp_path / "doubled.keras"))))
    assert [row.name for row in rows if row.clean_cut] == [row.name for row in rows]
    assert {"first", "last"} <= {row.name for row in rows}
    assert not [row for row in rows if row.parameters == 0 and row.kind != "InputLayer"]
