"""`.keras` files with layers of one's own: --import, and what happens without it; models that KerasHub saved."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_extraction import spoil
from test_graph_pipeline import write_colours

from featx.io.modules import named_modules

LAYERS = """
import keras

@keras.saving.register_keras_serializable()
class Square(keras.layers.Layer):
    def call(self, values):
        return values * values

class Shift(keras.layers.Layer):
    def __init__(self, by=0.0, **arguments):
        super().__init__(**arguments)
        self.by = by
    def call(self, values):
        return values + self.by
    def get_config(self):
        return super().get_config() | {"by": self.by}
"""
FIT = ("fit-head", "images", "--backbone", "net.keras", "--clf", "logreg", "--no-html", "--json")


def forget() -> None:
    """Know nothing of `my_layers`, as a new process: one has the layers from their first import on, as they were."""
    import keras

    sys.modules.pop("my_layers", None)
    importlib.invalidate_caches()
    named_modules().names.clear()
    known = keras.saving.get_custom_objects()
    for name in [name for name, one in known.items() if one.__module__ == "my_layers"]:
        del known[name]


def save_network(folder: Path) -> None:
    import keras

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        import my_layers  # type: ignore[import-not-found]
    image = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    start = keras.initializers.GlorotUniform(3)
    x = keras.layers.Conv2D(8, 3, activation="relu", kernel_initializer=start, name="conv")(x)
    x = my_layers.Square(name="square")(my_layers.Shift(0.5, name="shift")(x))
    keras.Model(image, x).save(folder / "net.keras")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(
        sys, "dont_write_bytecode", True
    )  # the module changes within the second that files are known by
    (tmp_path / "my_layers.py").write_text(LAYERS)
    save_network(tmp_path)
    forget()
    write_colours(tmp_path / "images")
    yield tmp_path
    forget()


def test_layers_of_ones_own_are_imported_when_asked_for(
    featx: Callable[..., Any], made: Path, tiny_backbone: Path
) -> None:
    refused = featx(*FIT, status=1)
    message = refused.stderr
    assert "layer of class Shift" in message
    assert "--import my_layers" in message
    missing = featx(*FIT, "--import", "my_layer", status=1).stderr
    assert "No module 'my_layer'" in missing

    def new(*arguments: object, **options: Any) -> Any:
        forget()
        return featx(*arguments, **options)

    listed = new("layers", "net.keras", "--import", "my_layers", "--json").json["layers"]
    assert "shift" in [one["name"] for one in listed]
    fitted = featx(*FIT, "--import", "my_layers", "--layer", "square", fresh=True).json  # as from a shell
    assert fitted["test"]["accuracy"] > 0.7
    manifest = json.loads((made / fitted["bundle"] / "bundle.json").read_text())
    assert manifest["backbone"]["imports"] == ["my_layers"]
    featx("bundle", "pack", fitted["bundle"], "--out", "model.featx")
    before = fitted["bundle"], manifest["key"]["architecture"]

    # damaged rows are computed again by a network that needs the module
    spoil(next((made / "cache").rglob("square@avg/*.h5")), [1])
    assert "Add --import my_layers" in new("cache", "verify", "--repair", status=1).stderr
    repaired = new("cache", "verify", "--repair", "--import", "my_layers").stderr
    assert "1 row computed again" in repaired

    # the code of a layer is a part of what its features depend on
    (made / "my_layers.py").write_text(LAYERS.replace("values * values", "values * values * values"))
    again = new(*FIT, "--import", "my_layers", "--layer", "square").json
    manifest = json.loads((made / again["bundle"] / "bundle.json").read_text())
    assert manifest["key"]["architecture"] != before[1]

    # nothing is imported from a bundle: it predicts without the module, and what needs it asks for it
    (made / "my_layers.py").write_text("raise SystemExit('imported unasked')")
    (made / "net.keras").unlink()
    shutil.rmtree(made / "cache")
    answers = new("predict", "images", "--model", "model.featx", "--json").json["predictions"]
    assert "my_layers" not in sys.modules
    assert np.mean([one["label"] == Path(one["path"]).parent.name for one in answers]) > 0.8
    asked = new("explain", "images/red/00.png", "--model", "model.featx", "--out", "maps", status=1)
    assert "--import my_layers" in asked.stderr
    (made / "my_layers.py").write_text(LAYERS)
    new("explain", "images/red/00.png", "--model", "model.featx", "--out", "maps", "--import", "my_layers")
    tuned = new("finetune", "images", "--from", "model.featx", "--epochs", "1", "--unfreeze", "conv",
                "--import", "my_layers", "--no-html", "--json").json  # fmt: skip
    assert tuned["val"]["accuracy"] >= 0


def test_a_module_that_cannot_be_imported_is_forgotten(
    featx: Callable[..., Any], made: Path, tiny_backbone: Path
) -> None:
    """Later networks of the same process do without it."""
    (made / "of_mine.py").write_text("raise RuntimeError('half written')")
    for name, reason in (("gone", "No module 'gone'"), ("of_mine", "RuntimeError: half written")):
        assert reason in featx("layers", "net.keras", "--import", name, status=1).stderr
        featx("layers", tiny_backbone)


@pytest.mark.parametrize("task", [False, True], ids=["backbone", "classifier"])
def test_a_model_that_keras_hub_saved_is_opened(tmp_path: Path, task: bool) -> None:
    keras_hub = pytest.importorskip("keras_hub")
    from hubs import make_network, normalize, run_network

    from featx.backbones import Output, list_layers, open_network, resolve
    from featx.config import FeaturesOptions

    network = make_network("resnet" if task else "dinov2", blocks=2)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 56, 56, 3), np.uint8)
    expected, options = run_network(network, pixels), {"preprocessing": "imagenet"}
    if task:
        std, mean = np.array([0.229, 0.224, 0.225]), np.array([0.485, 0.456, 0.406])
        converter = keras_hub.layers.ResNetImageConverter(
            image_size=(56, 56), scale=list(1 / 255 / std), offset=list(-mean / std)
        )
        preprocessor = keras_hub.models.ResNetImageClassifierPreprocessor(converter)
        classifier = keras_hub.models.ResNetImageClassifier(network, 3, preprocessor=preprocessor)
        classifier.save(tmp_path / "net.keras")
        options = {}
        assert normalize(pixels).shape == pixels.shape
    else:
        network.save(tmp_path / "net.keras")
    spec = resolve(FeaturesOptions(backbone=str(tmp_path / "net.keras"), input_size=56, **options))
    assert (spec.label, spec.preprocessing) == ("net", "torch")
    found = open_network(spec).cut([Output("output", "none")])(pixels.astype(np.float32), training=False)
    np.testing.assert_allclose(found["output@none"], expected, rtol=1e-4, atol=1e-4)
    if not task:
        assert "block2" in [one.name for one in list_layers(spec)]
