"""Parts of layer normalisations and GELUs of Keras as one operation: the same numbers, and every part is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino")

from featx.backbones import import_keras
from featx.backbones.libraries import import_openvino
from featx.engines.conversion import to_openvino
from featx.engines.fusing import fuse


def make(path: Path, last: str) -> np.ndarray:
    """Write a graph whose output is a norm, a GELU or neither; returns two images."""
    keras = import_keras()
    random = np.random.default_rng(0)
    inputs = keras.Input((4, 6))
    x = keras.layers.LayerNormalization(epsilon=1e-3, name="norm1")(inputs)
    x = keras.layers.Activation("gelu", name="gelu")(keras.layers.Dense(8)(x))
    x = keras.layers.LayerNormalization(epsilon=1e-6, center=False, name="norm2")(x)
    if last == "gelu":
        x = keras.layers.Activation("gelu")(x)
    elif last == "other":  # not of the kind: another factor, an approximation, a norm without gamma
        x = keras.layers.Activation(lambda value: 0.5 * value * (1 - keras.ops.erf(-value)))(x)
        x = keras.layers.Activation(lambda value: keras.activations.gelu(value, approximate=True))(x)
        x = keras.layers.LayerNormalization(scale=False)(x)
    model = keras.Model(inputs, {"tokens": x})
    for variable in model.variables:
        variable.assign(variable + random.normal(0, 0.3, variable.shape))
    import_openvino().save_model(to_openvino(model, "float32")[0], str(path), compress_to_fp16=False)
    return random.normal(1, 2, (2, 4, 6)).astype(np.float32)


@pytest.mark.parametrize(("last", "count"), [("norm", 3), ("gelu", 4), ("other", 3)])
def test_the_same_numbers_and_names(tmp_path: Path, last: str, count: int) -> None:
    given = make(tmp_path / "net.xml", last)
    core = import_openvino().Core()
    before, after = (core.read_model(str(tmp_path / "net.xml")) for _ in range(2))
    assert fuse(after) == count
    kinds = [node.get_type_name() for node in after.get_ordered_ops()]
    assert (kinds.count("MVN"), kinds.count("Gelu") - (last == "other")) == (2, count - 2)
    assert before.outputs[0].get_names() == after.outputs[0].get_names()
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    found, expected = (next(iter(core.compile_model(one, "CPU", config)(given).values())) for one in (after, before))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert fuse(after) == 0
