"""Fine-tuning on cached maps: the same network as fine-tuning it whole, and nothing below the cached layer runs."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arrays import arrays_of, weights_of
from cached import images_of_part, list_stores, prepare
from fitted import call, evaluate, with_finetune, write_pictures

from featx.bundle.bundle import Bundle, load_bundle
from featx.config import (
    AugmentOptions,
    DataOptions,
    FeaturesOptions,
    FinetuneOptions,
    HeadOptions,
    Pipeline,
    ReportOptions,
)
from featx.config.features import EngineName
from featx.dataset import TRAIN
from featx.errors import BackboneError, BundleError, UsageError
from featx.extraction import work
from featx.finetune.flow import graft
from featx.finetune.untrained import Untrained
from featx.io.context import Context
from featx.runs.prepared import Prepared
from featx.runs.run import Run
from featx.training.source import ImageSource
from featx.workflow.publish import publish_finetuned, publish_head

CUT = "middle"
HALF = {"optimizer": "sgd", "learning_rate": 1e-4}
# Takes the least to trace: where it does not matter what trains, or how.
LITTLE = {"unfreeze": "none", "optimizer": "sgd"}


def write_network(path: Path) -> Path:
    """Convolutions with batch normalisation, dropout and a branch on both sides of the layer `middle`."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(5)
    x = inputs = keras.Input((32, 32, 3), name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(x)
    for name in ("low", "high"):
        x = layers.Conv2D(12, 3, 2, "same", use_bias=False, name=f"{name}_conv")(x)
        x = layers.BatchNormalization(name=f"{name}_bn")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
        left = layers.Conv2D(12, 3, 1, "same", activation="relu", name=f"{name}_left")(x)
        x = layers.Add(name=CUT if name == "low" else "last")([x, left])
        if name == "low":
            left = x = layers.SpatialDropout2D(0.1, name="drop")(x)
    model = keras.Model(inputs, x)
    generator = np.random.default_rng(4)
    for name in ("low_bn", "high_bn"):
        norm = model.get_layer(name)
        ranges = ((0.5, 1.5), (-0.5, 0.5), (-0.2, 0.2), (0.1, 0.4))  # gamma, beta, mean, variance
        norm.set_weights([generator.uniform(*ends, 12) for ends in ranges])
    model.save(path)
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("from-cache")
    write_pictures(folder / "pictures")
    write_network(folder / "net.keras")
    return folder


def pipeline_of(root: Path, engine: EngineName = "tensorflow", **features: Any) -> Pipeline:
    """Where no graph of OpenVINO is asked for, none is converted."""
    given = FeaturesOptions(backbone=str(root / "net.keras"), cache=str(root / "cache"), engine=engine, **features)
    return Pipeline(
        data=DataOptions(path=str(root / "pictures"), split=(0.5, 0.25, 0.25)),
        features=given,
        head=HeadOptions(strength=0.01, epochs=3, hidden="16,0.3"),
        finetune=FinetuneOptions(epochs=3, batch_size=7, learning_rate=3e-4, from_cache=CUT),
        report=ReportOptions(runs=str(root / "runs"), name="pictures", html=False),
    )


@pytest.fixture(scope="module")
def made(root: Path) -> dict[str, tuple[Prepared, Bundle]]:
    """Bundles on the last layer, with a linear and with a dense head, and on two layers side by side.

    "half" and "logreg" are the same but for how the features and maps are stored: in float16 and float32.
    """
    found = {}
    for name, head, layers, storage, engine in (
        ("half", {}, ("last",), "float16", "auto"),
        ("logreg", {}, ("last",), "float32", "tensorflow"),
        ("dense", {"clf": "dense"}, ("last",), "float32", "tensorflow"),
        ("two", {"combine": "all"}, (CUT, "last"), "float32", "tensorflow"),
    ):
        pipeline = pipeline_of(root, engine, layer=layers, storage=storage)
        prepared = prepare(replace(pipeline, head=replace(pipeline.head, **head)))
        found[name] = prepared, publish_head(replace(prepared, run=Run(root / "runs" / name)))
    return found


def without_graph(prepared: Prepared) -> Prepared:
    features = replace(prepared.pipeline.features, engine="tensorflow")
    return replace(prepared, pipeline=replace(prepared.pipeline, features=features))


def tune(made: tuple[Prepared, Bundle], run: Path, **changes: Any) -> Bundle:
    prepared, bundle = made
    pipeline = replace(prepared.pipeline, finetune=replace(prepared.pipeline.finetune, **changes))
    return publish_finetuned(bundle, replace(prepared, run=Run(run), pipeline=pipeline))


@pytest.fixture(scope="module")
def tuned(made: dict[str, tuple[Prepared, Bundle]], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bundle]:
    """Fine-tunes one of `made` as `tune` does, with the same changes once."""

    @cache
    def run(head: str, *changes: tuple[str, Any]) -> Bundle:
        return tune(made[head], tmp_path_factory.mktemp("tuned"), **dict(changes))

    return lambda head, **changes: run(head, *sorted(changes.items()))


def weights(bundle: Bundle) -> dict[str, list[np.ndarray]]:
    return _weights_in(bundle.path)


@cache
def _weights_in(bundle: Path) -> dict[str, list[np.ndarray]]:
    """Those of the backbone by layer, and those of the "head"; no test writes a bundle anew."""
    found = weights_of(bundle / "backbone.keras")
    if (bundle / "head.keras").exists():
        return found | {"head": [one for held in weights_of(bundle / "head.keras").values() for one in held]}
    held = arrays_of(bundle / "head.npz")
    return found | {"head": [held["kernel"], held["bias"]]}


def moved(before: Bundle, after: Bundle) -> set[str]:
    old, new = weights(before), weights(after)
    return {name for name in old if any(not np.array_equal(*pair) for pair in zip(old[name], new[name], strict=True))}


def curve(bundle: Bundle, name: str) -> list[float]:
    return [epoch.values[name] for epoch in bundle.manifest.history]


# --- the same network --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "changes", "within"),
    [
        ("half", HALF, 1e-3),  # of the loss: float16 rounds the maps
        ("logreg", {"optimizer": "sgd", "learning_rate": 1e-3}, 1e-5),
        ("dense", {}, 1e-5),
        ("two", {"batch_norm": "train", "optimizer": "sgd", "learning_rate": 1e-3}, 1e-5),
    ],
)
def test_it_gives_the_network_that_fine_tuning_the_whole_gives(
    made: dict[str, tuple[Prepared, Bundle]],
    tuned: Callable[..., Bundle],
    tmp_path: Path,
    head: str,
    changes: dict[str, Any],
    within: float,
) -> None:
    """Dropout above the cut draws the same numbers."""
    prepared, start = made[head]
    whole = tune((without_graph(prepared), start), tmp_path / "whole", from_cache=None, unfreeze="drop", **changes)
    found = tuned(head, **changes)
    for series in ("loss", "val_log_loss"):
        np.testing.assert_allclose(curve(found, series), curve(whole, series), rtol=within, atol=within)
    trained = {"high_conv", "high_left", "head"} | ({"high_bn"} if changes.get("batch_norm") else set())
    assert moved(start, found) == moved(start, whole) == trained
    for name, arrays in weights(whole).items():
        for one, other in zip(arrays, weights(found)[name], strict=True):
            np.testing.assert_allclose(other, one, atol=5 * within * max(1.0, np.abs(one).max()), err_msg=name)


