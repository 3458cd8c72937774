"""Fine-tuning starts where the head stands, moves what was asked for, and goes on where it was killed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arrays import arrays_of, weights_of
from cached import images_of_part, prepare
from fitted import Lab, evaluate, with_finetune, write_pictures
from kills import Kill

from featx.bundle.bundle import Bundle, load_bundle
from featx.config import AugmentOptions, FeaturesOptions, HeadOptions
from featx.dataset import TEST, TRAIN, VAL
from featx.errors import BundleError, DataError, HeadError, UsageError
from featx.finetune.examples import image_source, make_examples
from featx.finetune.flow import graft, tuned_fingerprint
from featx.finetune.unfreezing import Unfreezing
from featx.images.augment import Augmenter
from featx.images.decoder import load_image
from featx.io.context import Context
from featx.io.digests import digest_file
from featx.metrics.probabilities import softmax
from featx.runs.prepared import Prepared
from featx.runs.run import Run
from featx.training import checkpoints
from featx.workflow.publish import publish_finetuned, publish_head

# Takes the least to trace: where it does not matter what trains, or how.
LITTLE = {"unfreeze": "none", "optimizer": "sgd"}


def pictures(lab: Lab, side: int = 32, count: int = 9) -> np.ndarray:
    """uint8 (count, side, side, 3)."""
    from featx.images.decoder import load_image

    return np.stack([load_image(path, (side, side), "stretch") for path in lab.pictures[:: 60 // count][:count]])


def check_start(bundle: Bundle, images: np.ndarray) -> None:
    """The grafted network gives the bundle's logits, to 1e-4 of the largest, on the same float32 features."""
    import keras

    grafted = graft(bundle)
    found = np.asarray(grafted(images.astype(np.float32), training=False))
    alone = keras.saving.load_model(bundle.path / "backbone.keras", compile=False)
    features = np.asarray(alone(images.astype(np.float32))[bundle.manifest.output_names[0]]).reshape(len(images), -1)
    expected = bundle.head(features)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    # and what `featx predict` tells, through the engine
    chances = bundle.probabilities(bundle.features(images))
    np.testing.assert_allclose(softmax(found), chances, atol=2e-3)
    assert (found.argmax(axis=1) == chances.argmax(axis=1)).mean() > 0.8


# --- the graft ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["logreg", "svm", "ridge", "dense"])
def test_before_its_first_step_it_gives_the_predictions_of_the_head(lab: Lab, head: str) -> None:
    check_start(lab.bundle(head), pictures(lab))


def body_bundle(lab: Lab, pooling: str) -> Bundle:
    """A head on the inner layer `body`, 8 x 8 x 16."""
    if pooling not in lab.bundles:
        features = replace(lab.pipeline.features, pooling=(pooling,), layer=("body",))
        report = replace(lab.pipeline.report, name="body")
        head = HeadOptions(strength=0.01)
        lab.bundles[pooling] = publish_head(prepare(replace(lab.pipeline, features=features, report=report, head=head)))
    return lab.bundles[pooling]


@pytest.mark.parametrize("pooling", ["max", "grid:2", "grid:3", "flatten"])
def test_every_pooling_is_grafted(lab: Lab, tmp_path: Path, pooling: str) -> None:
    bundle = body_bundle(lab, pooling)
    assert bundle.manifest.output_names == (f"body@{pooling}",)
    check_start(bundle, pictures(lab))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "layer", "side", "pooling", "clf"),
    [
        ("EfficientNetLite0", "block2b_add", 64, "flatten", "svm"),
        ("MobileNetV2", "block_3_expand_relu", 64, "avg", "logreg"),
        ("VGG16", "block2_pool", 32, "grid:2", "ridge"),  # its channels are BGR
    ],
)
def test_every_family_is_grafted(lab: Lab, backbone: str, layer: str, side: int, pooling: str, clf: str) -> None:
    weights = "bundled" if backbone == "EfficientNetLite0" else "random"
    features = FeaturesOptions(
        backbone=backbone,
        weights=weights,
        layer=(layer,),
        pooling=(pooling,),
        input_size=side,
        cache=lab.pipeline.features.cache,
        engine="auto" if weights == "bundled" else "tensorflow",
    )
    report = replace(lab.pipeline.report, name=backbone)
    head = HeadOptions(clf=clf, strength=0.01)  # type: ignore[arg-type]
    bundle = publish_head(prepare(replace(lab.pipeline, features=features, head=head, report=report)))
    check_start(bundle, pictures(lab, side, 6))


