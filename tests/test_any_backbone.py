"""A network of a hub and a graph file through every part that knows nothing of where a network came from.

Each answer is compared with features that KerasHub or ONNX Runtime computes, and with what NumPy makes of them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("keras_hub")

from arrays import arrays_of
from cached import extract
from fitted import call
from graphs import run_onnx, save_transformer
from hubs import SIDE, VALUES, run_blocks, save_folder
from PIL import Image
from serving import same_answers, served
from test_cluster import Inline
from test_graph_pipeline import write_colours

import featx
from featx.bundle.bundle import load_bundle
from featx.config import DataOptions, FeaturesOptions
from featx.dataset import read_images
from featx.extraction.ray import flow as ray

TEXT = "Permission is given to use these weights, with this text.\n"


@dataclass
class Place:
    """A folder with images, one network, and what was fitted on its third block."""

    root: Path
    network: str
    blocks: Any  # of KerasHub; None of the graph file

    @property
    def options(self) -> dict[str, Any]:
        """Of its features."""
        return {"backbone": self.network, "layer": ("block3@avg",), "storage": "float32"}

    def run(self, *words: object, status: int = 0) -> Any:
        """What a command prints with --json."""
        done = call(*map(str, words), "--json", cwd=self.root)
        assert done.status == status, done.err
        return done.json

    @cached_property
    def bundle(self) -> str:
        flags = ("--backbone", self.network, "--layer", "block3@avg", "--storage", "float32")
        return self.run("fit-head", "images", *flags, "--clf", "logreg", "--no-html")["bundle"]

    @cached_property
    def paths(self) -> list[str]:
        """Every image, as seen from the folder."""
        return sorted(str(path.relative_to(self.root)) for path in (self.root / "images").rglob("*.png"))

    @cached_property
    def features(self) -> np.ndarray:
        """What KerasHub or ONNX Runtime makes of the images, averaged over the patches."""
        side = SIDE if self.blocks is not None else 32
        images = [Image.open(self.root / path).convert("RGB") for path in self.paths]
        if side != 32:
            images = [image.resize((side, side), Image.Resampling.BILINEAR) for image in images]
        pixels = np.stack([np.asarray(image) for image in images])
        if self.blocks is not None:
            return run_blocks(self.blocks, pixels)["block3"][:, 3:].mean(axis=1)
        given = ((pixels / 255 - VALUES["mean"]) / VALUES["std"]).astype(np.float32).transpose(0, 3, 1, 2)
        tokens = run_onnx(self.root / self.network, ["layer3/out"], np.ascontiguousarray(given))["layer3/out"]
        return tokens[:, 1:].mean(axis=1)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """The head on these, in NumPy."""
        head = arrays_of(self.root / self.bundle / "head.npz")
        logits = self.features @ head["kernel"] + head["bias"]
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    def check(self, predictions: list[dict[str, Any]]) -> None:
        """Predictions of all images, in order, against the probabilities."""
        classes = load_bundle(self.root / self.bundle).classes
        assert [one["label"] for one in predictions] == [classes[row] for row in self.probabilities.argmax(axis=1)]
        found = [one["confidence"] for one in predictions]
        np.testing.assert_allclose(found, self.probabilities.max(axis=1), rtol=1e-3)


@pytest.fixture(scope="module", params=["hub", "graph"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp(request.param)
    write_colours(root / "images", count=6)
    (root / "licence.txt").write_text("Of something else that lies in this folder.\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(root)
        if request.param == "hub":
            blocks = save_folder(root / "net")
            (root / "net" / "LICENSE.md").write_text(TEXT)
            (root / "net" / "README.md").write_text("---\nlicense: other\nlicense_name: lab-terms\n---\n# A network\n")
            yield Place(root, "net", blocks)
        else:
            save_transformer(root / "net.onnx")
            (root / "net.json").write_text(json.dumps(VALUES))
            (root / "net.LICENSE").write_text(TEXT)
            yield Place(root, "net.onnx", None)


def test_its_features_are_those_of_another_runtime(place: Place) -> None:
    arrays = featx.read_features("images", **place.options)
    rows = {str(path): row for row, path in enumerate(arrays.paths)}
    found = arrays.X[[rows[str(place.root / path)] for path in place.paths]]
    np.testing.assert_allclose(found, place.features, rtol=1e-3, atol=1e-4)


def test_workers_of_a_cluster_compute_the_same(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def connect(_: str) -> Iterator[Inline]:
        yield Inline()

    monkeypatch.setattr(ray, "connect", connect)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert place.bundle  # the network is converted
    shutil.copytree("cache", "elsewhere", ignore=shutil.ignore_patterns("*@*"))
    options = FeaturesOptions(**place.options, cluster="local", cache="elsewhere")
    images = read_images("images", DataOptions())
    done = extract(images, options)
    assert (done.computed, len(done.workers)) == (len(place.paths), 2)
    found = done.features(done.outputs[0], np.flatnonzero(done.readable)).asarray()
    order = np.argsort([str(path) for path in images.paths])
    np.testing.assert_allclose(found[order], place.features, rtol=1e-3, atol=1e-4)


def test_predicted_evaluated_and_served(place: Place) -> None:
    predicted = place.run("predict", *place.paths, "--top", "3", "--model", place.bundle)["predictions"]
    place.check(predicted)
    model = featx.load(place.bundle)
    np.testing.assert_allclose(model.predict_proba(place.paths), place.probabilities, rtol=1e-3, atol=1e-6)
    found = place.run("evaluate", place.bundle, "--data", "images")
    right = np.mean([one["label"] == Path(one["path"]).parent.name for one in predicted])
    assert found["accuracy"] == pytest.approx(right)
    with served(load_bundle(place.root / place.bundle)) as client:
        answer = post(client, place.paths)
    named = [one | {"path": path} for one, path in zip(predicted, place.paths, strict=True)]  # as they were sent
    assert same_answers(answer, named)


def post(client: httpx.Client, paths: list[str]) -> list[dict[str, Any]]:
    files = [("images", (path, Path(path).read_bytes())) for path in paths]
    return client.post("/predict?top=3", files=files).json()["predictions"]


def test_the_most_similar_is_the_nearest_by_cosine(place: Place) -> None:
    unit = place.features / np.linalg.norm(place.features, axis=1, keepdims=True)
    near = unit @ unit.T
    np.fill_diagonal(near, -1)
    (found,) = place.run("similar", place.paths[4], "--model", place.bundle, "--data", "images", "--top", "3")["images"]
    others = [one for one in found["similar"] if not one["path"].endswith(place.paths[4])]
    assert others[0]["path"].endswith(place.paths[int(near[4].argmax())])
    assert others[0]["similarity"] == pytest.approx(near[4].max(), abs=1e-3)


def test_explained_exactly(place: Place) -> None:
    head = arrays_of(place.root / place.bundle / "head.npz")
    row = int(place.probabilities[0].argmax())
    (found,) = featx.load(place.bundle).explain([place.paths[0]])
    assert found.method == "cam"
    bias = found.classes[0].bias
    whole = sum(float(value.mean()) for name, value in found.classes[0].maps.items() if name != "sum") + bias
    logit = place.features[0] @ head["kernel"][:, row] + head["bias"][row]
    assert whole == pytest.approx(float(logit), rel=1e-3, abs=1e-3)


def test_exported_with_its_licence(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = pytest.importorskip("openvino")
    monkeypatch.setattr("featx.inference.speed._LEAST_SECONDS", 0.0)
    monkeypatch.setattr("featx.inference.speed._LEAST_CALLS", 1)
    (done,) = place.run("export", place.bundle, "--format", "openvino", "--out", "out")["exports"]
    folder = place.root / done["path"]
    network = openvino.Core().compile_model(str(folder / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    side = SIDE if place.blocks is not None else 32
    image = Image.open(place.root / place.paths[1]).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    found = np.asarray(network({"images": np.asarray(image)[None]})["probabilities"])
    np.testing.assert_allclose(found[0], place.probabilities[1], rtol=1e-3, atol=1e-6)
    (text,) = json.loads((folder / "model.json").read_text())["license"]["texts"]
    assert (folder / text).read_text() == TEXT


def test_its_licence_goes_with_the_bundle(place: Place) -> None:
    backbone = json.loads((place.root / place.bundle / "bundle.json").read_text())["backbone"]
    text = "licenses/LICENSE.md" if place.blocks is not None else "licenses/net.LICENSE"
    assert (place.root / place.bundle / text).read_text() == TEXT
    card = call("bundle", "card", place.bundle, cwd=place.root).out
    assert f"is in the bundle: `{text}`" in card
    printed = call("bundle", "pack", place.bundle, "--out", "net.featx", "--force", cwd=place.root).out
    if place.blocks is None:  # whose file names none
        assert backbone["license"] is None
    else:
        assert (backbone["license"], backbone["license_source"]) == ("lab-terms", "README.md of net")
        assert "are under lab-terms, according to README.md of net" in card
        assert f"The weights of net are under lab-terms; its text is in {text}." in printed


def test_compared(place: Place) -> None:
    """Its features are cached, and the head is that of the bundle: what `evaluate` finds is what is compared."""
    flags = ("--layer", "block3@avg", "--set", "features.storage=float32", "--clf", "logreg", "--no-html")
    (row,) = place.run("compare", "images", "--backbone", place.network, *flags)["rows"]
    manifest = load_bundle(place.root / place.bundle).manifest
    assert (row["backbone"], row["layer"]) == ("net", "block3@avg")
    assert row["score"] == pytest.approx(manifest.score.value)
