"""What trains in a fine-tune and how: by depth, by epoch, on soft targets, on several devices, from larger images."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import numpy as np
import pytest
from arrays import weights_of
from conftest import environment
from fitted import Lab, call, with_finetune
from kills import Kill
from PIL import Image

from featx.backbones.runtime import GpuMemory, import_keras
from featx.bundle.bundle import load_bundle
from featx.config import Pipeline
from featx.config.pipeline import as_yaml, read_pipeline
from featx.config.route import set_keys
from featx.dataset import TRAIN
from featx.errors import EngineError, HeadError, UsageError
from featx.finetune.downscaling import triangle_filter
from featx.finetune.examples import image_source
from featx.finetune.flow import graft
from featx.finetune.trainee import FinetuneTrainee
from featx.images.decoder import decode, load_image
from featx.images.resize import fit
from featx.io.context import Context
from featx.metrics.probabilities import softmax
from featx.runs.prepared import Prepared
from featx.runs.run import Run
from featx.training.targets import Targets
from featx.workflow.publish import publish_finetuned


def tuning_of(lab: Lab, prepared: Prepared) -> FinetuneTrainee:
    bundle, chosen = lab.bundle("logreg"), prepared.pipeline.finetune
    return FinetuneTrainee(graft(bundle, chosen.downscale), image_source(bundle, prepared), chosen, 0)


def weights_by_layer(model: Any) -> dict[str, list[np.ndarray]]:
    return {layer.name: [np.array(one) for one in layer.get_weights()] for layer in model.layers if layer.weights}


def moved(before: dict[str, list[np.ndarray]], after: dict[str, list[np.ndarray]]) -> set[str]:
    return {name for name in before if any((a != b).any() for a, b in zip(before[name], after[name], strict=True))}


# --- by epoch and by depth ---------------------------------------------------------------------------------------


def test_gradually_one_block_after_the_other_begins_to_train(lab: Lab, prepared: Prepared) -> None:
    changes = {"unfreeze": "body", "batch_norm": "train", "optimizer": "sgd"}
    tuning = tuning_of(lab, with_finetune(prepared, gradual=2, epochs=9, **changes))
    expected = [set(), set(), {"last"}, {"last"}, {"last", "body"}, {"last", "body"}]
    for epoch, layers in enumerate(expected):
        before = weights_by_layer(tuning.model)
        tuning.take_steps(epoch)
        assert moved(before, weights_by_layer(tuning.model)) == {"featx_head", *layers}
    assert tuning.unfreezing.epochs_until_all == 4


def test_batch_normalisation_trains_from_when_its_block_does(lab: Lab, prepared: Prepared) -> None:
    tuning = tuning_of(lab, with_finetune(prepared, gradual=1, batch_norm="train", optimizer="sgd", epochs=9))
    norm = tuning.model.get_layer("stem_bn")
    for epoch in range(4):
        before = [np.array(one) for one in norm.get_weights()]
        tuning.take_steps(epoch)
        changed = [bool((a != b).any()) for a, b in zip(before, norm.get_weights(), strict=True)]
        assert changed == [epoch == 3] * 4  # gamma, beta and both statistics


@pytest.mark.usefixtures("op_by_op")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_step_moves_every_layer_by_its_own_rate(lab: Lab, prepared: Prepared, optimizer: str) -> None:
    import tensorflow as tf

    changes = {"layer_decay": 0.5, "optimizer": optimizer, "momentum": 0.0, "learning_rate": 0.01, "batch_size": 64}
    tuning = tuning_of(lab, with_finetune(prepared, **changes))
    model, examples = tuning.model, tuning.examples
    rows, images = next(iter(tuning.source.batches(examples.known_rows(TRAIN), 64, None)))
    weight = examples.targets.weight[rows]
    with tf.GradientTape() as tape:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(examples.targets.values[rows], model(images))
        loss = tf.reduce_mean(losses * weight)
    names = ["stem", "body", "last", "featx_head"]
    kernels = {name: model.get_layer(name).kernel for name in names}
    gradients = dict(zip(names, tape.gradient(loss, [one.value for one in kernels.values()]), strict=True))
    before = {name: one.numpy() for name, one in kernels.items()}
    tuning.take_steps(0)  # one step: all images are in one batch
    for share, name in zip((0.125, 0.25, 0.5, 1), names, strict=True):
        gradient = gradients[name].numpy()
        step = gradient if optimizer == "sgd" else gradient / (np.abs(gradient) + 1e-7 / np.sqrt(1 - 0.999))
        expected = before[name] - 0.01 * share * step
        found = kernels[name].numpy()
        solid = np.abs(gradient) > 1e-4  # where rounding does not decide the sign of Adam's step
        np.testing.assert_allclose(found[solid], expected[solid], atol=2e-6)


def test_too_few_epochs_for_gradual_unfreezing_are_told(lab: Lab, prepared: Prepared) -> None:
    class Told(Exception):
        pass

    def stop(line: str) -> None:
        raise Told(line)

    with pytest.raises(Told) as told:
        publish_finetuned(lab.bundle("logreg"), with_finetune(prepared, gradual=1, epochs=1), Context(notify=stop))
    assert str(told.value) == "With --gradual 1, all of --unfreeze all trains from epoch 4 on, and there are 1."


# --- soft targets ------------------------------------------------------------------------------------------------


def test_smoothed_targets_have_the_loss_of_keras() -> None:
    import keras

    generator = np.random.default_rng(0)
    values, logits = generator.integers(5, size=20), generator.normal(size=(20, 5)).astype(np.float32)
    targets = Targets(np.arange(5), values, np.ones(20, np.float32))
    found = targets.losses(keras.ops.convert_to_tensor(targets.shares(values, 0.2)), logits)
    reference = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2, reduction=None)
    np.testing.assert_allclose(found, reference(np.eye(5)[values], logits), rtol=1e-5)
    hits = targets.hits(keras.ops.convert_to_tensor(targets.shares(values, 0.2)), logits)
    np.testing.assert_array_equal(hits, logits.argmax(axis=1) == values)


def test_smoothed_labels_have_the_loss_of_keras() -> None:
    import keras

    generator = np.random.default_rng(0)
    values = generator.integers(2, size=(20, 4)).astype(np.float32)
    logits = generator.normal(size=(20, 4)).astype(np.float32)
    targets = Targets(np.arange(4), values, np.ones(20, np.float32), np.ones(4, np.float32))
    shares = keras.ops.convert_to_tensor(targets.shares(values, 0.2))
    reference = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.2, reduction=None)
    np.testing.assert_allclose(targets.losses(shares, logits), reference(values, logits), rtol=1e-5)
    np.testing.assert_allclose(targets.hits(shares, logits), ((logits > 0) == (values > 0)).mean(axis=1))


@pytest.mark.usefixtures("op_by_op")
def test_training_sees_soft_targets_and_validation_does_not(lab: Lab, prepared: Prepared) -> None:
    still = {"unfreeze": "none", "optimizer": "sgd", "learning_rate": 1e-12}
    plain = tuning_of(lab, with_finetune(prepared, **still))
    soft = tuning_of(lab, with_finetune(prepared, **still, label_smoothing=0.4, mixup=1.0))
    assert plain.take_steps(0)[0] < soft.take_steps(0)[0]  # a sure network is less right about unsure targets
    assert plain.evaluate() == pytest.approx(soft.evaluate(), rel=1e-5)


def test_class_weights_are_the_heads_unless_they_are_given(lab: Lab, prepared: Prepared) -> None:
    def weights(class_weight: str | None) -> np.ndarray:
        examples = image_source(lab.bundle("logreg"), with_finetune(prepared, class_weight=class_weight)).examples
        trained = examples.split == TRAIN
        assert examples.targets.weight[trained].mean() == pytest.approx(1)
        counts = np.bincount(examples.targets.values[trained])
        return np.bincount(examples.targets.values[trained], examples.targets.weight[trained]) / counts

    np.testing.assert_allclose(weights(None), 1, rtol=1e-6)
    blue, green, red = weights("red=3")
    assert (blue, red) == (pytest.approx(green), pytest.approx(3 * green))
    with pytest.raises(HeadError, match=r"for classes \(blue, green, red\); got 'rde=3'"):
        weights("rde=3")


@pytest.mark.slow
@pytest.mark.usefixtures("deterministic", "op_by_op")
def test_killed_and_resumed_everything_goes_on_as_it_was(lab: Lab, prepared: Prepared, tmp_path: Path) -> None:
    """Before the last block has begun to train."""
    changes = {
        "epochs": 4, "gradual": 1, "layer_decay": 0.7, "optimizer": "nadam", "batch_norm": "train", "mixup": 0.4,
        "cutmix": 1.0, "weight_decay": 0.1, "label_smoothing": 0.1, "learning_rate": 3e-3, "downscale": 2,
    }  # fmt: skip
    start = lab.bundle("dense")
    kill = Kill(tmp_path / "whole", tmp_path / "part", "epoch 4/4")
    whole = publish_finetuned(start, with_finetune(replace(prepared, run=Run(kill.run)), **changes), kill.context)
    told: list[str] = []
    part = with_finetune(replace(prepared, run=Run(kill.left)), **changes)
    resumed = publish_finetuned(start, part, Context(notify=told.append))
    assert "Going on after epoch 3." in told
    for name in ("backbone.keras", "head.keras"):
        expected, found = (weights_of(one.path / name) for one in (whole, resumed))
        assert expected.keys() == found.keys()
        for layer, held in expected.items():
            for a, b in zip(held, found[layer], strict=True):
                np.testing.assert_array_equal(a, b)
    assert whole.manifest.metrics == resumed.manifest.metrics


# --- larger images -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_the_filter_is_that_of_pillows_resizing(factor: int) -> None:
    side = 8 * factor
    pixels = np.random.default_rng(0).integers(0, 256, (1, side), np.uint8)
    taps = triangle_filter(factor)
    margin = (len(taps) - factor) // 2
    found = [
        pixels[0, start - margin : start - margin + len(taps)] @ taps for start in range(factor, side - factor, factor)
    ]
    image = Image.fromarray(pixels.repeat(2, axis=0)).resize((8, 2), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(found, np.asarray(image)[0, 1:-1], atol=1)


def test_larger_images_begin_with_about_the_same_predictions(lab: Lab) -> None:
    bundle = lab.bundle("logreg")
    for factor in (2, 3):
        side = 32 * factor
        large = [decode(path).resize((side, side), Image.Resampling.NEAREST) for path in lab.pictures[::4]]
        small = [fit(image, (32, 32), "stretch") for image in large]
        scaled = np.asarray(graft(bundle, factor)(np.stack(large).astype(np.float32)))
        plain = np.asarray(graft(bundle)(np.stack(small).astype(np.float32)))
        assert np.abs(softmax(scaled) - softmax(plain)).max() < 0.05
        assert (scaled.argmax(axis=1) == plain.argmax(axis=1)).all()


@pytest.mark.usefixtures("op_by_op")
def test_the_down_scaling_is_learned_and_the_bundle_reads_larger_images(lab: Lab, prepared: Prepared) -> None:
    prepared = with_finetune(prepared, epochs=1, unfreeze="none", optimizer="sgd", learning_rate=0.01)
    tuned = publish_finetuned(lab.bundle("logreg"), with_finetune(prepared, downscale=2))
    again = load_bundle(tuned.path)
    assert again.input_size == (64, 64)
    model = graft(again)
    start = {layer.name: layer.get_weights() for layer in graft(lab.bundle("logreg"), 2).layers}
    changed = moved(
        {name: held for name, held in start.items() if held and name.startswith("downscale_")}, weights_by_layer(model)
    )
    assert changed == {"downscale_resize", "downscale_detail", "downscale_mix"}
    images = np.stack([load_image(path, (64, 64), "stretch") for path in lab.pictures[:9]])
    expected = softmax(np.asarray(model(images.astype(np.float32))))
    np.testing.assert_allclose(again.probabilities(again.features(images)), expected, atol=2e-3)
    further = publish_finetuned(again, replace(prepared, run=Run(prepared.run.path / "further")))
    assert further.input_size == (64, 64)
    kernels = [graft(one).get_layer("downscale_detail").get_weights()[0] for one in (again, further)]
    assert (kernels[0] != kernels[1]).any()


# --- devices and arithmetic --------------------------------------------------------------------------------------

TWO_DEVICES = """
import json, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from pathlib import Path
from featx.bundle.bundle import load_bundle
from featx.config.pipeline import read_pipeline
from featx.store.cache import Cache
from featx.workflow.prepare import prepare
from featx.workflow.publish import publish_finetuned
curves = []
for devices in ("1", "2"):
    settings = [*json.loads(sys.argv[3]), f"finetune.devices={devices}", f"report.runs={sys.argv[4]}/{devices}"]
    pipeline = read_pipeline(Path(sys.argv[1]), settings)
    with Cache(pipeline.features.cache) as cache:
        manifest = publish_finetuned(load_bundle(Path(sys.argv[2])), prepare(pipeline, cache)).manifest
    curves.append([[epoch.values[name] for name in ("loss", "val_log_loss")] for epoch in manifest.history])
