"""KerasHub's networks against KerasHub: every block and pooling, sizes, folders, and through the whole pipeline."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras_hub")

from conftest import environment
from hubs import SIDE, VALUES, run_blocks, run_network, save_folder
from PIL import Image
from test_graph_pipeline import write_colours

from featx.backbones import Output, list_layers, open_network, resolve, resolve_outputs
from featx.backbones.build import build
from featx.backbones.hub.library import import_hub
from featx.backbones.hub.network import HubNetwork
from featx.backbones.hub.positions import interpolate_positions
from featx.backbones.keras_network import cut_model
from featx.config import FeaturesOptions
from featx.engines.choice import compile_graph
from featx.errors import BackboneError, UsageError
from featx.heads.persist import load_network

PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


def poolings(tokens: np.ndarray, front: int) -> dict[str, np.ndarray]:
    """What each pooling is, in NumPy."""
    patches = tokens[:, front:]
    side = int(patches.shape[1] ** 0.5)
    half = side // 2
    grid = patches.reshape(len(tokens), 2, half, 2, half, -1).mean(axis=(2, 4))
    return {
        "cls": tokens[:, 0],
        "avg": patches.mean(axis=1),
        "max": patches.max(axis=1),
        "cls+avg": np.concatenate([tokens[:, 0], patches.mean(axis=1)], axis=1),
        "grid:2": grid.reshape(len(tokens), -1),
        "flatten": tokens.reshape(len(tokens), -1),
        "none": tokens,
    }


@pytest.mark.parametrize(("family", "front"), [("dinov2", 3), ("dinov3", 5)])
def test_blocks_are_those_of_keras_hub_in_both_engines(tmp_path: Path, family: str, front: int) -> None:
    network = save_folder(tmp_path / "net", family, blocks=2)
    expected = {
        Output(layer, pooling): value
        for layer, tokens in run_blocks(network, PIXELS).items()
        if layer != "stem"
        for pooling, value in poolings(tokens, front).items()
    }
    spec = resolve(FeaturesOptions(backbone=str(tmp_path / "net")))
    assert spec.input_size == (SIDE, SIDE)
    asked = tuple(expected)
    cut = open_network(spec).cut(asked)
    for engine in ("openvino", "tensorflow"):
        found = compile_graph(engine, lambda: cut, tmp_path / engine, "float32", 0, 0).infer(PIXELS)
        for output, value in expected.items():
            error = f"{output.name} of {engine}"
            np.testing.assert_allclose(found[output.name], value, rtol=1e-4, atol=1e-4, err_msg=error)


@pytest.mark.parametrize(
    ("family", "layers"),
    [
        ("dinov2", ["embeddings", "block1", "block2", "output"]),
        ("vit", ["vit_patching_and_embedding", "block1", "block2", "output"]),
        ("siglip", ["embedding", "block1", "block2", "post_layer_norm", "output"]),
        ("clip", ["embedding", "pre_layer_norm", "block1", "block2", "output"]),
    ],
)
def test_a_transformer_is_cut_between_its_blocks_saved_and_read(tmp_path: Path, family: str, layers: list[str]) -> None:
    network = save_folder(tmp_path / "net", family, blocks=2)
    spec = resolve(FeaturesOptions(backbone=str(tmp_path / "net")))
    listed = {one.name: one for one in list_layers(spec)}
    assert [name for name, one in listed.items() if one.clean_cut and not one.rearranges] == layers
    assert [listed[f"block{n}"].block for n in (1, 2)] == ["block1", "block2"]
    assert 0 < listed["block1"].share < listed["block2"].share <= 1
    cut = open_network(spec).cut([Output("output", "none"), Output("block1", "none")])
    cut.save(tmp_path / "net.keras")
    again = load_network(tmp_path / "net.keras")
    expected = run_network(network, PIXELS)
    found = again(PIXELS.astype(np.float32), training=False)
    assert found["block1@none"].shape[1:] == listed["block1"].shape
    np.testing.assert_allclose(found["output@none"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["resnet", "densenet", "vgg", "xception"])
def test_a_convolutional_network_is_that_of_keras_hub(tmp_path: Path, family: str) -> None:
    network = save_folder(tmp_path / "net", family)
    spec = resolve(FeaturesOptions(backbone=str(tmp_path / "net"), input_size=64))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    expected = run_network(network, pixels).mean(axis=(1, 2))
    cut = open_network(spec).cut(resolve_outputs(FeaturesOptions(), spec))
    found = cut(pixels.astype(np.float32), training=False)["output@avg"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("old", "new"), [(4, 6), (37, 16), (5, 3)])
def test_positions_are_interpolated_as_by_their_authors(old: int, new: int) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    table = np.random.default_rng(1).normal(size=(1, old * old + 1, 8)).astype(np.float32)
    node = onnx.helper.make_node(
        "Resize", ["x", "", "", "size"], ["y"], mode="cubic", cubic_coeff_a=-0.75,
        coordinate_transformation_mode="pytorch_half_pixel",
    )  # fmt: skip
    size = onnx.numpy_helper.from_array(np.array([1, 8, new, new], np.int64), "size")
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xy"]
    graph = onnx.helper.make_graph([node], "resize", ends[:1], ends[1:], [size])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    grid = table[:, 1:].reshape(1, old, old, 8).transpose(0, 3, 1, 2)
    (resized,) = runtime.InferenceSession(model.SerializeToString()).run(None, {"x": grid})
    expected = np.concatenate([table[:, :1], resized.transpose(0, 2, 3, 1).reshape(1, -1, 8)], axis=1)
    np.testing.assert_allclose(interpolate_positions(table, new * new + 1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("old", "new"), [(4, 6), (37, 16), (5, 3)])
def test_smooth_positions_are_those_of_pillow(old: int, new: int) -> None:
    table = np.random.default_rng(1).normal(size=(1, old * old + 1, 2)).astype(np.float32)
    found = interpolate_positions(table, new * new + 1, antialias=True)
    for channel in range(2):
        grid = Image.fromarray(np.ascontiguousarray(table[0, 1:, channel].reshape(old, old)))
        expected = np.asarray(grid.resize((new, new), Image.Resampling.BICUBIC))
        np.testing.assert_allclose(found[0, 1:, channel].reshape(new, new), expected, atol=1e-5)


@pytest.mark.parametrize("family", ["dinov2", "vit", "siglip", "clip"])
def test_a_larger_network_sees_224_pixels_with_interpolated_positions(tmp_path: Path, family: str) -> None:
    old = save_folder(tmp_path / "net", family, side=280, blocks=1)
    (tmp_path / "net" / "preprocessor_config.json").unlink()
    spec = resolve(FeaturesOptions(backbone=str(tmp_path / "net"), preprocessing="imagenet"))
    assert spec.input_size == (224, 224)
    new = build(spec)
    tables = [
        np.asarray(next(v for v in one.variables if "position_embedding" in v.path and "float" in str(v.dtype)))
        for one in (old, new)
    ]
    tokens = tables[1].shape[-2]
    assert tokens - 16 * 16 == tables[0].shape[-2] - 20 * 20
    np.testing.assert_allclose(tables[1], interpolate_positions(tables[0], tokens), rtol=1e-6)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    found = cut_model(new, spec, [Output("block1", "grid:4")])(pixels.astype(np.float32), training=False)
    assert found["block1@grid:4"].shape == (1, 4 * 4 * 48)


def test_random_weights_need_the_configuration_alone(tmp_path: Path) -> None:
    save_folder(tmp_path / "net")
    (tmp_path / "net" / "model.weights.h5").unlink()
    listed = list_layers(resolve(FeaturesOptions(backbone=str(tmp_path / "net"))))
    assert [one.name for one in listed][-1] == "output"
    spec = resolve(FeaturesOptions(backbone=str(tmp_path / "net"), weights="random", weights_seed=3))
    assert open_network(spec).digest() == HubNetwork(spec).digest()
    another = resolve(FeaturesOptions(backbone=str(tmp_path / "net"), weights="random", weights_seed=4))
    first, second = open_network(spec).digest(), open_network(another).digest()
    assert first.architecture == second.architecture
    assert first.weights != second.weights
    with pytest.raises(BackboneError, match=r"holds no weights.*--weights random"):
        open_network(resolve(FeaturesOptions(backbone=str(tmp_path / "net")))).digest()


def test_trained_positions_are_saved_whichever_way_they_moved(tmp_path: Path) -> None:
    save_folder(tmp_path / "net")
    spec = resolve(FeaturesOptions(backbone=str(tmp_path / "net")))
    cut = open_network(spec).cut([Output("block1", "cls")])
    positions = cut.get_layer("embeddings").interpolated_position_embeddings
    for step in (0.5, -0.5):
        positions.assign(positions + step)
        cut.save(tmp_path / "net.keras")
        again = load_network(tmp_path / "net.keras").get_layer("embeddings").interpolated_position_embeddings
        np.testing.assert_array_equal(again, positions)


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        ({"model_type": "blip"}, {}, "of type 'blip'.*optimum-cli export onnx"),
        ({"class_name": "BertBackbone", "config": {}}, {}, "holds a BertBackbone.*DINOV2"),
        ({"hidden": 3}, {}, "neither a class of KerasHub nor a model_type"),
        (None, {"input_size": 60}, "patches of 14 pixels.*--input-size 56 or 70"),
        (None, {"weights": "imagenet"}, "Leave out --weights"),
        (None, {"layer": ("blok1",)}, "Did you mean 'block1'"),
        (None, {"layer": ("block1@grid:9",)}, "too small for a grid"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    tmp_path: Path, config: dict[str, object] | None, options: dict[str, object], words: str
) -> None:
    save_folder(tmp_path / "net")
    if config is not None:
        (tmp_path / "net" / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=words):
        spec = resolve(FeaturesOptions(backbone=str(tmp_path / "net"), **options))  # type: ignore[arg-type]
        open_network(spec).cut(resolve_outputs(FeaturesOptions(**options), spec))  # type: ignore[arg-type]


def test_values_are_asked_for_by_name(tmp_path: Path) -> None:
    save_folder(tmp_path / "net", values=False)
    with pytest.raises(UsageError, match="--preprocessing imagenet"):
        resolve(FeaturesOptions(backbone=str(tmp_path / "net")))
    scale, offset = [1 / (255 * s) for s in VALUES["std"]], [-m / s for m, s in zip(*VALUES.values(), strict=True)]
    converter = {"config": {"image_size": [SIDE, SIDE], "scale": scale, "offset": offset, "interpolation": "bicubic",
                            "crop_to_aspect_ratio": False}}  # fmt: skip
    (tmp_path / "net" / "image_converter.json").write_text(json.dumps(converter))
    spec = resolve(FeaturesOptions(backbone=str(tmp_path / "net")))
    assert (spec.preprocessing, spec.resize) == ("torch", "stretch:1:bicubic")


@pytest.mark.usefixtures("op_by_op")
def test_fitted_packed_predicted_without_keras_hub_and_fine_tuned(
    featx: Callable[..., Any], tmp_path: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_colours(tmp_path / "images")
    save_folder(tmp_path / "net", blocks=2)
    (tmp_path / "net" / "NOTICE").write_text("To be passed on")
    fitted = featx("fit-head", "images", "--backbone", "net", "--layer", "block2@cls+avg", "--clf", "logreg",
                   "--no-html", "--json").json  # fmt: skip
    assert fitted["test"]["accuracy"] > 0.7
    named = ("--backbone", "net", "--layer", "block2@cls+avg")
    tuned = featx("finetune", "images", *named, "--unfreeze", "block2", "--epochs", "1", "--no-html", "--json").json
    assert (tmp_path / tuned["bundle"] / "licenses" / "NOTICE").read_text() == "To be passed on"
    featx("bundle", "pack", tuned["bundle"], "--out", "model.featx")
    featx("explain", "images/red/00.png", "--model", "model.featx", "--out", "maps")
    for folder in ("net", "cache", "runs"):
        shutil.rmtree(tmp_path / folder)
    (tmp_path / "blocked").mkdir()
    for library in ("keras_hub", "keras", "tensorflow"):
        (tmp_path / "blocked" / f"{library}.py").write_text("raise ImportError('not on this machine')")
    path = environment().get("PYTHONPATH", "")
    blocked = environment(PYTHONPATH=f"{tmp_path / 'blocked'}:{path}")
    answers = featx("predict", "images", "--model", "model.featx", "--json", env=blocked).json["predictions"]
    assert np.mean([one["label"] == Path(one["path"]).parent.name for one in answers]) > 0.8
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    other = ("--backbone", tiny_backbone, "--epochs", "1")  # whose features come first
    refused = featx("finetune", "images", "--from", "model.featx", *other, status=1)
    assert "featx[hub]" in refused.stderr


def test_a_preset_is_fetched_file_by_file_and_read_as_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from keras_hub.src.utils import preset_utils

    import_hub()
    network, fetched = save_folder(tmp_path / "hub" / "dinov2_small" / "1", values=False), []
    asked: list[str] = []

    def get_file(preset: str, path: str) -> str:
        asked.append(path)
        found = tmp_path / "hub" / preset / "1" / path
        if not found.is_file():
            raise FileNotFoundError(path)
        fetched.append(path)
        return str(found)

    with monkeypatch.context() as patched:
        patched.setattr(preset_utils, "get_file", get_file)
        spec = resolve(FeaturesOptions(backbone="hub:dinov2_small", preprocessing="imagenet"))
        assert (spec.label, sorted(set(fetched))) == ("dinov2_small", ["config.json", "model.weights.h5"])
        assert spec.source == "hub:dinov2_small"
        asked.clear()  # what was whole once needs no server, also where it has no image converter
        assert resolve(FeaturesOptions(backbone="hub:dinov2_small", preprocessing="imagenet")) == spec
        assert asked == ["config.json"]
    found = open_network(spec).cut([Output("output", "none")])(PIXELS.astype(np.float32), training=False)
    np.testing.assert_allclose(found["output@none"], run_network(network, PIXELS), rtol=1e-4, atol=1e-4)


def test_a_preset_that_cannot_be_had_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from keras_hub.src.utils import preset_utils

    import_hub()

    def get_file(preset: str, path: str) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(preset_utils, "get_file", get_file)
    with pytest.raises(BackboneError, match=r"no route to host.*copy config.json.*--backbone FOLDER"):
        resolve(FeaturesOptions(backbone="hub:dinov2_small"))
    with pytest.raises(BackboneError, match="Did you mean 'dinov2_small'"):
        resolve(FeaturesOptions(backbone="hub:dinov2_smal"))


def test_listed_presets_are_presets_of_keras_hub_with_so_many_parameters() -> None:
    from keras_hub.src.utils.preset_utils import BUILTIN_PRESETS

    from featx.backbones.catalog import HUB_NETWORKS

    import_hub()
    for one in HUB_NETWORKS:
        known = BUILTIN_PRESETS[one.name.removeprefix("hub:")]["metadata"]["params"]
        if one.family in {"SigLIP 2", "CLIP"}:
            assert one.parameters < known  # of which the text tower is a part
        else:
            assert one.parameters == pytest.approx(known, rel=0.01)


TOKEN_OUTPUTS = ["block1@cls", "block1@avg", "block2@cls", "block2@avg", "output@cls", "output@avg"]


@pytest.mark.slow
@pytest.mark.usefixtures("op_by_op")
def test_the_packaged_pipeline_tries_tokens_side_by_side(tmp_path: Path, featx: Callable[..., Any]) -> None:
    save_folder(tmp_path / "net", values=False, blocks=2)
    write_colours(tmp_path / "pictures")
    shutil.copy(Path(__file__).parents[1] / "pipelines" / "dinov2.yaml", tmp_path)
    given = ["--set", "data.path=pictures", "--set", "features.backbone=net", "--set", "features.weights=random"]
    given += ["--set", "head.folds=2", "--set", "report.html=false"]
    done = featx("run", "-p", "dinov2.yaml", *given, "--set", "head.epochs=1", "--json")
    (folder,) = (tmp_path / "runs").glob("*/1-*")
    about = json.loads((folder / "bundle.json").read_text())
    singles = [title for title in about["search"] if " + " not in title]
    assert singles == [one for one in TOKEN_OUTPUTS if not one.startswith("block2")]  # which is the last
    assert about["backbone"]["weights"] == "random"
    assert about["backbone"]["preprocessing"] == "torch"
    assert done.json is not None
    averaged = ("--pooling", "avg", "--clf", "ridge", "--name", "one", "--no-html")
    told = featx("fit-head", "-p", "dinov2.yaml", *given, *averaged, "--json").json
    about = json.loads((tmp_path / told["bundle"] / "bundle.json").read_text())
    assert [one for one in about["search"] if " + " not in one] == ["output@avg"]  # what the user asked for


@pytest.mark.parametrize(
    ("family", "tried"),
    [
        ("siglip", ["block1@avg", "block2@avg", "output@avg"]),  # it has no class token
        ("clip", TOKEN_OUTPUTS),
        ("resnet", []),  # it gives maps
    ],
)
def test_what_is_tried_of_tokens(tmp_path: Path, family: str, tried: list[str]) -> None:
    from featx.backbones.tokens import choose_layers_of_tokens

    save_folder(tmp_path / "net", family)
    assert list(choose_layers_of_tokens(resolve(FeaturesOptions(backbone=str(tmp_path / "net"))))) == tried


@pytest.mark.slow
def test_look_judges_the_tokens_of_the_last_blocks(
    tmp_path: Path, featx: Callable[..., Any], imagenet_cache: Path
) -> None:
    shutil.copytree(imagenet_cache, tmp_path / "cache")
    save_folder(tmp_path / "net")
    write_colours(tmp_path / "pictures")
    found = featx("look", "pictures", "--backbone", "net", "--no-html", "--json").json
    assert [one["output"] for one in found["depths"]["probes"]] == TOKEN_OUTPUTS
    shares = [one["share"] for one in found["depths"]["probes"]]
    assert shares == sorted(shares)


def test_what_a_converter_prints_is_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def from_preset(*_: object, **__: object) -> None:
        sys.stdout.write("porting weights")  # as that of MobileNetV3 does
        raise ValueError("of another form")

    monkeypatch.setattr(import_hub().models.Backbone, "from_preset", from_preset)
    (tmp_path / "config.json").write_text(json.dumps({"class_name": "ResNetBackbone", "config": {}}))
    spec = resolve(FeaturesOptions(backbone=str(tmp_path), weights="random", preprocessing="imagenet"))
    with pytest.raises(BackboneError, match="of another form"):
        open_network(spec).digest()
    assert capsys.readouterr().out == ""