def test_a_part_without_images_is_left_out_of_the_figures(root: Path, tmp_path: Path) -> None:
    pipeline = pipeline_of(root, layer=("last",))
    pipeline = replace(
        pipeline,
        data=replace(pipeline.data, split=(0.6, 0.4, 0.0)),
        finetune=replace(pipeline.finetune, epochs=1, **LITTLE),
        report=replace(pipeline.report, runs=str(tmp_path)),
    )
    prepared = prepare(pipeline)
    tuned = publish_finetuned(publish_head(prepared), prepared)
    assert tuned.manifest.comparison["test"] is None
    assert tuned.manifest.metrics_on("test").images == 0 < tuned.manifest.metrics_on("val").images


def test_its_figures_are_those_of_the_full_network(
    made: dict[str, tuple[Prepared, Bundle]], tuned: Callable[..., Bundle]
) -> None:
    """Measured on float16 maps as it was saved, on images as it is used: to 1e-3 in the log loss."""
    start, found = made["half"][1], load_bundle(tuned("half", **HALF).path)
    check_figures(found, start, made["half"][0].pipeline)
    assert found.manifest.finetune.options["from_cache"] == CUT
    network = graft(found)
    assert (network.count_params(), found.manifest.output_names) == (graft(start).count_params(), ("last@avg",))
    pictures = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    logits = np.asarray(network(pictures.astype(np.float32), training=False), np.float64)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities(found.features(pictures)), softmax, atol=2e-3)


