"""Exact maps of linear heads on tokens and on graph files, against ONNX Runtime and KerasHub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from arrays import arrays_of
from cached import prepare
from graphs import run_onnx, save_residual_net, save_transformer
from test_graph_pipeline import write_colours

from featx.backbones import cell_shares
from featx.bundle.bundle import Bundle
from featx.config import DataOptions, FeaturesOptions, HeadOptions, Pipeline, ReportOptions
from featx.errors import BundleError
from featx.inference.explain import Explainer, Explanation
from featx.workflow.publish import publish_head

Fit = Callable[..., Bundle]
PIXELS = np.random.default_rng(2).integers(0, 256, (3, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    write_colours(folder / "images", count=8)
    save_residual_net(folder / "net.onnx")
    save_transformer(folder / "vit.onnx")
    save_residual_net(folder / "one.onnx", batch=1)
    return folder


@pytest.fixture(scope="module")
def fit(root: Path) -> Fit:
    def make(network: str, *layers: str, **head: Any) -> Bundle:
        pipeline = Pipeline(
            data=DataOptions(path=str(root / "images"), split=(0.5, 0.25, 0.25)),
            features=FeaturesOptions(
                backbone=str(root / network),
                layer=layers,
                cache=str(root / "cache"),
                preprocessing="half" if network.endswith(".onnx") else "auto",
                engine="tensorflow" if layers[-1].startswith("output") else "auto",  # which converts nothing
            ),
            head=HeadOptions(**{"clf": "logreg", "strength": 0.1, "combine": "all"} | head),
            report=ReportOptions(runs=str(root / "runs"), name="images", html=False),
        )
        return publish_head(prepare(pipeline))

    return make


def tensor(root: Path, network: str, name: str, pixels: np.ndarray) -> np.ndarray:
    """A tensor of the file, float32 (n, tokens, channels) or (n, height, width, channels)."""
    given = np.ascontiguousarray((pixels / 127.5 - 1).astype(np.float32).transpose(0, 3, 1, 2))
    found = run_onnx(root / network, [name], given)[name]
    return found if found.ndim == 3 else found.transpose(0, 2, 3, 1)


def explain(bundle: Bundle, pixels: np.ndarray = PIXELS) -> list[Explanation]:
    """Every class of every image."""
    return Explainer(bundle, "cam", top=3).explain_images(pixels, [str(i) for i in range(len(pixels))])


def kernel_of(bundle: Bundle) -> np.ndarray:
    return arrays_of(bundle.path / "head.npz")["kernel"]


def check_sums(bundle: Bundle, found: list[Explanation], pixels: np.ndarray = PIXELS) -> None:
    """The means of the maps and the bias are the logit, which is that of the bundle's own engine and head."""
    logits = bundle.head(bundle.transform.apply(bundle.features(pixels)))
    for row, one in enumerate(found):
        assert len(one.classes) == 3
        for explained in one.classes:
            column = bundle.classes.index(explained.label)
            maps = [value for name, value in explained.maps.items() if name != "sum"]
            assert explained.bias is not None
            whole = sum(float(value.mean()) for value in maps) + explained.bias
            assert whole == pytest.approx(logits[row, column], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(("network", "shape"), [("net.onnx", (16, 16)), ("one.onnx", (16, 16)), ("vit.onnx", (4, 4))])
def test_an_average_of_a_graph_file_is_the_head_at_every_place(
    root: Path, fit: Fit, network: str, shape: tuple[int, int]
) -> None:
    bundle = fit(network, "block2@avg")
    found = explain(bundle)
    check_sums(bundle, found)
    name = "layer2/out" if network == "vit.onnx" else "b2/out"
    values = [tensor(root, network, name, PIXELS[row : row + 1])[0] for row in range(3)]
    for one, value in zip(found, values, strict=True):
        places = value[1:].reshape(4, 4, -1) if network == "vit.onnx" else value
        for explained in one.classes:
            column = kernel_of(bundle)[:, bundle.classes.index(explained.label)]
            assert explained.map.shape == shape
            np.testing.assert_allclose(explained.map, places @ column, rtol=1e-3, atol=1e-3)


def test_what_the_class_token_adds_is_in_the_bias(root: Path, fit: Fit) -> None:
    bundle = fit("vit.onnx", "block3@cls+avg")
    found = explain(bundle)
    check_sums(bundle, found)
    tokens, bias = tensor(root, "vit.onnx", "layer3/out", PIXELS), arrays_of(bundle.path / "head.npz")["bias"]
    for row, one in enumerate(found):
        for explained in one.classes:
            k = bundle.classes.index(explained.label)
            token, average = np.split(kernel_of(bundle)[:, k], 2)
            np.testing.assert_allclose(explained.map, (tokens[row, 1:] @ average).reshape(4, 4), rtol=1e-3, atol=1e-3)
            assert explained.bias == pytest.approx(float(tokens[row, 0] @ token + bias[k]), rel=1e-3, abs=1e-3)


def test_cells_of_tokens_have_weights_of_their_own(root: Path, fit: Fit) -> None:
    bundle = fit("vit.onnx", "block1@grid:3")
    found = explain(bundle)
    check_sums(bundle, found)
    patches = tensor(root, "vit.onnx", "layer1/out", PIXELS)[:, 1:].reshape(3, 4, 4, -1)
    shares = cell_shares(4, 3)
    for row, one in enumerate(found):
        for explained in one.classes:
            cells = kernel_of(bundle)[:, bundle.classes.index(explained.label)].reshape(3, 3, -1)
            weights = np.einsum("hi,wj,ijc->hwc", shares, shares, cells)
            np.testing.assert_allclose(explained.map, 16 * (patches[row] * weights).sum(axis=-1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("network", "layers", "head"),
    [
        ("vit.onnx", ("block2@flatten",), {}),
        ("net.onnx", ("block1@grid:3",), {"normalize": "l2"}),
        ("net.onnx", ("block1@flatten",), {"pca": 12.0}),
        ("vit.onnx", ("block1@cls", "block2@avg", "block3@cls+avg"), {"normalize": "l2"}),
    ],
)
def test_maps_and_bias_are_the_logit(fit: Fit, network: str, layers: tuple[str, ...], head: dict[str, Any]) -> None:
    bundle = fit(network, *layers, **head)
    found = explain(bundle)
    check_sums(bundle, found)
    placed = [name for name in layers if not name.endswith("@cls")]
    assert [name for name in found[0].classes[0].maps if name != "sum"] == placed


@pytest.mark.parametrize(
    ("network", "layers", "head"),
    [
        ("vit.onnx", ("block3@cls",), {}),
        ("net.onnx", ("block3@max",), {}),
        ("net.onnx", ("block3@avg",), {"clf": "knn", "strength": 3}),
    ],
)
def test_where_nothing_is_exact_squares_are_covered(
    fit: Fit, network: str, layers: tuple[str, ...], head: dict[str, Any]
) -> None:
    bundle = fit(network, *layers, **head)
    assert Explainer(bundle).method == "occlusion"
    for method in ("cam", "gradcam"):
        with pytest.raises(BundleError, match="Choose --method auto"):
            _ = Explainer(bundle, method).method  # type: ignore[arg-type]


@pytest.mark.usefixtures("op_by_op")  # heads are trained for two epochs
def test_the_tokens_of_keras_hub(root: Path, fit: Fit) -> None:
    pytest.importorskip("keras_hub")
    from hubs import SIDE, run_blocks, save_folder

    network = save_folder(root / "dinov2", blocks=2)
    pixels = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    bundle = fit("dinov2", "block1@grid:2", "block2@cls+avg")
    assert Explainer(bundle).method == "cam"
    found = explain(bundle, pixels)
    check_sums(bundle, found, pixels)
    tokens, half = run_blocks(network, pixels)["block2"], 4 * 48
    for row, one in enumerate(found):
        for explained in one.classes:
            average = kernel_of(bundle)[half + 48 :, bundle.classes.index(explained.label)]
            expected = (tokens[row, 3:] @ average).reshape(4, 4)
            np.testing.assert_allclose(explained.maps["block2@cls+avg"], expected, rtol=1e-3, atol=1e-3)
    assert Explainer(fit("dinov2", "output@cls+avg", clf="dense", epochs=2)).method == "occlusion"
    sloped = Explainer(fit("dinov2", "output@avg", clf="dense", epochs=2))
    assert sloped.method == "gradcam"
    assert sloped.explain_images(pixels[:1], ["x"])[0].classes[0].map.shape == (4, 4)
    linear = fit("dinov2", "output@avg")
    both = [Explainer(linear, method).explain_images(pixels[:1], ["x"])[0] for method in ("cam", "gradcam")]
    np.testing.assert_allclose(*(one.classes[0].map for one in both), rtol=1e-3, atol=1e-4)
