"""KerasHub's transformers, fine-tuned: from where the head stands, block by block, from cached tokens, and resumed."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras_hub")

from cached import prepare
from conftest import environment
from fitted import call
from hubs import SIDE, save_folder
from test_from_cache import curve, moved, tune, weights
from test_graph_pipeline import write_colours

from featx.backbones import clean_cuts, list_layers, resolve, split_network
from featx.backbones.build import build
from featx.bundle.bundle import Bundle, load_bundle
from featx.config import DataOptions, FeaturesOptions, FinetuneOptions, HeadOptions, Pipeline, ReportOptions
from featx.finetune.flow import graft
from featx.finetune.unfreezing import Unfreezing
from featx.heads.persist import load_network
from featx.runs.prepared import Prepared
from featx.runs.run import Run
from featx.workflow.publish import publish_head

FAMILIES = ("dinov2", "dinov3", "vit")
PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8).astype(np.float32)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub-finetune")
    write_colours(folder / "images", count=8)
    for family in FAMILIES:
        save_folder(folder / family, family)
    return folder


def make(root: Path, family: str, **head: Any) -> tuple[Prepared, Bundle]:
    """A head on the class token and the average behind the last block."""
    pipeline = Pipeline(
        data=DataOptions(path=str(root / "images"), split=(0.5, 0.25, 0.25)),
        features=FeaturesOptions(
            backbone=str(root / family), layer=("output@cls+avg",), storage="float32", cache=str(root / "cache")
        ),
        head=HeadOptions(strength=0.01, epochs=3, hidden="16", **head),
        finetune=FinetuneOptions(epochs=2, batch_size=5, learning_rate=1e-3),
        report=ReportOptions(runs=str(root / "runs"), name="images", html=False),
    )
    prepared = prepare(pipeline)
    return prepared, publish_head(replace(prepared, run=Run(root / "runs" / family)))


@pytest.fixture(scope="module")
def made(root: Path) -> dict[str, tuple[Prepared, Bundle]]:
    return {family: make(root, family) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_before_its_first_step_it_gives_the_logits_of_the_head(
    made: dict[str, tuple[Prepared, Bundle]], family: str
) -> None:
    bundle = made[family][1]
    features = load_network(bundle.path / "backbone.keras").predict(PIXELS, verbose=0)["output@cls+avg"]
    expected = bundle.head(features)
    found = np.asarray(graft(bundle)(PIXELS, training=False))
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_block_is_a_clean_cut_whose_halves_are_the_network(root: Path, family: str) -> None:
    spec = resolve(FeaturesOptions(backbone=str(root / family)))
    clean = [one.name for one in list_layers(spec) if one.clean_cut]
    assert {"block1", "block2", "block3", "output"} <= set(clean)
    network = build(spec)
    clean.remove("image")
    assert clean == clean_cuts(network)
    expected = network.predict(PIXELS, verbose=0)
    for layer in clean:
        halves = split_network(network, layer)
        between = halves.lower.predict(PIXELS, verbose=0)
        np.testing.assert_allclose(halves.upper.predict(between, verbose=0), expected, rtol=1e-4, atol=1e-5)


def test_what_is_unfrozen_is_blocks(made: dict[str, tuple[Prepared, Bundle]]) -> None:
    model = graft(made["dinov2"][1])
    unfreezing = Unfreezing(model, ["featx_head"], "block2", gradual=1, layer_decay=0.5)
    assert [block.name for block in unfreezing.blocks] == ["block1", "block2", "block3"]
    assert unfreezing.epochs_until_all == 2
    shares = [group.share for group in unfreezing.set_all()]
    assert shares == [1.0, 0.5, 0.25]
    trained = [{variable.path.split("/")[0] for variable in unfreezing.set(epoch)} for epoch in range(3)]
    assert trained[0] == {"featx_head"}
    assert {layer.name for layer in model.layers if layer.trainable and layer.trainable_variables} == {
        "featx_head", "block2", "block3", "output",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("dinov2", {"unfreeze": "all"}),
        ("dinov3", {"unfreeze": "all"}),
        ("dinov2", {"unfreeze": "block3", "gradual": 1, "layer_decay": 0.5}),
        pytest.param("vit", {"unfreeze": "all"}, marks=pytest.mark.slow),
    ],
)
def test_what_is_unfrozen_moves(
    made: dict[str, tuple[Prepared, Bundle]], tmp_path: Path, family: str, options: dict[str, Any]
) -> None:
    found = tune(made[family], tmp_path / "run", **options)
    blocks = {name for name in moved(made[family][1], found) if name.startswith("block")}
    assert blocks == ({"block1", "block2", "block3"} if options["unfreeze"] == "all" else {"block3"})
    assert curve(found, "loss")[-1] < curve(found, "loss")[0]


@pytest.mark.parametrize(
    "family", ["dinov3", *(pytest.param(name, marks=pytest.mark.slow) for name in ("dinov2", "vit"))]
)
def test_from_cached_tokens_it_is_the_network_that_fine_tuning_the_whole_gives(
    made: dict[str, tuple[Prepared, Bundle]], tmp_path: Path, family: str
) -> None:
    options = {"unfreeze": "block3", "optimizer": "sgd"}
    whole = tune(made[family], tmp_path / "whole", **options)
    found = tune(made[family], tmp_path / "cached", from_cache="block2", **options)
    for series in ("loss", "val_log_loss"):
        np.testing.assert_allclose(curve(found, series), curve(whole, series), rtol=1e-4, atol=1e-5)
    assert moved(made[family][1], found) == moved(made[family][1], whole) == {"block3", "output", "head"}
    for name, arrays in weights(whole).items():
        for one, other in zip(arrays, weights(found)[name], strict=True):
            np.testing.assert_allclose(other, one, atol=1e-4 * max(1.0, float(np.abs(one).max())), err_msg=name)
    mine, other = (one.features(PIXELS.astype(np.uint8)) for one in (found, whole))  # of their graphs
    np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-3)


# Ends without notice in front of a step.
_WORKER = """
import os, signal, sys
import tensorflow as tf
tf.config.experimental.enable_op_determinism()
from featx.cli import main
from featx.training.network import Network
step, taken = Network.step, 0
def dying(self, *arguments):
    global taken
    taken += 1
    if taken == int(os.environ.get("DIE_AT", "-1")):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *arguments)
