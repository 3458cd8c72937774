"""Engines: the same numbers as Keras, for any number of images, by name and never by order."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from featx.backbones import Output, import_keras, open_network, resolve
from featx.config import FeaturesOptions
from featx.engines import choice
from featx.engines import openvino as openvino_engine
from featx.engines.choice import choose_engine, compile_graph, effective_precision, load_graph
from featx.engines.conversion import to_openvino
from featx.engines.protocol import Engine
from featx.errors import EngineError, StoreError, UsageError

SIDE = 64
# eleven: with more than ten, an order by text puts output_10 before output_2
OUTPUTS = [
    Output(layer, pooling)
    for layer, pooling in [
        ("block1a_project_bn", "avg"),
        ("block2b_add", "avg"),
        ("block3b_add", "max"),
        ("block4a_project_bn", "flatten"),
        ("block4b_add", "grid:3"),
        ("block4b_add", "avg"),
        ("block4c_add", "none"),
        ("block5a_project_bn", "avg"),
        ("block5a_project_bn", "grid:2"),
        ("block5b_add", "max"),
        ("block5c_add", "avg"),
    ]
]


@pytest.fixture(scope="module")
def model() -> Any:
    return open_network(resolve(FeaturesOptions(input_size=SIDE))).cut(OUTPUTS)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    from sklearn.datasets import load_sample_images

    photos = load_sample_images().images
    corners = [(photos[i % 2], 31 * i, 37 * i) for i in range(11)]
    return np.stack([photo[y : y + SIDE, x : x + SIDE] for photo, y, x in corners])


@pytest.fixture(scope="module")
def expected(model: Any, images: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in model(images.astype(np.float32), training=False).items()}


@pytest.fixture(scope="module")
def graph(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    graph = tmp_path_factory.mktemp("store") / "graph"
    compile_graph("openvino", lambda: model, graph, "float32")
    return graph


@pytest.fixture(scope="module", params=["openvino", "tensorflow"])
def engine(request: pytest.FixtureRequest, model: Any, graph: Path) -> Engine:
    return compile_graph(request.param, lambda: model, graph, "float32", batch_size=4)


def fail() -> Any:
    raise AssertionError("the network was built although its graph is there")


# --- the numbers -------------------------------------------------------------------------------------------------


def test_every_output_is_that_of_keras(engine: Engine, images: np.ndarray, expected: dict[str, np.ndarray]):
    found = engine.infer(images)
    assert set(found) == {output.name for output in OUTPUTS} == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == np.float32
        assert found[name].shape == value.shape
        assert np.abs(found[name] - value).max() <= 1e-4 * np.abs(value).max()
    assert (engine.precision, engine.batch_size) == ("float32", 4)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 11])
def test_any_number_of_images(engine: Engine, images: np.ndarray, count: int):
    whole, some = engine.infer(images), engine.infer(images[:count])
    for name, value in whole.items():
        assert some[name].shape == (count, *value.shape[1:])
        np.testing.assert_array_equal(some[name], value[:count])


def test_a_row_does_not_depend_on_its_batch(engine: Engine, images: np.ndarray):
    forward, backward = engine.infer(images), engine.infer(images[::-1])
    for name, value in forward.items():
        np.testing.assert_allclose(backward[name][::-1], value, rtol=1e-5, atol=1e-5 * np.abs(value).max())


def test_results_are_not_overwritten_by_the_next_inference(engine: Engine, images: np.ndarray):
    first = engine.infer(images[:4])
    copies = {name: value.copy() for name, value in first.items()}
    engine.infer(images[4:8])
    assert all(np.array_equal(first[name], copies[name]) for name in first)


def test_threads_get_answers_of_their_own(engine: Engine, images: np.ndarray):
    shares = [images[start : start + 3] for start in range(8)] * 3
    expected = [engine.infer(share) for share in shares]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(engine.infer, shares))
    for mine, alone in zip(found, expected, strict=True):
        assert all(np.array_equal(mine[name], alone[name]) for name in alone)


def test_an_interrupted_inference_leaves_no_request_busy(
    graph: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    engine = load_graph(graph, "float32")
    expected = engine.infer(images[:1])

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    finish = openvino_engine._CompiledNetwork._finish
    monkeypatch.setattr(openvino_engine._CompiledNetwork, "_finish", interrupted)
    with suppress(KeyboardInterrupt):
        engine.infer(images[:1])
    openvino_engine._CompiledNetwork._finish = finish  # at once: the request is busy for a millisecond
    found = engine.infer(images[:1])
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, SIDE, SIDE, 3), np.float32), np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 3), np.uint8)]
)
def test_other_images_are_refused(engine: Engine, wrong: np.ndarray):
    with pytest.raises(EngineError, match=rf"uint8 \(n, 64, 64, 3\); received {wrong.dtype}"):
        engine.infer(wrong)


# --- precision ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["openvino", "tensorflow"])
def test_bfloat16_is_another_arithmetic(
    name: str, model: Any, graph: Path, images: np.ndarray, expected: dict[str, np.ndarray]
):
    try:
        effective_precision(name, "bfloat16")
    except EngineError as error:
        pytest.skip(str(error))
    engine = compile_graph(name, lambda: model, graph, "bfloat16")
    assert engine.precision == "bfloat16"
    found, value = engine.infer(images)["block5c_add@avg"], expected["block5c_add@avg"]
    difference = np.linalg.norm(found - value) / np.linalg.norm(value)
    assert 1e-4 < difference < 0.1


def test_a_precision_that_the_processor_lacks_is_refused(monkeypatch: pytest.MonkeyPatch):
    import openvino

    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "INT8"])
    assert effective_precision("openvino", "float32") == "float32"
    for precision in ("bfloat16", "float16"):
        with pytest.raises(EngineError, match=f"no {precision} arithmetic .*FP32, INT8.*--precision float32"):
            effective_precision("openvino", precision)
    with pytest.raises(EngineError, match="TensorFlow has no float16 on a CPU"):
        effective_precision("tensorflow", "float16")
    with pytest.raises(UsageError, match="float32, bfloat16, float16"):
        effective_precision("openvino", "float64")


# --- the graph on disk -------------------------------------------------------------------------------------------


def test_a_whole_graph_is_used_again(graph: Path, images: np.ndarray, expected: dict[str, np.ndarray]):
    assert sorted(path.name for path in graph.iterdir()) == ["graph.bin", "graph.json", "graph.xml"]
    found = compile_graph("openvino", fail, graph, "float32").infer(images)
    for name, value in expected.items():
        assert np.abs(found[name] - value).max() <= 1e-4 * np.abs(value).max()


def test_a_graph_runs_without_tensorflow(
    graph: Path, images: np.ndarray, expected: dict[str, np.ndarray], tmp_path: Path
):
    np.save(tmp_path / "images.npy", images)
    code = f"""