@pytest.mark.parametrize("head", ["knn", "rbf"])
def test_a_head_that_is_no_network_cannot_be_grafted(lab: Lab, head: str) -> None:
    with pytest.raises(BundleError, match=r"is not a network.*Heads that can: logreg, svm, ridge, dense"):
        graft(lab.bundle(head))


# --- what trains -------------------------------------------------------------------------------------------------

BACKBONE = ["scale", "stem", "stem_bn", "stem_relu", "body", "last"]


@pytest.mark.parametrize(
    ("what", "batch_norm", "trained"),
    [
        ("all", "frozen", {"stem", "body", "last"}),
        ("all", "train", {"stem", "stem_bn", "body", "last"}),
        ("none", "frozen", set()),
        ("0", "train", set()),
        ("1", "frozen", {"last"}),
        ("2", "frozen", {"body", "last"}),
        ("99", "frozen", {"stem", "body", "last"}),
        ("body", "frozen", {"body", "last"}),
        ("stem_bn", "train", {"stem_bn", "body", "last"}),
        ("last", "frozen", {"last"}),
    ],
)
def test_what_is_unfrozen(lab: Lab, what: str, batch_norm: str, trained: set[str]) -> None:
    model = graft(lab.bundle("logreg"))
    variables = Unfreezing(model, ["featx_head"], what, batch_norm).set(0)
    owners = {layer.name for layer in model.layers if layer.trainable_weights}
    assert owners == trained | {"featx_head"}
    assert [id(one) for one in variables] == [id(one) for one in model.trainable_variables]


def test_the_matrices_of_grid_pooling_never_train(lab: Lab) -> None:
    model = graft(body_bundle(lab, "grid:3"))  # 8 is not divisible by 3
    Unfreezing(model, ["featx_head"], "all", "train").set(0)
    matrices = [layer for layer in model.layers if "grid" in layer.name and layer.weights]
    assert matrices
    assert not any(layer.trainable_weights for layer in matrices)


@pytest.mark.parametrize(("what", "hint"), [("bdoy", "Did you mean 'body'"), ("?", "a block: stem, body, last")])
def test_an_unknown_layer_is_refused(lab: Lab, what: str, hint: str) -> None:
    with pytest.raises(UsageError, match=rf"No layer or block '{what}'.*{hint}" if what != "?" else hint):
        Unfreezing(graft(lab.bundle("logreg")), ["featx_head"], what)


def moved(before: Bundle, after: Bundle) -> set[str]:
    """Names of the layers whose weights are not the same."""
    old, new = (weights_of(bundle.path / "backbone.keras") for bundle in (before, after))
    assert old.keys() == new.keys()
    return {name for name in old if any(not np.array_equal(*pair) for pair in zip(old[name], new[name], strict=True))}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"unfreeze": "all"}, {"stem", "body", "last"}),  # the statistics of stem_bn stay
        ({"unfreeze": "all", "batch_norm": "train", "optimizer": "sgd"}, {"stem", "stem_bn", "body", "last"}),
        ({"unfreeze": "last", "batch_norm": "train", "optimizer": "sgd"}, {"last"}),
    ],
)
def test_frozen_weights_do_not_move(lab: Lab, prepared: Prepared, changes: dict[str, str], expected: set[str]) -> None:
    start = lab.bundle("logreg")
    tuned = publish_finetuned(start, with_finetune(prepared, epochs=1, **changes))
    assert moved(start, tuned) == expected
    assert not np.array_equal(
        arrays_of(start.path / "head.npz")["kernel"], arrays_of(tuned.path / "head.npz")["kernel"]
    )