Network.step = dying
main(sys.argv[1:])
"""
STEPS = 3  # of an epoch: 13 images, five at a time


def run_worker(folder: Path, *arguments: str, **more: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _WORKER, *arguments],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        timeout=240,
    )
    return done.returncode


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("family", FAMILIES)
def test_killed_in_an_epoch_and_resumed_it_ends_with_the_same_weights(
    made: dict[str, tuple[Prepared, Bundle]], root: Path, tmp_path: Path, family: str
) -> None:
    start = made[family][1]
    options = ("finetune", str(root / "images"), "--from", str(start.path), "--unfreeze", "block2", "--epochs", "3",
               "--batch-size", "5", "--learning-rate", "0.001", "--split", "0.5,0.25,0.25", "--no-html",
               "--backbone", str(root / family), "--layer", "output@cls+avg", "--storage", "float32",
               "--cache", str(root / "cache"))  # fmt: skip
    assert call(*options, "--name", "whole", cwd=tmp_path).status == 0
    assert run_worker(tmp_path, *options, "--name", "part", DIE_AT=str(STEPS + 2)) == -signal.SIGKILL
    assert not list((tmp_path / "runs" / "part").glob("*-finetuned"))
    assert list((tmp_path / "runs" / "part").glob(".finetune-*"))
    assert call(*options, "--name", "part", cwd=tmp_path).status == 0
    (whole,), (resumed,) = (list((tmp_path / "runs" / name).glob("*-finetuned")) for name in ("whole", "part"))
    expected, found = weights(load_bundle(whole)), weights(load_bundle(resumed))
    assert expected.keys() == found.keys()
    for name, arrays in expected.items():
        for one, other in zip(arrays, found[name], strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)
    assert moved(start, load_bundle(resumed)) >= {"block2", "block3", "output", "head"}
