"""KerasHub's transformers, fine-tuned: from where the head stands, block by block, from cached tokens, and resumed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras_hub")

from cached import prepare
from fitted import call
from hubs import SIDE, save_folder
from kills import Kill
from test_from_cache import curve, moved, tune, weights
from test_graph_pipeline import write_colours

from featx.backbones import clean_cuts, list_layers, resolve, split_network
from featx.backbones.build import build
from featx.bundle.bundle import Bundle
from featx.config import DataOptions, FeaturesOptions, FinetuneOptions, HeadOptions, Pipeline, ReportOptions
from featx.finetune.flow import graft
from featx.finetune.unfreezing import Unfreezing
from featx.heads.persist import load_network
from featx.io.context import Context
from featx.runs.prepared import Prepared
from featx.runs.run import Run
from featx.workflow.publish import publish_finetuned, publish_head

FAMILIES = ("dinov2", "dinov3", "vit")
GRAPH = "dinov3"  # the family that is trained by graph; to trace those of all three takes longer than their steps
BLOCKS = ["block1", "block2"]
PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8).astype(np.float32)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub-finetune")
    write_colours(folder / "images", count=8)
    for family in FAMILIES:
        save_folder(folder / family, family, blocks=len(BLOCKS))
    return folder


def make(root: Path, family: str) -> tuple[Prepared, Bundle]:
    """A head on the class token and the average behind the last block, and the tokens below it, in the cache.

    Who needs no graph of OpenVINO converts none.
    """
    pipeline = Pipeline(
        data=DataOptions(path=str(root / "images"), split=(0.5, 0.25, 0.25)),
        features=FeaturesOptions(
            backbone=str(root / family),
            layer=("output@cls+avg", f"{BLOCKS[0]}@none"),
            storage="float32",
            cache=str(root / "cache"),
            engine="tensorflow",
        ),
        head=HeadOptions(strength=0.01),
        finetune=FinetuneOptions(epochs=2, batch_size=5, learning_rate=1e-3),
        report=ReportOptions(runs=str(root / "runs"), name="images", html=False),
    )
    prepared = prepare(pipeline)
    return prepared, publish_head(replace(prepared, run=Run(root / "runs" / family)))


@pytest.fixture
def graph_of_one(request: pytest.FixtureRequest, family: str) -> None:
    """Trains all families but one op by op: what they compute and what is kept of it is the same."""
    if family != GRAPH:
        request.getfixturevalue("op_by_op")


@pytest.fixture(scope="module")
def made(root: Path) -> dict[str, tuple[Prepared, Bundle]]:
    return {family: make(root, family) for family in FAMILIES}


def test_without_kerashub_nothing_is_extracted(
    made: dict[str, tuple[Prepared, Bundle]], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keras_hub", None)  # importing it fails
    bundle = made["vit"][1].path
    found = call("finetune", root / "images", "--from", bundle, "--cache", "cache", cwd=tmp_path)
    assert found.status == 1
    assert "This network needs KerasHub: pip install 'featx[hub]'" in found.sentence
    assert not list(tmp_path.rglob("*.h5"))


@pytest.mark.parametrize("family", FAMILIES)
def test_before_its_first_step_it_gives_the_logits_of_the_head(
    made: dict[str, tuple[Prepared, Bundle]], family: str
) -> None:
    bundle = made[family][1]
    features = load_network(bundle.path / "backbone.keras")(PIXELS, training=False)["output@cls+avg"]
    expected = bundle.head(np.asarray(features))
    found = np.asarray(graft(bundle)(PIXELS, training=False))
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_block_is_a_clean_cut_whose_halves_are_the_network(root: Path, family: str) -> None:
    spec = resolve(FeaturesOptions(backbone=str(root / family)))
    clean = [one.name for one in list_layers(spec) if one.clean_cut]
    assert {*BLOCKS, "output"} <= set(clean)
    network = build(spec)
    clean.remove("image")
    assert clean == clean_cuts(network)
    expected = np.asarray(network(PIXELS, training=False))
    for layer in clean:
        halves = split_network(network, layer)
        between = halves.lower(PIXELS, training=False)
        np.testing.assert_allclose(halves.upper(between, training=False), expected, rtol=1e-4, atol=1e-5)


def test_what_is_unfrozen_is_blocks(made: dict[str, tuple[Prepared, Bundle]]) -> None:
    model = graft(made["dinov2"][1])
    for unfreeze, number, trains in (("block1", 2, ["embeddings", *BLOCKS]), ("block2", 1, ["block2"])):
        unfreezing = Unfreezing(model, ["featx_head"], unfreeze, gradual=1, layer_decay=0.5)
        assert [block.name for block in unfreezing.blocks] == BLOCKS
        assert unfreezing.epochs_until_all == number
        assert [group.share for group in unfreezing.set_all()] == [1.0, 0.5, 0.25][: number + 1]
        trained = [{variable.path.split("/")[0] for variable in unfreezing.set(epoch)} for epoch in range(3)]
        assert trained[0] == {"featx_head"}
        assert {layer.name for layer in model.layers if layer.trainable and layer.trainable_variables} == {
            "featx_head", *trains, "output",
        }  # fmt: skip


@pytest.mark.usefixtures("graph_of_one")
@pytest.mark.parametrize("family", [GRAPH, *(pytest.param(name, marks=pytest.mark.slow) for name in ("dinov2", "vit"))])
def test_from_cached_tokens_it_is_the_network_that_fine_tuning_the_whole_gives(
    made: dict[str, tuple[Prepared, Bundle]], tmp_path: Path, family: str
) -> None:
    """All blocks: see the test of a training that is killed."""
    below, last = BLOCKS
    gradual = {"gradual": 1, "layer_decay": 0.5} if family == "dinov2" else {}
    options = {"unfreeze": last, "optimizer": "sgd", **gradual}
    whole = tune(made[family], tmp_path / "whole", **options)
    prepared, start = made[family]
    converting = replace(prepared.pipeline, features=replace(prepared.pipeline.features, engine="auto"))
    with_graph = replace(prepared, pipeline=converting), start
    found = tune(with_graph, tmp_path / "cached", from_cache=below, **options)
    for series in ("loss", "val_log_loss"):
        np.testing.assert_allclose(curve(found, series), curve(whole, series), rtol=1e-4, atol=1e-5)
    assert curve(found, "loss")[-1] < curve(found, "loss")[0]
    assert moved(start, found) == moved(start, whole) == {last, "output", "head"}
    for name, arrays in weights(whole).items():
        for one, other in zip(arrays, weights(found)[name], strict=True):
            np.testing.assert_allclose(other, one, atol=1e-4 * max(1.0, float(np.abs(one).max())), err_msg=name)
    expected = load_network(whole.path / "backbone.keras")(PIXELS, training=False)["output@cls+avg"]
    np.testing.assert_allclose(found.features(PIXELS.astype(np.uint8)), expected, rtol=1e-3, atol=1e-3)  # of its graph


# Adam, the default, has most to keep; the momentum of SGD is kept as well, and takes half as long to trace.
OPTIMIZERS = {"dinov2": "adam", "dinov3": "sgd", "vit": "sgd"}


@pytest.mark.slow
@pytest.mark.usefixtures("deterministic", "graph_of_one")
@pytest.mark.parametrize("family", FAMILIES)
def test_killed_in_an_epoch_and_resumed_it_ends_with_the_same_weights(
    made: dict[str, tuple[Prepared, Bundle]], tmp_path: Path, family: str
) -> None:
    """After the first of two epochs and one step, with all blocks."""
    prepared, start = made[family]
    options = replace(prepared.pipeline.finetune, unfreeze="all", optimizer=OPTIMIZERS[family])
    prepared = replace(prepared, pipeline=replace(prepared.pipeline, finetune=options))
    kill = Kill(tmp_path / "whole", tmp_path / "part", "epoch 2/2")
    whole = publish_finetuned(start, replace(prepared, run=Run(kill.run)), kill.context)
    assert list(kill.left.glob(".finetune-*"))
    told: list[str] = []
    resumed = publish_finetuned(start, replace(prepared, run=Run(kill.left)), Context(notify=told.append))
    assert told[0] == "Going on after epoch 1."
    expected, found = weights(whole), weights(resumed)
    assert expected.keys() == found.keys()
    for name, arrays in expected.items():
        for one, other in zip(arrays, found[name], strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)
    assert moved(start, resumed) >= {*BLOCKS, "output", "head"}
    assert curve(resumed, "loss")[-1] < curve(resumed, "loss")[0]