# --- the result --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["svm", "dense"])
def test_it_is_one_more_bundle_that_says_whether_it_beat_the_head(lab: Lab, prepared: Prepared, head: str) -> None:
    start, told = lab.bundle(head), []
    tuned = publish_finetuned(start, prepared, Context("featx finetune", notify=told.append))
    manifest = tuned.manifest
    assert tuned.path.name == f"1-{head}-finetuned"
    assert [line.split(":")[0] for line in told] == ["epoch 1/2", "epoch 2/2"]
    assert (manifest.origin.bundle, manifest.origin.digest) == (start.path.name, start.manifest.digest)
    for part in ("val", "test"):  # measured again on the images at hand; what is stored is rounded to float16
        again, stored = manifest.origin.metrics_on(part), start.manifest.metrics_on(part)
        assert again.images == stored.images
        turned = round(abs(again.get("accuracy") - stored.get("accuracy")) * stored.images)
        assert turned == 0 or turned <= close_calls(start, prepared, part)
        assert again.get("log_loss") == pytest.approx(stored.get("log_loss"), rel=1e-2)
    assert manifest.key == start.manifest.key
    assert manifest.score.value == manifest.metrics_on("val").get("accuracy")
    for part in ("val", "test"):
        old, new = manifest.origin.metrics_on(part).get("accuracy"), manifest.metrics_on(part).get("accuracy")
        noise = manifest.comparison[part].p_value >= 0.05
        ahead = "is just ahead of" if noise else "beats"
        word = ahead if new > old else "equals" if new == old else "does not beat"
        assert f"{word} {start.path.name} on {part} (accuracy {new:.2f} against {old:.2f}; " in manifest.verdict
    assert not list(prepared.run.path.glob(".finetune-*"))  # what it would have resumed from
    history = [epoch.values for epoch in manifest.history]
    assert history[1]["loss"] < history[0]["loss"]
    assert [list(one.as_json()) for one in manifest.history] == [
        ["epoch", "loss", "accuracy", "val_log_loss", "val_accuracy", "learning_rate", "seconds"]
    ] * 2
    best = max((0, 1), key=lambda i: (history[i]["val_accuracy"], -history[i]["val_log_loss"]))
    assert manifest.finetune.best_epoch == best + 1
    assert manifest.metrics_on("val").get("accuracy") == history[best]["val_accuracy"]
    check_saved(lab, load_bundle(tuned.path))


def close_calls(bundle: Bundle, prepared: Prepared, part: str) -> int:
    """How many images have two best classes so close that rounding their features may turn them."""
    source, network = image_source(bundle, prepared), graft(bundle)
    rows = source.examples.rows(VAL if part == "val" else TEST)
    ((_, pixels),) = source.batches(rows, len(rows), None)
    best = np.sort(np.asarray(network(pixels.astype(np.float32), training=False)), axis=1)
    return int((best[:, -1] - best[:, -2] < 1e-3).sum())


def check_saved(lab: Lab, tuned: Bundle) -> None:
    """It predicts as it was measured, and it can be tuned further."""
    for part in ("val", "test"):
        found, _ = evaluate(tuned, images_of_part(lab.pipeline, tuned, part)[0])
        claimed = tuned.manifest.metrics_on(part)
        assert found["accuracy"] == pytest.approx(claimed.get("accuracy"))
        assert found["log_loss"] == pytest.approx(claimed.get("log_loss"), abs=1e-4)
        assert [one.values["recall"] for one in tuned.manifest.per_class[part]] == [
            one["recall"] for one in found["per_class"]
        ]
    check_start(tuned, pictures(lab))


def test_the_split_in_the_bundle_is_what_it_was_trained_on(lab: Lab, tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 20)
    write_pictures(tmp_path / "pictures", 4, seed=5)  # came after the head was fitted
    data = replace(lab.pipeline.data, path=str(tmp_path / "pictures"), seed=3)
    now = prepare(replace(lab.pipeline, data=data, report=replace(lab.pipeline.report, runs=str(tmp_path / "runs"))))
    tuned = publish_finetuned(lab.bundle("logreg"), with_finetune(now, epochs=1, **LITTLE))
    sample, seen = now.sample, lab.bundle("logreg").seen()
    kept = (sample.split == TRAIN) | ~np.where(
        sample.split == VAL, seen.trained_on(sample.digests), seen.used(sample.digests)
    )
    assert not kept.all()  # that bundle was trained on some of them
    assert tuned.split() == dict(zip(sample.digests[kept].tolist(), sample.split[kept], strict=True))
    assert list(tuned.split().values()).count(TRAIN) == int((sample.split == TRAIN).sum())


def test_without_val_no_epoch_could_be_chosen(lab: Lab, tmp_path: Path) -> None:
    pipeline = replace(
        lab.pipeline,
        data=replace(lab.pipeline.data, split=(0.8, 0.0, 0.2)),
        report=replace(lab.pipeline.report, runs=str(tmp_path)),
    )
    with pytest.raises(DataError, match="needs a val part"):
        publish_finetuned(lab.bundle("logreg"), prepare(pipeline))


@pytest.mark.parametrize("batch_size", [8, 64])  # 64: the only step of the epoch is taken after its loss is known
def test_a_loss_that_explodes_is_told(lab: Lab, prepared: Prepared, batch_size: int) -> None:
    wild = with_finetune(prepared, learning_rate=3e38, optimizer="sgd", batch_size=batch_size)
    with pytest.raises(
        HeadError, match=r"The loss became (nan|inf) in epoch 1; try a smaller --learning-rate than 3e\+38"
    ):
        publish_finetuned(lab.bundle("logreg"), wild)