import sys
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from featx.engines.choice import load_graph
engine = load_graph(Path({str(graph)!r}), "float32", batch_size=2, threads=1)
np.save({str(tmp_path / "found.npy")!r}, engine.infer(np.load({str(tmp_path / "images.npy")!r}))["block4b_add@grid:3"])
print(sorted({{"tensorflow", "keras", "sklearn"}} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected["block4b_add@grid:3"], rtol=1e-4, atol=1e-4)


@pytest.fixture
def copy(graph: Path, tmp_path: Path) -> Path:
    for path in graph.iterdir():
        (tmp_path / "graph").mkdir(exist_ok=True)
        (tmp_path / "graph" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "graph"


@pytest.mark.parametrize("name", ["graph.xml", "graph.bin", "graph.json"])
def test_a_graph_with_a_file_missing_is_made_again(name: str, copy: Path, model: Any, images: np.ndarray):
    (copy / name).unlink()
    with pytest.raises(EngineError, match=f"{name} is missing"):
        load_graph(copy, "float32")
    small = _smallest(model)
    found = compile_graph("openvino", lambda: small, copy, "float32").infer(images)
    assert list(found) == ["block1a_project_bn@avg"]
    assert openvino_engine.is_whole(copy)
    assert [path.name for path in copy.parent.iterdir()] == ["graph"]


def _smallest(model: Any) -> Any:
    import keras

    return keras.Model(model.inputs, {"block1a_project_bn@avg": model.output["block1a_project_bn@avg"]})


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0x40
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["graph.xml", "graph.bin", "graph.json"])
def test_a_graph_with_a_flipped_bit_is_made_again(
    name: str, copy: Path, model: Any, images: np.ndarray, expected: dict[str, np.ndarray]
):
    flip(copy / name, 0.6)
    with pytest.raises(EngineError, match=f"{name} "):
        load_graph(copy, "float32")
    found = compile_graph("openvino", lambda: _smallest(model), copy, "float32").infer(images)
    value = expected["block1a_project_bn@avg"]
    assert np.abs(found["block1a_project_bn@avg"] - value).max() <= 1e-4 * np.abs(value).max()
    load_graph(copy, "float32")
    assert [path.name for path in copy.parent.iterdir()] == ["graph"]


def test_a_graph_without_digests_is_used_and_gets_them(copy: Path, model: Any, images: np.ndarray):
    described = json.loads((copy / "graph.json").read_text())
    as_0_1_0 = {name: value for name, value in described.items() if name not in {"files", "digest"}}
    (copy / "graph.json").write_text(json.dumps(as_0_1_0))
    load_graph(copy, "float32")
    compile_graph("openvino", fail, copy, "float32")
    assert json.loads((copy / "graph.json").read_text()) == described


@pytest.mark.parametrize("name", ["graph.xml", "graph.bin", "graph.json"])
def test_a_damaged_graph_is_refused_with_a_sentence(name: str, copy: Path):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(EngineError, match=r"Cannot read|cannot read"):
        load_graph(copy, "float32")


def test_a_graph_of_a_newer_featx_is_refused(copy: Path):
    description = json.loads((copy / "graph.json").read_text())
    content = {name: value for name, value in description.items() if name not in {"files", "digest"}}
    (copy / "graph.json").write_text(json.dumps({**content, "schema": 99}))
    with pytest.raises(EngineError, match="newer featx"):
        load_graph(copy, "float32")


def test_a_failed_conversion_leaves_nothing(tmp_path: Path, model: Any, monkeypatch: pytest.MonkeyPatch):
    import openvino

    def full_disk(*_args: Any, **_keywords: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(openvino, "save_model", full_disk)
    small = _smallest(model)
    with pytest.raises(StoreError, match="No space left"):
        compile_graph("openvino", lambda: small, tmp_path / "graph", "float32")
    assert list(tmp_path.iterdir()) == []


def test_a_limit_of_file_sizes_is_told_in_a_sentence(tmp_path: Path, model: Any):
    resource = pytest.importorskip("resource")  # which Windows lacks
    small = _smallest(model)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, usual[1]))
    try:
        with pytest.raises(StoreError, match=r"File too large\. Check the disk and its limits"):
            compile_graph("openvino", lambda: small, tmp_path / "graph", "float32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert list(tmp_path.iterdir()) == []


def test_of_two_conversions_the_first_stays(copy: Path, model: Any, images: np.ndarray):
    before = {path.name: path.stat().st_mtime_ns for path in copy.iterdir()}
    openvino_engine.convert(_smallest(model), copy)
    assert {path.name: path.stat().st_mtime_ns for path in copy.iterdir()} == before
    assert [path.name for path in copy.parent.iterdir()] == ["graph"]


# --- choosing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("installed", "gpu", "chosen"),
    [(True, False, "openvino"), (True, True, "tensorflow"), (False, False, "tensorflow")],
)
def test_auto(installed: bool, gpu: bool, chosen: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(choice, "_installed", lambda engine: installed or engine == "tensorflow")
    monkeypatch.setattr(choice, "has_gpu", lambda: gpu)
    assert choose_engine("auto") == chosen


def test_choosing_by_name(monkeypatch: pytest.MonkeyPatch):
    assert choose_engine("tensorflow") == "tensorflow"
    with pytest.raises(UsageError, match="Choose one of auto, openvino, tensorflow"):
        choose_engine("onnx")
    monkeypatch.setattr(choice, "_installed", lambda engine: engine == "tensorflow")
    with pytest.raises(EngineError, match="pip install openvino"):
        choose_engine("openvino")


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_hidden_gpu_is_none(hidden: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Path, "exists", lambda _: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert choice.has_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert not choice.has_gpu()


def test_choosing_imports_neither_library():
    code = """
import sys
from featx.engines.choice import choose_engine
choose_engine("auto")
print(sorted({"tensorflow", "keras", "openvino"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


class _SmallGPU:
    """Stands for a function whose GPU has memory for `fits` images at a time."""

    def __init__(self, function: Any, fits: int) -> None:
        self.function, self.fits, self.sizes = function, fits, []

    def __call__(self, images: Any) -> Any:
        import tensorflow as tf

        self.sizes.append(int(images.shape[0]))
        if images.shape[0] > self.fits:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        return self.function(images)


def _gpu_path(monkeypatch: pytest.MonkeyPatch, fits: int) -> _SmallGPU:
    """Force the path that a GPU takes onto this machine's CPU."""
    from featx.engines import precision
    from featx.engines import tensorflow as engine

    small = _SmallGPU(None, fits)

    def compile_with_xla(function: Any) -> Any:
        small.function = original(function)
        return small

    original = engine._compile_with_xla
    for module in (engine, precision):
        monkeypatch.setattr(module, "prepare_device", lambda: "GPU")
    monkeypatch.setattr(engine, "_compile_with_xla", compile_with_xla)
    monkeypatch.setattr(engine, "_PROBE_SECONDS", 0.01)
    return small


def test_the_gpu_path_finds_a_batch_size_that_fits(monkeypatch: pytest.MonkeyPatch, tiny_backbone: Path) -> None:
    from featx.engines.tensorflow import GPU_BATCHES, compile_graph

    small = _gpu_path(monkeypatch, fits=100)
    spec = resolve(FeaturesOptions(backbone=str(tiny_backbone)))
    output = Output("high", "avg")
    engine = compile_graph(lambda: open_network(spec).cut([output]), Path("unused"), "float32")
    assert engine.batch_size in GPU_BATCHES
    assert engine.batch_size <= 100
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    expected = open_network(spec).cut([output])(images.astype(np.float32))[output.name]
    np.testing.assert_allclose(engine.infer(images)[output.name], expected, rtol=1e-4, atol=1e-6)
    assert max(small.sizes) <= 128  # it went no further than the first that did not fit


def test_the_gpu_path_compiles_for_full_batches_and_for_few_images_alone(
    monkeypatch: pytest.MonkeyPatch, tiny_backbone: Path
) -> None:
    from featx.engines.tensorflow import compile_graph

    small = _gpu_path(monkeypatch, fits=100)
    spec, output = resolve(FeaturesOptions(backbone=str(tiny_backbone))), Output("high", "avg")
    engine = compile_graph(lambda: open_network(spec).cut([output]), Path("unused"), "float32", batch_size=4)
    images = np.random.default_rng(0).integers(0, 256, (11, 16, 16, 3), np.uint8)
    expected = open_network(spec).cut([output])(images.astype(np.float32))[output.name]
    for count in (11, 4, 1, 0, 7):
        found = engine.infer(images[:count])[output.name]
        assert found.shape == (count, *expected.shape[1:])
        np.testing.assert_allclose(found, expected[:count], rtol=1e-4, atol=1e-6)
    assert set(small.sizes) == {1, 4}  # a lone image does not cost a full batch
    assert small.function.experimental_get_tracing_count() == 2


def test_out_of_memory_halves_the_batch_instead_of_failing(
    monkeypatch: pytest.MonkeyPatch, tiny_backbone: Path
) -> None:
    from featx.engines.tensorflow import compile_graph

    small = _gpu_path(monkeypatch, fits=3)
    spec = resolve(FeaturesOptions(backbone=str(tiny_backbone)))
    output = Output("high", "avg")
    engine = compile_graph(lambda: open_network(spec).cut([output]), Path("unused"), "float32", batch_size=16)
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    expected = open_network(spec).cut([output])(images.astype(np.float32))[output.name]
    np.testing.assert_allclose(engine.infer(images)[output.name], expected, rtol=1e-4, atol=1e-6)
    assert engine.batch_size <= 3
    small.fits = 0
    with pytest.raises(EngineError, match="not enough memory for one image"):
        engine.infer(images[:1])


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_the_gpu_path_computes_in_mixed_precision_and_gives_float32(
    precision: str, monkeypatch: pytest.MonkeyPatch, tiny_backbone: Path
) -> None:
    from featx.engines import precision as device
    from featx.engines.tensorflow import compile_graph, require_precision

    _gpu_path(monkeypatch, fits=100)
    monkeypatch.setattr(device, "_capability", lambda: (8, 0))
    spec = resolve(FeaturesOptions(backbone=str(tiny_backbone)))
    outputs = [Output("high", "avg"), Output("low", "flatten")]
    require_precision(precision)
    short = compile_graph(lambda: open_network(spec).cut(outputs), Path("unused"), precision, batch_size=4)
    images = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), np.uint8)
    expected = open_network(spec).cut(outputs)(images.astype(np.float32))
    assert short.handover == 16
    for name, rows in short.infer(images).items():
        assert rows.dtype == np.float32
        assert not np.array_equal(rows, expected[name])
        error = np.abs(rows - expected[name]).max() / np.abs(expected[name]).max()
        assert error < {"float16": 2e-3, "bfloat16": 2e-2}[precision]