def check_figures(tuned: Bundle, start: Bundle, pipeline: Pipeline) -> None:
    for part in ("val", "test"):
        found, _ = evaluate(tuned, images_of_part(pipeline, tuned, part)[0])
        claimed = tuned.manifest.metrics_on(part)
        assert (found["images"], found["accuracy"]) == (claimed.images, claimed.get("accuracy"))
        assert found["log_loss"] == pytest.approx(claimed.get("log_loss"), abs=1e-3)
        before, stored = tuned.manifest.origin.metrics_on(part), start.manifest.metrics_on(part)
        assert before.get("log_loss") == pytest.approx(stored.get("log_loss"), abs=1e-3)


def test_nothing_is_decoded_and_no_layer_below_runs(
    made: dict[str, tuple[Prepared, Bundle]],
    tuned: Callable[..., Bundle],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = tuned("logreg", **LITTLE)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("featx.training.source.iter_batches", refuse)
    monkeypatch.setattr(work, "iter_batches", refuse)
    again = tune(made["logreg"], tmp_path / "again", **LITTLE)
    assert curve(again, "loss") == pytest.approx(curve(first, "loss"), abs=1e-5)
    with pytest.raises(AssertionError, match="was decoded"):
        tune(made["logreg"], tmp_path / "whole", from_cache=None)


@pytest.mark.parametrize(
    ("unfreeze", "trained"), [("all", {"high_conv", "high_left"}), ("none", set()), ("high_left", {"high_left"})]
)
def test_of_the_layers_above_those_train_that_are_unfrozen(
    made: dict[str, tuple[Prepared, Bundle]], tuned: Callable[..., Bundle], unfreeze: str, trained: set[str]
) -> None:
    found = tuned("logreg", unfreeze=unfreeze, epochs=1)
    assert moved(made["logreg"][1], found) == trained | {"head"}


def test_but_for_its_weights_a_backbone_is_as_it_was_before_it_trained(
    made: dict[str, tuple[Prepared, Bundle]], tuned: Callable[..., Bundle]
) -> None:
    """No layer of the file is told not to train: whoever loads it may train all of them."""
    start, found = made["logreg"][1], tuned("logreg", unfreeze="high_left", epochs=1)
    configs = []
    for bundle in (start, found):
        with zipfile.ZipFile(bundle.path / "backbone.keras") as archive:
            configs.append(json.loads(archive.read("config.json")))
    assert configs[0] == configs[1]


def test_set_back_it_draws_the_random_numbers_of_a_network_just_loaded(tmp_path: Path) -> None:
    import keras

    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Dropout(0.5, seed=1, name="lower")(inputs)
    x = keras.layers.Conv2D(4, 3, name="map")(x)
    keras.Model(inputs, keras.layers.Dropout(0.5, seed=2, name="upper")(x)).save(tmp_path / "net.keras")
    trained, loaded = (keras.models.load_model(tmp_path / "net.keras") for _ in range(2))
    untrained = Untrained(trained)
    trained.get_layer("map").trainable = False
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    first = trained(images, training=True)
    assert not np.array_equal(first, trained(images, training=True))
    back = untrained.set_back()
    np.testing.assert_array_equal(back(images, training=True), loaded(images, training=True))
    assert [one.trainable for one in back.layers] == [one.trainable for one in loaded.layers]


# --- the maps ----------------------------------------------------------------------------------------------------


def map_rows(cache: Path) -> dict[str, int]:
    (store,) = list_stores(cache)
    return {name: table.rows for name, table in store.tables().items()}


def test_maps_are_extracted_where_they_are_missing_and_found_where_they_are_not(root: Path, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    pipeline = replace(
        pipeline_of(root, layer=("last",)), report=ReportOptions(name="a", runs=str(tmp_path), html=False)
    )
    pipeline = replace(pipeline, features=replace(pipeline.features, cache=cache, compression="zstd"))
    prepared = prepare(pipeline)
    bundle = publish_head(prepared)
    prepared = with_finetune(prepared, **LITTLE)
    assert map_rows(Path(cache)) == {"last@avg": 60}
    tuned = publish_finetuned(bundle, prepared)
    assert map_rows(Path(cache)) == {"last@avg": 60, f"{CUT}@none": 60}
    (store,) = list_stores(Path(cache))
    (part,) = store.table(CUT, "none").parts
    assert (part.row_shape, part.dtype, part.offset is None) == ((16, 16, 12), np.float16, False)

    both = replace(pipeline.features, cache=str(tmp_path / "both"), layer=("last", f"{CUT}@none"))
    together = prepare(replace(pipeline, features=both, report=replace(pipeline.report, name="b")))
    assert map_rows(tmp_path / "both") == {"last@avg": 60, f"{CUT}@none": 60}
    stages: list[str] = []
    same = publish_finetuned(
        publish_head(together),
        with_finetune(together, **LITTLE),
        Context(progress=lambda stage, *_, **__: stages.append(stage)),
    )
    assert "extract" not in stages
    assert curve(same, "loss") == pytest.approx(curve(tuned, "loss"), abs=1e-3)


def test_an_image_that_could_not_be_read_is_left_out(root: Path, tmp_path: Path) -> None:
    """The batch that it would have been in is smaller; the others stay as they are."""
    write_pictures(tmp_path / "pictures", 8)
    options = pipeline_of(root, layer=("last",))
    options = replace(options, data=replace(options.data, path=str(tmp_path / "pictures")))
    options = replace(options, report=replace(options.report, runs=str(tmp_path / "runs")))
    options = replace(options, features=replace(options.features, cache=str(tmp_path / "cache")))
    prepared = prepare(options)
    bundle = publish_head(prepared)
    train = np.flatnonzero(prepared.sample.split == TRAIN)
    Path(prepared.extraction.images.paths[prepared.sample.rows[train[3]]]).write_bytes(b"no image")
    found = [
        publish_finetuned(bundle, replace(prepared, pipeline=replace(options, finetune=one)))
        for one in both_ways(options)
    ]
    np.testing.assert_allclose(curve(found[0], "loss"), curve(found[1], "loss"), atol=1e-3)


def both_ways(pipeline: Pipeline) -> list[FinetuneOptions]:
    cached = replace(pipeline.finetune, **LITTLE)
    return [replace(cached, from_cache=None), cached]


@pytest.mark.parametrize("each", [3, 2])
def test_views_are_seen_one_after_the_other(
    made: dict[str, tuple[Prepared, Bundle]],
    tuned: Callable[..., Bundle],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    each: int,
) -> None:
    """With as many views as epochs it is what images altered anew in every epoch give; with fewer they come again."""
    prepared, bundle = made["logreg"]
    policy = AugmentOptions(flip="horizontal", rotation=20.0, views=each)
    augmented = replace(prepared, pipeline=replace(prepared.pipeline, augment=policy))
    found = tune((augmented, bundle), tmp_path / "cached", **LITTLE)
    alter = ImageSource._alter
    monkeypatch.setattr(ImageSource, "_alter", lambda self, epoch: alter(self, epoch and epoch % each))
    whole = tune((augmented, bundle), tmp_path / "whole", from_cache=None, **LITTLE)
    plain = tuned("logreg", **LITTLE)
    np.testing.assert_allclose(curve(found, "loss"), curve(whole, "loss"), rtol=1e-4, atol=1e-3)
    assert np.abs(np.subtract(curve(found, "loss"), curve(plain, "loss"))).max() > 1e-2


def test_augmentation_without_cached_views_is_refused(made: dict[str, tuple[Prepared, Bundle]], tmp_path: Path) -> None:
    prepared, bundle = made["logreg"]
    augmented = replace(prepared, pipeline=replace(prepared.pipeline, augment=AugmentOptions(flip="both")))
    with pytest.raises(UsageError, match=r"cannot be altered any more by flip\. Add --views 5"):
        tune((augmented, bundle), tmp_path)


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "changes", "kind", "sentence"),
    [
        (
            "logreg",
            {"from_cache": "low_left"},
            BackboneError,
            "cannot be cut at 'low_left'.*clean cuts, below and above: 'low_relu', 'middle'",
        ),
        (
            "logreg",
            {"from_cache": "mddle"},
            UsageError,
            r"'mddle' is not a layer of .*\(last@avg\)\. Did you mean 'middle'\? Choose .* last, or",
        ),
        ("logreg", {"from_cache": "featx_flat_0"}, UsageError, "is not a layer of .*Choose one of"),
        ("two", {"from_cache": "last"}, BackboneError, "cannot be cut at 'last'.*below and above: 'middle'"),
        ("logreg", {"unfreeze": "low_conv"}, UsageError, "'low_conv' is not above --from-cache 'middle'"),
        ("logreg", {"unfreeze": CUT}, UsageError, "'middle' is not above --from-cache 'middle'"),
    ],
)
def test_what_cannot_be_cut_or_trained_is_refused(
    made: dict[str, tuple[Prepared, Bundle]],
    tmp_path: Path,
    head: str,
    changes: dict[str, Any],
    kind: type[Exception],
    sentence: str,
) -> None:
    with pytest.raises(kind, match=sentence):
        tune(made[head], tmp_path, **changes)