def test_balanced_weights_are_one_on_average(lab: Lab, prepared: Prepared) -> None:
    start = lab.bundle("logreg")
    head = replace(start.manifest.head, class_weight="balanced")
    examples = make_examples(replace(start, manifest=replace(start.manifest, head=head)), prepared)
    train, targets = examples.split == TRAIN, examples.targets
    assert targets.weight[train].mean() == pytest.approx(1)
    for code in range(3):
        assert targets.weight[train & (targets.values == code)].sum() == pytest.approx(train.sum() / 3)


# --- augmentation ------------------------------------------------------------------------------------------------


def augmented(prepared: Prepared, **policy: Any) -> Prepared:
    return replace(prepared, pipeline=replace(prepared.pipeline, augment=AugmentOptions(**policy)))


@pytest.mark.parametrize("epoch", [0, 3])
def test_an_epoch_trains_on_its_own_view_of_every_image(lab: Lab, prepared: Prepared, epoch: int) -> None:
    source = image_source(lab.bundle("logreg"), augmented(prepared, rotation=30, flip="horizontal"))
    augmenter = Augmenter(AugmentOptions(rotation=30, flip="horizontal"), 0)
    order = np.random.default_rng(epoch).permutation(source.examples.known_rows(TRAIN))
    seen = []
    for rows, inputs in source.batches(order, 7, epoch):
        seen += rows.tolist()
        for row, pixels in zip(rows, inputs, strict=True):
            path = source.examples.paths[row]
            view = augmenter(load_image(path, (32, 32), "stretch"), digest_file(Path(path)), epoch + 1)
            np.testing.assert_array_equal(pixels, view)
    assert seen == order.tolist()


def test_what_is_measured_is_not_augmented(lab: Lab, prepared: Prepared) -> None:
    source = image_source(lab.bundle("logreg"), augmented(prepared, rotation=30))
    for code in (TRAIN, VAL):
        for rows, inputs in source.batches(source.examples.rows(code), 16, None):
            for row, pixels in zip(rows, inputs, strict=True):
                np.testing.assert_array_equal(pixels, load_image(source.examples.paths[row], (32, 32), "stretch"))


def test_augmentation_alters_the_result_its_fingerprint_and_stays_with_the_bundle(
    lab: Lab, prepared: Prepared, tmp_path: Path
) -> None:
    start, one = lab.bundle("logreg"), with_finetune(prepared, epochs=1, **LITTLE)
    plain = publish_finetuned(start, replace(one, run=Run(tmp_path / "plain")))
    policy = {"rotation": 30.0, "brightness": 0.4}
    altered = publish_finetuned(start, replace(augmented(one, **policy), run=Run(tmp_path / "altered")))
    assert plain.manifest.fingerprint != altered.manifest.fingerprint
    assert plain.manifest.augment is None
    assert Augmenter.from_json(altered.manifest.augment.as_json()) == Augmenter(AugmentOptions(**policy), 0)
    assert not np.array_equal(
        arrays_of(plain.path / "head.npz")["kernel"], arrays_of(altered.path / "head.npz")["kernel"]
    )
    base, nothing = one.pipeline.finetune, AugmentOptions(fill_mode="reflect", views=0)
    assert tuned_fingerprint(start, base, 0) == tuned_fingerprint(start, base, 0, nothing)
    assert tuned_fingerprint(start, base, 0, AugmentOptions(**policy)) == altered.manifest.fingerprint


# --- killed and resumed ------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What happens to a process, for want of a process."""


def weights(bundle: Bundle) -> list[np.ndarray]:
    found = [weights_of(path) for path in (bundle.path / "backbone.keras", bundle.path / "head.keras") if path.exists()]
    held = arrays_of(bundle.path / "head.npz") if len(found) == 1 else {}
    return [*(array for one in found for arrays in one.values() for array in arrays), *held.values()]