@pytest.mark.parametrize(
    ("capability", "works"), [((6, 1), ()), ((7, 5), ("float16",)), ((9, 0), ("float16", "bfloat16"))]
)
def test_the_card_decides_which_short_types_there_are(
    capability: tuple[int, int], works: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from featx.engines import precision as device

    monkeypatch.setattr(device, "prepare_device", lambda: "GPU")
    monkeypatch.setattr(device, "_capability", lambda: capability)
    for precision in ("float16", "bfloat16"):
        if precision in works:
            device.require_precision(precision)
        else:
            with pytest.raises(EngineError, match="Choose --precision float32"):
                device.require_precision(precision)


def test_a_conversion_sends_nothing_whoever_imported_the_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = import_keras()
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, {"x": keras.layers.GlobalAveragePooling2D()(inputs)})
    to_openvino(model)  # imports the converter
    from openvino.tools.ovc import convert_impl, telemetry_utils

    sent: list[object] = []
    telemetry = SimpleNamespace(Telemetry=lambda *_, **__: sent.append("made") or telemetry)
    for module in (convert_impl, telemetry_utils):
        monkeypatch.setattr(module, "tm", telemetry)
    to_openvino(model)
    assert not sent
    assert convert_impl.tm is telemetry_utils.tm is telemetry