print(json.dumps(curves))
"""


@pytest.mark.slow
def test_two_devices_train_as_one_does(lab: Lab, prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(as_yaml(prepared.pipeline))
    settings = [
        "finetune.epochs=2", "finetune.gradual=1", "finetune.layer_decay=0.5", "finetune.weight_decay=0.1",
        "finetune.mixup=0.2", "finetune.batch_size=29",  # of 30 images: the last batch has one, and a device none
    ]  # fmt: skip
    arguments = [tmp_path / "lab.yaml", lab.bundle("logreg").path, json.dumps(settings), tmp_path]
    done = forked.run(arguments, tmp_path, environment(), code=TWO_DEVICES)
    assert done.returncode == 0, done.stderr
    one, two = json.loads(done.stdout.splitlines()[-1])
    assert len(one) == 2
    np.testing.assert_allclose(one, two, rtol=1e-4)


def test_more_devices_than_there_are_are_refused(lab: Lab, prepared: Prepared) -> None:
    with pytest.raises(UsageError, match=r"--devices 3: TensorFlow sees 1 CPU here. Choose --devices all, or a number"):
        publish_finetuned(lab.bundle("logreg"), with_finetune(prepared, devices="3"))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_trains_the_same_network(lab: Lab, prepared: Prepared, precision: str) -> None:
    import keras

    def loss_of(precision: str) -> tuple[FinetuneTrainee, float]:
        changes = {"optimizer": "sgd", "batch_size": 30, "learning_rate": 1e-4}
        tuning = tuning_of(lab, with_finetune(prepared, mixed_precision=precision, **changes))
        tuning.compute_in(tuning.precision)
        return tuning, tuning.take_steps(0)[0]

    tuning, short = loss_of(precision)
    assert tuning.model.get_layer("body").compute_dtype == precision
    assert tuning.model.get_layer("featx_head").compute_dtype == "float32"
    assert {weight.dtype for weight in tuning.model.weights} == {"float32"}
    assert isinstance(tuning.optimizer, keras.optimizers.LossScaleOptimizer) == (precision == "float16")
    exact = loss_of("none")[1]
    assert short != exact
    assert short == pytest.approx(exact, rel=0.02)
    tuning.compute_in("float32")
    assert tuning.model.get_layer("body").compute_dtype == "float32"


def test_loss_scaling_skips_a_step_that_overflows_and_trains_on(lab: Lab, prepared: Prepared) -> None:
    changes = {"mixed_precision": "float16", "optimizer": "sgd", "gradual": 1, "epochs": 5}
    tuning = tuning_of(lab, with_finetune(prepared, **changes))
    tuning.compute_in("float16")
    tuning.optimizer.dynamic_scale.assign(2.0**60)
    before = weights_by_layer(tuning.model)
    tuning.take_steps(3)
    assert moved(before, weights_by_layer(tuning.model)) == set()
    assert float(tuning.optimizer.dynamic_scale.numpy()) < 2.0**60
    tuning.optimizer.dynamic_scale.assign(1.0)
    tuning.take_steps(3)
    assert moved(before, weights_by_layer(tuning.model)) == {"stem", "body", "last", "featx_head"}
    assert all(np.isfinite(one).all() for held in weights_by_layer(tuning.model).values() for one in held)


class FakeGpus:
    """What `featx.backbones.runtime.GpuMemory` asks of TensorFlow where there are two GPUs."""

    def __init__(self) -> None:
        self.done: list[tuple[str, Any]] = []
        self.config = SimpleNamespace(
            list_physical_devices=lambda kind: [f"{kind}:0", f"{kind}:1"],
            LogicalDeviceConfiguration=lambda memory_limit: memory_limit,
            set_logical_device_configuration=lambda gpu, limits: self.done.append((gpu, limits)),
            experimental=SimpleNamespace(set_memory_growth=lambda gpu, grow: self.done.append((gpu, grow))),
        )


def test_gpu_memory_grows_or_is_limited_to_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = FakeGpus()
    GpuMemory().share_out(gpus)
    assert gpus.done == [("GPU:0", True), ("GPU:1", True)]
    told = "0, GPU-a, 16000\n1, GPU-b, 8000\n2, GPU-c, 4000\n"
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=told))
    for visible, expected in [(None, [4000, 2000]), ("2,0", [1000, 4000]), ("GPU-b,GPU-c", [2000, 1000])]:
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        gpus = FakeGpus()
        GpuMemory(0.25).share_out(gpus)
        assert gpus.done == [("GPU:0", [expected[0]]), ("GPU:1", [expected[1]])]


def test_without_nvidia_smi_a_share_of_the_memory_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EngineError, match="Use --gpu-memory grow"):
        GpuMemory(0.5).share_out(FakeGpus())


def test_a_share_of_the_memory_is_set_before_tensorflow_starts() -> None:
    import_keras()
    memory = GpuMemory(0.25)
    memory.limit(0.25)  # as it is
    with pytest.raises(EngineError, match=r"before TensorFlow is used. Start a new process."):
        memory.limit(0.5)


# --- options -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("sgd", {"optimizer": "sgd", "learning_rate": 1e-4, "momentum": 0.9, "schedule": "constant"}),
        ("piecewise", {"schedule": "piecewise", "boundaries": (20, 35), "rates": (1e-4, 5e-4, 1e-3)}),
        ("rmsprop", {"optimizer": "rmsprop", "learning_rate": 1e-4, "schedule": "constant"}),
    ],
)
@pytest.mark.parametrize("section", ["head", "finetune"])
def test_a_preset_is_the_options_it_stands_for(section: str, preset: str, expected: dict[str, Any]) -> None:
    found = getattr(set_keys(Pipeline(), {f"{section}.preset": preset}), section)
    assert {name: getattr(found, name) for name in expected} == expected


def test_options_given_override_a_preset_wherever_it_is_named(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("finetune: {momentum: 0.5, preset: sgd}")
    found = read_pipeline(file).finetune
    assert (found.optimizer, found.momentum, found.learning_rate) == ("sgd", 0.5, 1e-4)
    found = read_pipeline(file, ["finetune.learning_rate=1e-2"]).finetune
    assert (found.optimizer, found.momentum, found.learning_rate) == ("sgd", 0.5, 1e-2)
    found = read_pipeline(file, ["finetune.epochs=60", "finetune.preset=piecewise"]).finetune
    assert (found.optimizer, found.schedule, found.epochs, found.boundaries) == ("sgd", "piecewise", 60, (20, 35))
    typed = set_keys(read_pipeline(file), {"finetune.preset": "rmsprop", "finetune.learning_rate": 0.5}).finetune
    assert (typed.optimizer, typed.learning_rate, typed.momentum) == ("rmsprop", 0.5, 0.5)
    (tmp_path / "again.yaml").write_text(as_yaml(read_pipeline(file)))
    assert read_pipeline(tmp_path / "again.yaml").finetune == read_pipeline(file).finetune
    file.write_text("finetune: {preset: sdg}")
    with pytest.raises(UsageError, match=r"finetune.preset: .*'sgd', 'piecewise' or 'rmsprop'"):
        read_pipeline(file)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"layer_decay": 0.0}, "layer_decay must be more than 0 and at most 1, got 0.0"),
        ({"layer_decay": 1.5}, "layer_decay must be more than 0 and at most 1, got 1.5"),
        ({"label_smoothing": 1.0}, "label_smoothing must be less than 1"),
        ({"gradual": -1}, "gradual must be at least 0"),
        ({"mixup": -0.1}, "mixup must be at least 0"),
        ({"downscale": 0}, "downscale must be at least 1"),
        ({"downscale": 2, "from_cache": "body"}, "from_cache reads no images. Leave one of them out"),
        ({"devices": "none"}, "devices is all, cpu, or a number of GPUs from 1 on; got 'none'"),
        ({"devices": "0"}, "devices is all, cpu, or a number"),
        ({"gpu_memory": "2"}, "gpu_memory is grow, or a share above 0 and up to 1, like 0.5; got '2'"),
        ({"gpu_memory": "half"}, "gpu_memory is grow, or a share"),
        ({"mixed_precision": "float16", "devices": "all"}, "Choose --mixed-precision bfloat16, or --devices 1"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        set_keys(Pipeline(), {f"finetune.{name}": value for name, value in changes.items()})


def test_featx_layers_shows_the_blocks(lab: Lab, tmp_path: Path) -> None:
    listed = call("layers", lab.root / "tiny.keras", "--json", cwd=tmp_path).json["layers"]
    blocks = {one["name"]: one["block"] for one in listed}
    assert {name: blocks[name] for name in ("stem", "stem_bn", "body", "last")} == {
        "stem": "stem", "stem_bn": "stem", "body": "body", "last": "last",
    }  # fmt: skip
    shown = call("layers", lab.root / "tiny.keras", cwd=tmp_path).out
    assert "clean cut  block" in shown.splitlines()[0]
    assert next(line for line in shown.splitlines() if line.startswith("stem_relu")).split()[-1] == "stem"


def test_the_command_line_takes_it_all(lab: Lab, tmp_path: Path) -> None:
    start = lab.bundle("logreg").path
    (tmp_path / "lab.yaml").write_text(as_yaml(replace(lab.pipeline, report=replace(lab.pipeline.report, runs="runs"))))
    given = [
        "--preset", "sgd", "--learning-rate", "1e-3", "--unfreeze", "body", "--gradual", "1", "--layer-decay", "0.8",
        "--weight-decay", "0.01", "--label-smoothing", "0.1", "--mixup", "0.2", "--cutmix", "1", "--downscale", "2",
        "--devices", "cpu", "--mixed-precision", "auto", "--gpu-memory", "grow", "--epochs", "2",
        "--engine", "tensorflow",
    ]  # fmt: skip
    done = call("finetune", "-p", "lab.yaml", "--from", start, "--json", *given, cwd=tmp_path)
    assert done.status == 0, done.err
    manifest = load_bundle(tmp_path / done.json["bundle"]).manifest
    said = {
        name: manifest.finetune.options[name]
        for name in ("preset", "optimizer", "momentum", "learning_rate", "gradual")
    }
    assert said == {"preset": "sgd", "optimizer": "sgd", "momentum": 0.9, "learning_rate": 1e-3, "gradual": 1}
    assert len(manifest.history) == 2
    predicted = call("predict", lab.pictures[0], "--model", done.json["bundle"], "--json", cwd=tmp_path)
    assert predicted.status == 0, predicted.err
    wrong = call("finetune", "-p", "lab.yaml", "--from", start, "--unfreeze", "boddy", cwd=tmp_path)
    assert wrong.status == 2
    assert "Did you mean 'body'?" in wrong.sentence
    assert "a block: stem, body, last." in wrong.sentence