@pytest.mark.slow
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("head", ["logreg", "dense"])  # whose dropout draws the same numbers again
def test_killed_and_resumed_it_ends_with_the_same_weights(
    lab: Lab, prepared: Prepared, tmp_path: Path, head: str
) -> None:
    """In the middle of an epoch."""
    start = lab.bundle(head)
    changes = {"epochs": 3, "optimizer": "adam", "learning_rate": 3e-3, "batch_size": 7}
    kill = Kill(tmp_path / "whole", tmp_path / "part", "epoch 2/3", 10)
    whole = publish_finetuned(start, with_finetune(replace(prepared, run=Run(kill.run)), **changes), kill.context)
    told: list[str] = []
    part = with_finetune(replace(prepared, run=Run(kill.left)), **changes)
    resumed = publish_finetuned(start, part, Context(notify=told.append))
    assert told[0] == "Going on after epoch 1."
    for expected, found in zip(weights(whole), weights(resumed), strict=True):
        np.testing.assert_array_equal(found, expected)
    left_out = ("seconds",)
    for expected, found in zip(whole.manifest.history, resumed.manifest.history, strict=True):
        assert found.epoch == expected.epoch
        assert {k: v for k, v in found.values.items() if k not in left_out} == {
            k: v for k, v in expected.values.items() if k not in left_out
        }
    assert whole.manifest.metrics == resumed.manifest.metrics


def test_a_killed_write_of_the_state_costs_one_epoch_and_not_the_training(
    lab: Lab, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, part = lab.bundle("logreg"), with_finetune(prepared, epochs=2, **LITTLE)
    write = checkpoints.write_json

    def die(path: Path, value: Any) -> None:
        if len(value) == 2:
            raise Killed
        write(path, value)

    monkeypatch.setattr(checkpoints, "write_json", die)
    with pytest.raises(Killed):
        publish_finetuned(start, part)
    monkeypatch.setattr(checkpoints, "write_json", write)
    told: list[str] = []
    publish_finetuned(start, part, Context(notify=told.append))
    assert told[0] == "Going on after epoch 1."


@pytest.mark.usefixtures("op_by_op")
def test_other_options_or_images_begin_anew(lab: Lab, prepared: Prepared, tmp_path: Path) -> None:
    class Started(Exception):
        pass

    def die(line: str) -> None:
        if "left out" not in line:  # which images another split leaves to measure
            raise Started(line)

    start, prepared = lab.bundle("logreg"), with_finetune(prepared, **LITTLE)
    sample = replace(prepared.sample, split=prepared.sample.split[::-1].copy())
    for other in (prepared, with_finetune(prepared, learning_rate=5e-4), replace(prepared, sample=sample)):
        with pytest.raises(Started, match="epoch 1/2"):
            publish_finetuned(start, other, Context(notify=die))
    with pytest.raises(Started, match="Going on after epoch 1"):
        publish_finetuned(start, prepared, Context(notify=die))


def test_the_fingerprint_knows_bundle_options_and_seed(lab: Lab) -> None:
    base = lab.pipeline.finetune
    variants = [
        tuned_fingerprint(lab.bundle("logreg"), base, 0),
        tuned_fingerprint(lab.bundle("svm"), base, 0),
        tuned_fingerprint(lab.bundle("logreg"), base, 1),
        tuned_fingerprint(lab.bundle("logreg"), replace(base, unfreeze="2"), 0),
        tuned_fingerprint(lab.bundle("logreg"), replace(base, epochs=9), 0),
    ]
    assert len(set(variants)) == len(variants)
    assert tuned_fingerprint(lab.bundle("logreg"), replace(base), 0) == variants[0]


@pytest.mark.parametrize("clf", ["logreg", "dense"])
def test_layers_side_by_side_behind_a_front_are_grafted_and_trained(lab: Lab, clf: str, tmp_path: Path) -> None:
    features = replace(lab.pipeline.features, layer=("stem_relu", "last"), pooling=("max",))
    head = replace(lab.head(clf), combine="all", normalize="l2", pca=6.0, folds=2, calibrate="isotonic")
    pipeline = replace(lab.pipeline, features=features, head=head, report=replace(lab.pipeline.report, name=clf + "2"))
    prepared = prepare(pipeline)
    bundle = publish_head(prepared)
    assert bundle.manifest.output_names == (
        "stem_relu@max",
        "last@max",
    )
    images = pictures(lab)
    logits = bundle.head(bundle.transform.apply(bundle.features(images)))
    grafted = np.asarray(graft(bundle)(images.astype(np.float32), training=False))
    np.testing.assert_allclose(grafted, logits, atol=1e-3 * np.abs(logits).max())
    tuned = publish_finetuned(bundle, with_finetune(prepared, optimizer="sgd"))
    assert ("front.npz" in tuned.manifest.files) == ("front.npz" in bundle.manifest.files)
    again = load_bundle(tuned.path)
    chances = again.probabilities(again.features(images))
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-9)
    assert again.manifest.head.calibration == "temperature"