def test_a_head_below_the_layer_is_refused_with_the_layers_there_are(root: Path, tmp_path: Path) -> None:
    pipeline = pipeline_of(root, layer=("low_relu",))
    prepared = prepare(replace(pipeline, report=replace(pipeline.report, runs=str(tmp_path))))
    with pytest.raises(
        UsageError, match=r"'middle' is not a layer .*low_relu@avg\).*scale, low_conv, low_bn, low_relu"
    ):
        publish_finetuned(publish_head(prepared), prepared)


def test_options_of_another_network_are_refused(made: dict[str, tuple[Prepared, Bundle]], tmp_path: Path) -> None:
    prepared, bundle = made["logreg"]
    other = replace(prepared.pipeline.features, input_size=48)
    mixed = replace(prepared, run=Run(tmp_path), pipeline=replace(prepared.pipeline, features=other))
    with pytest.raises(BundleError, match=r"another network .*\(input_size differ\): net at 32 pixels against .* 48"):
        publish_finetuned(bundle, mixed)


def test_a_tuned_bundle_goes_on_while_nothing_below_the_layer_was_trained(
    made: dict[str, tuple[Prepared, Bundle]], tuned: Callable[..., Bundle], tmp_path: Path
) -> None:
    prepared, start = made["logreg"]
    once = tuned("logreg", unfreeze="all", epochs=1)
    one = {"epochs": 1, "optimizer": "sgd"}
    twice = tune((prepared, once), tmp_path / "twice", **one)
    assert moved(once, twice) == {"high_conv", "high_left", "head"}
    whole = tune((prepared, start), tmp_path / "whole", **one, from_cache=None, unfreeze="low_left")
    with pytest.raises(
        BundleError, match=r"was fine-tuned from 'low_left' on.*Choose --from-cache low_relu or one below"
    ):
        tune((prepared, whole), tmp_path / "refused")
    lower = tune((prepared, whole), tmp_path / "lower", **one, from_cache="low_relu")
    assert moved(whole, lower) == {"low_left", "high_conv", "high_left", "head"}


