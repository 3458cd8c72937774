"""Networks from graph files: read, listed, named, digested and cut; ONNX Runtime is the reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from graphs import SIDE, Maker, run_onnx, save_residual_net, save_transformer
from onnx import TensorProto

from featx.backbones.graphs.cutting import count_prefix, cut_graph
from featx.backbones.graphs.digest import digest_graph
from featx.backbones.graphs.reading import is_graph, read_graph
from featx.backbones.graphs.structure import Graph, open_graph
from featx.backbones.libraries import import_openvino
from featx.backbones.output import Output
from featx.backbones.preprocessing import FORMULAS
from featx.errors import BackboneError

SIZE = (SIDE, SIDE)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (5, *SIZE, 3), np.uint8)


def features(graph: Graph, outputs: list[Output], images: np.ndarray, formula: str = "none") -> dict[str, np.ndarray]:
    """What OpenVINO makes of a cut graph."""
    part = cut_graph(graph, outputs, FORMULAS[formula])
    part.model.reshape([len(images), *images.shape[1:]])
    compiled = import_openvino().Core().compile_model(part.model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(images)
    return {name: np.array(found[compiled.output(tensor)]) for name, tensor in part.tensors.items()}


def cells(map_: np.ndarray, side: int) -> np.ndarray:
    """Averages over a grid of a map (n, height, width, channels), flattened."""
    height, width = map_.shape[1:3]
    rows = [
        map_[:, i * height // side : -(-(i + 1) * height // side), j * width // side : -(-(j + 1) * width // side)]
        for i in range(side)
        for j in range(side)
    ]
    return np.stack([row.mean(axis=(1, 2)) for row in rows], axis=1).reshape(len(map_), -1)


# --- listing -----------------------------------------------------------------------------------------------------


def test_blocks_of_a_residual_network_end_behind_their_activation(tmp_path: Path) -> None:
    graph = open_graph(save_residual_net(tmp_path / "net.onnx"), SIZE)
    assert graph.blocks == {"block1": "b1/out", "block2": "b2/out", "block3": "b3/out"}
    assert graph.find("block2").shape == (16, 16, 8)
    assert graph.find("block2") == graph.find("b2/out")
    shares = [graph.find(name).share for name in ("stem", "block1", "block2", "block3", "logits")]
    convolution, stem, last = 16 * 16 * 8 * 8 * 9, 16 * 16 * 8 * 3 * 9, 8 * 5
    whole = stem + 6 * convolution + last
    expected = [stem, stem + 2 * convolution, stem + 4 * convolution, stem + 6 * convolution, whole]
    np.testing.assert_allclose(shares, np.array(expected) / whole)


def test_a_block_of_a_transformer_is_attention_and_mlp(tmp_path: Path) -> None:
    graph = open_graph(save_transformer(tmp_path / "vit.onnx"), SIZE)
    assert graph.blocks == {f"block{n}": f"layer{n}/out" for n in (1, 2, 3)}
    assert graph.find("block3").shape == (17, 12)
    assert graph.find("norm").block == ""
    assert graph.find("layer1/up").parameters == 12 * 48


def test_a_plain_network_has_a_block_for_every_kernel(tmp_path: Path) -> None:
    make = Maker()
    x = "image"
    for layer in range(3):
        x = make.add("Conv", [x, make.weight(4, 3 if layer == 0 else 4, 3, 3)], f"conv{layer}", pads=[1, 1, 1, 1])
        x = make.add("Relu", [x], f"relu{layer}")
    graph = open_graph(make.save(tmp_path / "plain.onnx", ["n", 3, SIDE, SIDE], x, rank=4), SIZE)
    assert graph.blocks == {"block1": "relu0", "block2": "relu1", "block3": "relu2"}


def test_clean_cuts_are_where_one_tensor_crosses(tmp_path: Path) -> None:
    graph = open_graph(save_residual_net(tmp_path / "net.onnx"), SIZE)
    clean = {node.name for node in graph.nodes if node.clean_cut}
    assert {"stem", "b1/sum", "b1/out", "b2/out", "flat"} <= clean
    assert not {"b1/conv1", "b1/relu1", "b1/conv2"} & clean


def test_tensors_without_a_row_for_each_image_are_not_offered(tmp_path: Path) -> None:
    make = Maker()
    x = make.add("Conv", ["image", make.weight(4, 3, 3, 3)], "map")
    turned = make.add("Transpose", [x], "turned", perm=[1, 0, 2, 3])
    x = make.add("Transpose", [turned], "back", perm=[1, 0, 2, 3])
    graph = open_graph(make.save(tmp_path / "net.onnx", ["n", 3, SIDE, SIDE], x, rank=4), SIZE)
    assert graph.find("map").usable
    assert not graph.find("turned").usable


# --- features ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("formula", ["none", "torch", "caffe", "tf"])
def test_maps_are_those_of_onnx_runtime(tmp_path: Path, images: np.ndarray, formula: str) -> None:
    path = save_residual_net(tmp_path / "net.onnx")
    poolings = ("avg", "max", "grid:3", "flatten", "none")
    outputs = [Output(layer, pooling) for layer in ("stem", "block2") for pooling in poolings]
    found = features(open_graph(path, SIZE), [*outputs, Output("logits", "avg")], images, formula)
    given = np.ascontiguousarray(FORMULAS[formula].apply(images).transpose(0, 3, 1, 2))
    expected = run_onnx(path, ["stem", "b2/out", "logits"], given)
    for layer, name in (("stem", "stem"), ("block2", "b2/out")):
        map_ = expected[name].transpose(0, 2, 3, 1)
        pooled = (map_.mean((1, 2)), map_.max((1, 2)), cells(map_, 3), map_.reshape(len(map_), -1), map_)
        for pooling, value in zip(poolings, pooled, strict=True):
            np.testing.assert_allclose(found[f"{layer}@{pooling}"], value, rtol=1e-4, atol=1e-4 * np.abs(map_).max())
    np.testing.assert_allclose(found["logits@avg"], expected["logits"], rtol=1e-4, atol=1e-3)


def test_tokens_are_those_of_onnx_runtime(tmp_path: Path, images: np.ndarray) -> None:
    path = save_transformer(tmp_path / "vit.onnx")
    poolings = ("cls", "avg", "max", "cls+avg", "grid:2", "flatten", "none")
    outputs = [Output(layer, pooling) for layer in ("block1", "norm") for pooling in poolings]
    found = features(open_graph(path, SIZE), outputs, images, "tf")
    given = np.ascontiguousarray(FORMULAS["tf"].apply(images).transpose(0, 3, 1, 2))
    expected = run_onnx(path, ["layer1/out", "norm"], given)
    for layer, name in (("block1", "layer1/out"), ("norm", "norm")):
        tokens = expected[name]
        patches = tokens[:, 1:]
        both = np.concatenate([tokens[:, 0], patches.mean(1)], axis=1)
        grid = cells(patches.reshape(len(tokens), 4, 4, -1), 2)
        pooled = (tokens[:, 0], patches.mean(1), patches.max(1), both, grid, tokens.reshape(len(tokens), -1), tokens)
        for pooling, value in zip(poolings, pooled, strict=True):
            np.testing.assert_allclose(found[f"{layer}@{pooling}"], value, rtol=1e-4, atol=1e-4)


def test_tokens_in_front_of_the_patches() -> None:
    assert [count_prefix(n) for n in (256, 257, 261, 197, 196, 49, 50)] == [0, 1, 5, 1, 0, 0, 1]
    assert count_prefix(16 * 16 + 17) is None


def test_given_prefix_tokens_count(tmp_path: Path, images: np.ndarray) -> None:
    path = save_transformer(tmp_path / "vit.onnx")
    part = cut_graph(open_graph(path, SIZE), [Output("block1", "avg")], FORMULAS["none"], prefix_tokens=0)
    part.model.reshape([len(images), *SIZE, 3])
    found = import_openvino().Core().compile_model(part.model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images)[0]
    given = np.ascontiguousarray(images.transpose(0, 3, 1, 2).astype(np.float32))
    expected = run_onnx(path, ["layer1/out"], given)["layer1/out"].mean(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_nothing_behind_the_deepest_layer_is_in_it(tmp_path: Path) -> None:
    graph = open_graph(save_residual_net(tmp_path / "net.onnx"), SIZE)
    kinds = [
        node.get_type_name() for node in cut_graph(graph, [Output("block1", "avg")], FORMULAS["none"]).model.get_ops()
    ]
    assert kinds.count("Convolution") == 3


def test_channels_last_and_whole_numbers_are_taken(tmp_path: Path, images: np.ndarray) -> None:
    make = Maker()
    x = make.add("Cast", ["image"], "numbers", to=TensorProto.FLOAT)
    x = make.add("Transpose", [x], "first", perm=[0, 3, 1, 2])
    x = make.add("Conv", [x, make.weight(6, 3, 3, 3)], "map")
    x = make.add("Transpose", [x], "last", perm=[0, 2, 3, 1])
    path = make.save(tmp_path / "net.onnx", ["n", "h", "w", 3], x, rank=4, dtype=TensorProto.UINT8)
    found = features(open_graph(path, SIZE), [Output("map", "none"), Output("last", "flatten")], images)
    expected = run_onnx(path, ["last"], images)["last"]
    np.testing.assert_allclose(found["map@none"], expected, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(found["last@flatten"], expected.reshape(len(images), -1), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("batch", [1, "n"])
def test_a_batch_of_one_in_the_file_is_any_batch_where_the_network_allows_it(
    tmp_path: Path, images: np.ndarray, batch: Any
) -> None:
    path = save_residual_net(tmp_path / "net.onnx", batch=batch)
    graph = open_graph(path, SIZE)
    assert graph.batch is None
    assert features(graph, [Output("block1", "avg")], images)["block1@avg"].shape == (len(images), 8)


def test_a_network_that_is_fixed_to_one_image_says_so(tmp_path: Path) -> None:
    make = Maker()
    x = make.add("Conv", ["image", make.weight(4, 3, 3, 3)], "map", pads=[1, 1, 1, 1])
    x = make.add("Reshape", [x, make.constant(np.array([1, 16, 256]))], "rows")
    x = make.add("MatMul", [x, make.weight(256, 3)], "logits")
    graph = open_graph(make.save(tmp_path / "net.onnx", [1, 3, SIDE, SIDE], x, rank=3), SIZE)
    assert graph.batch == 1
    assert cut_graph(graph, [Output("logits", "flatten")], FORMULAS["none"]).batch == 1
    assert cut_graph(graph, [Output("map", "avg")], FORMULAS["none"]).batch is None


def test_another_size_where_the_network_allows_it(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, 48, 40, 3), np.uint8)
    path = save_residual_net(tmp_path / "net.onnx", side="s")
    found = features(open_graph(path, (48, 40)), [Output("block3", "none")], images)["block3@none"]
    given = np.ascontiguousarray(images.transpose(0, 3, 1, 2).astype(np.float32))
    expected = run_onnx(path, ["b3/out"], given)["b3/out"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-2)


def test_a_size_that_a_network_refuses_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"takes images of 32 x 32 pixels only; got 64 x 64"):
        open_graph(save_transformer(tmp_path / "vit.onnx"), (64, 64))


# --- digests -----------------------------------------------------------------------------------------------------


def saved_as_ir(path: Path, out: Path) -> Path:
    openvino = import_openvino()
    openvino.save_model(openvino.Core().read_model(path), out, compress_to_fp16=False)
    return out


@pytest.mark.parametrize("save", [save_residual_net, save_transformer])
def test_the_same_network_saved_twice_has_one_digest(tmp_path: Path, save: Callable[..., Path]) -> None:
    path = save(tmp_path / "net.onnx")
    first, second = saved_as_ir(path, tmp_path / "a.xml"), saved_as_ir(path, tmp_path / "b.xml")
    again = saved_as_ir(first, tmp_path / "c.xml")
    digests = {digest_graph(read_graph(one)[0]) for one in (first, second, again)}
    assert len(digests) == 1


def test_names_and_order_do_not_matter(tmp_path: Path) -> None:
    import onnx

    path = save_residual_net(tmp_path / "net.onnx")
    model = onnx.load(path)
    model.graph.initializer.reverse()
    for node in model.graph.node:
        node.name = f"another {node.output[0]}"
    onnx.save(model, tmp_path / "renamed.onnx")
    assert digest_graph(read_graph(path)[0]) == digest_graph(read_graph(tmp_path / "renamed.onnx")[0])


def test_other_weights_and_another_network_have_other_digests(tmp_path: Path) -> None:
    one = digest_graph(read_graph(save_residual_net(tmp_path / "a.onnx"))[0])
    other = digest_graph(read_graph(save_residual_net(tmp_path / "b.onnx", seed=1))[0])
    assert one.architecture == other.architecture
    assert one.weights != other.weights
    assert digest_graph(read_graph(save_transformer(tmp_path / "c.onnx"))[0]).architecture != one.architecture


def test_ir_keeps_the_names_of_its_tensors(tmp_path: Path, images: np.ndarray) -> None:
    path = save_residual_net(tmp_path / "net.onnx")
    ir = saved_as_ir(path, tmp_path / "net.xml")
    assert open_graph(ir, SIZE).blocks == open_graph(path, SIZE).blocks
    outputs = [Output("b1/conv1", "avg")]
    np.testing.assert_allclose(
        features(open_graph(ir, SIZE), outputs, images)["b1/conv1@avg"],
        features(open_graph(path, SIZE), outputs, images)["b1/conv1@avg"],
        rtol=1e-5,
    )


# --- what is refused ---------------------------------------------------------------------------------------------


def two_inputs(path: Path) -> Path:
    import onnx
    from onnx import helper

    save_residual_net(path)
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("text", TensorProto.FLOAT, ["n", 5]))
    model.graph.node.append(helper.make_node("Add", ["logits", "text"], ["sum"]))
    model.graph.output[0].name = "sum"
    onnx.save(model, path)
    return path


def text_tower(path: Path) -> Path:
    make = Maker()
    x = make.add("MatMul", ["image", make.weight(77, 8)], "embedded")
    return make.save(path, ["n", 77], x)


def greyscale(path: Path) -> Path:
    make = Maker()
    return make.save(path, ["n", 1, 28, 28], make.add("Conv", ["image", make.weight(4, 1, 3, 3)], "map"), rank=4)


def truncated(path: Path) -> Path:
    save_residual_net(path)
    path.write_bytes(path.read_bytes()[:-500])
    return path


def unknown_operation(path: Path) -> Path:
    import onnx

    save_residual_net(path)
    model = onnx.load(path)
    model.graph.node[1].op_type, model.graph.node[1].domain = "MadeUp", "elsewhere"
    model.opset_import.append(onnx.helper.make_opsetid("elsewhere", 1))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (two_inputs, r"has 2 inputs \(image, text\).*image tower alone"),
        (text_tower, r"does not take RGB images: its input is \? x 77"),
        (greyscale, r"does not take RGB images: its input is \? x 1 x 28 x 28"),
        (truncated, r"cannot be read as ONNX.*Is the file complete\?"),
        (unknown_operation, r"operations that OpenVINO does not know: elsewhere.MadeUp"),
    ],
)
def test_what_is_no_network_from_an_image_is_a_sentence(
    tmp_path: Path, make: Callable[[Path], Path], words: str
) -> None:
    with pytest.raises(BackboneError, match=words) as caught:
        read_graph(make(tmp_path / "net.onnx"))
    assert "\n" not in str(caught.value)


def test_an_unknown_layer_suggests_near_ones(tmp_path: Path) -> None:
    graph = open_graph(save_residual_net(tmp_path / "net.onnx"), SIZE)
    with pytest.raises(BackboneError, match=r"No layer 'blok2' in net.onnx. Did you mean 'block2'"):
        cut_graph(graph, [Output("blok2", "avg")], FORMULAS["none"])


def test_poolings_that_a_layer_does_not_have(tmp_path: Path) -> None:
    net = open_graph(save_residual_net(tmp_path / "net.onnx"), SIZE)
    for pooling, words in (
        ("cls", "a map, which has no class token"),
        ("grid:17", r"16 x 16, too small for a grid of 17 x 17"),
    ):
        with pytest.raises(BackboneError, match=words):
            cut_graph(net, [Output("block1", pooling)], FORMULAS["none"])


def test_graph_files_are_known_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    assert all(is_graph(Path(name)) for name in ("a.onnx", "b.xml", "c.tflite", "D.ONNX", tmp_path / "saved"))
    assert not any(is_graph(Path(name)) for name in ("a.keras", "ResNet50", tmp_path))