# --- the command line --------------------------------------------------------------------------------------------


def test_through_the_command_line(root: Path, tmp_path: Path) -> None:
    data = [root / "pictures", "--backbone", root / "net.keras", "--cache", tmp_path / "cache", "--no-html"]
    data += ["--engine", "tensorflow"]
    done = call("fit-head", *data, "--strength", "0.01", cwd=tmp_path)
    assert done.status == 0, done.err
    arguments = ["finetune", *data, "--epochs", "2", "--learning-rate", "0.003", "--from-cache"]
    done = call(*arguments, CUT, "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    tuned = load_bundle(tmp_path / done.json["bundle"])
    assert tuned.manifest.finetune.options["from_cache"] == CUT
    assert set(done.json) >= {"val", "test", "verdict", "seconds"}
    assert call("predict", root / "pictures", "--model", tuned.path, cwd=tmp_path).status == 0
    refused = call(*arguments, "low_left", cwd=tmp_path)
    assert refused.status == 1
    assert "The nearest clean cuts, below and above: 'low_relu', 'middle'." in refused.sentence
    refused = call(*arguments, "lst", cwd=tmp_path)
    assert refused.status == 2
    assert "'lst' is not a layer" in refused.sentence


def test_a_run_caches_the_maps_with_the_features_and_is_up_to_date_the_next_time(root: Path, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        json.dumps(
            {
                "data": {"path": str(root / "pictures")},
                "features": {
                    "backbone": str(root / "net.keras"),
                    "layer": ["last", f"{CUT}@none"],
                    "engine": "tensorflow",
                },
                "head": {"strength": 0.01},
                "finetune": {"from_cache": CUT, "epochs": 1, **LITTLE},
                "report": {"html": False},
            }
        )
    )
    done = call("run", "-p", "p.yaml", "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    assert [stage["done"] for stage in done.json["stages"]] == [True, True, True]
    assert map_rows(tmp_path / "cache") == {"last@avg": 60, f"{CUT}@none": 60}
    done = call("run", "-p", "p.yaml", "--json", cwd=tmp_path)
    assert [stage["done"] for stage in done.json["stages"]] == [False, False, False]


# --- interrupted -------------------------------------------------------------------------------------------------


def test_interrupted_and_resumed_it_ends_with_the_same_network(
    made: dict[str, tuple[Prepared, Bundle]], tuned: Callable[..., Bundle], tmp_path: Path
) -> None:
    undisturbed = tuned("dense")
    prepared, start = made["dense"][0], made["dense"][1]
    prepared = replace(prepared, run=Run(tmp_path / "interrupted"))

    def stop(stage: str, done: int, total: int, /, **_: int) -> None:
        del total
        if stage.startswith("epoch 2/") and done > 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish_finetuned(start, prepared, Context(progress=stop))
    told: list[str] = []
    resumed = publish_finetuned(start, prepared, Context(notify=told.append))
    assert told[0] == "Going on after epoch 1."
    for series in ("loss", "val_log_loss"):
        np.testing.assert_allclose(curve(resumed, series), curve(undisturbed, series), rtol=1e-5)


# --- a trained network -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_trained_network(root: Path, tmp_path: Path) -> None:
    """EfficientNetLite0 with its ImageNet weights."""
    cut, first = "block1a_project_bn", "block2a_expand_conv"
    options = pipeline_of(root)
    features = replace(options.features, backbone="EfficientNetLite0", input_size=64)
    layers = ("block2a_project_bn", f"{cut}@none")  # both of one network that is built once
    features = replace(features, layer=layers, storage="float32", cache=str(tmp_path / "cache"))
    pipeline = replace(options, features=features, report=replace(options.report, runs=str(tmp_path)))
    prepared = prepare(pipeline)
    bundle = publish_head(prepared)
    names = [layer.name for layer in graft(bundle).layers]
    settings = replace(pipeline.finetune, epochs=2, batch_size=10, learning_rate=1e-4, optimizer="sgd")
    curves = []
    for changes in ({"from_cache": None, "unfreeze": first}, {"from_cache": cut}):
        tuned = publish_finetuned(
            bundle, replace(prepared, pipeline=replace(pipeline, finetune=replace(settings, **changes)))
        )
        curves.append([curve(tuned, "loss"), curve(tuned, "val_log_loss")])
        changed = moved(bundle, tuned) - {"head"}
        assert changed
        assert all(names.index(name) > names.index(cut) for name in changed)
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-3, atol=1e-3)
