"""Fine-tune: backbone + head as one Keras model, trained end to end from where the head stands.

Before its first step the model gives the predictions of the bundle it comes from. The order of the images and every
random number are functions of (seed, epoch), and weights, optimizer and history are written down after every epoch, so
an interrupted run goes on as if nothing had happened; Keras' own BackupAndRestore does not.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import featx
from featx import novelty
from featx.backbones import import_keras
from featx.bundle import LOWER_IS_BETTER, Bundle, add_bundle, write_split
from featx.checkpoints import Checkpoint, reseed
from featx.dataset import TEST, TRAIN, VAL
from featx.engines import choose_engine, compile_graph
from featx.errors import BundleError, DataError, UsageError
from featx.evaluate import Judged, align, measure, metric_of, summary
from featx.files import digest_json
from featx.heads import ArrayFeatures, calibrate, front, persist
from featx.images import iter_batches
from featx.options import FinetuneOptions
from featx.progress import Progress, Tell, no_progress, say_nothing
from featx.report.occasions import report_fit
from featx.train import describe_model

if TYPE_CHECKING:
    import keras

    from featx.run import Prepared

GRAFTABLE = ("logreg", "svm", "ridge", "dense")
_HEAD = "featx_head"


def tuned_fingerprint(bundle: Bundle, options: FinetuneOptions, seed: int) -> str:
    """What a fine-tuned bundle depends on."""
    return digest_json(
        {"from": bundle.about["digest"], "options": asdict(options), "seed": seed, "featx": featx.__version__}
    )


def graft(bundle: Bundle) -> keras.Model:
    """Backbone and head of a bundle as one Keras model.

    Takes float32 (n, height, width, 3), RGB in [0, 255]; gives logits (n, classes), the temperature applied: their
    softmax is the bundle's confidence.

    Raises
    ------
    BundleError
        When the head is not a network: an SVM with a radial kernel, or nearest neighbours.
    """
    _require_graftable(bundle)
    keras, kind = import_keras(), bundle.about["head"]["kind"]
    backbone = persist.load_network(bundle.path / "backbone.keras")
    outputs = backbone.output if isinstance(backbone.output, dict) else {bundle.about["outputs"][0]: backbone.output}
    flat = [
        keras.layers.Flatten(name=f"featx_flat_{i}")(outputs[name]) for i, name in enumerate(bundle.about["outputs"])
    ]
    features = flat[0] if len(flat) == 1 else keras.layers.Concatenate(name="featx_features")(flat)
    features = _graft_front(keras, bundle, features)
    if kind == "linear":
        kernel, bias = persist.load_dense(bundle.path / "head.npz")
        dense = keras.layers.Dense(kernel.shape[1], name=_HEAD, dtype="float32")
        logits = dense(features)
        dense.set_weights([kernel, bias])
    else:
        head = persist.load_network(bundle.path / "head.keras")
        head.name = _HEAD
        logits = keras.layers.Rescaling(1 / bundle.temperature, name="featx_temperature")(head(features))
    return keras.Model(backbone.inputs[0], logits)


def _require_graftable(bundle: Bundle) -> None:
    if bundle.multilabel:
        raise BundleError(f"{bundle.path} gives several labels per image. Only heads of one class can be fine-tuned.")
    if bundle.about["head"]["kind"] not in {"linear", "network"}:
        raise BundleError(
            f"{bundle.path} has a head ({bundle.about['head']['clf']}) that is no network and cannot be trained end to "
            f"end. Heads that can: {', '.join(GRAFTABLE)}. Fit one: featx fit-head --clf logreg, then --from it."
        )


def _graft_front(keras: Any, bundle: Bundle, features: Any) -> Any:
    """The front of a bundle's head as layers, which do not train."""
    if bundle.front.unit:
        features = keras.layers.UnitNormalization(axis=-1, name="featx_unit")(features)
    mean, components = bundle.front.mean, bundle.front.components
    if mean is None or components is None:
        return features
    projection = keras.layers.Dense(len(components), name="featx_components", dtype="float32")
    features = projection(features)
    projection.set_weights([components.T, -(components @ mean)])
    return features


def unfreeze(model: keras.Model, what: str, batch_norm: str = "frozen") -> int:
    """Set which layers train: the head always, of the backbone `what` says; returns how many weights arrays train.

    what : "all", "none", a layer's name (it and everything above), or a number of layers from the top
    batch_norm : "frozen" keeps batch normalisation in inference mode wherever it is

    Raises
    ------
    UsageError
        An unknown layer.
    """
    keras = import_keras()
    backbone = [layer for layer in model.layers if not layer.name.startswith("featx_")]
    first = _first_trained([layer.name for layer in backbone], what)
    for position, layer in enumerate(backbone):
        frozen_norm = batch_norm == "frozen" and isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = position >= first and not frozen_norm
    for layer in model.layers:
        if layer.name.startswith("featx_") and layer.name != _HEAD:
            layer.trainable = False  # the matrices of grid pooling are no weights
    return len(model.trainable_variables)


def _first_trained(names: list[str], what: str) -> int:
    if what == "all":
        return 0
    if what == "none":
        return len(names)
    if what.lstrip("-").isdigit():
        count = int(what)
        return 0 if count < 0 else max(0, len(names) - count)
    if what in names:
        return names.index(what)
    import difflib

    near = difflib.get_close_matches(what, names, n=1)
    raise UsageError(
        f"No layer {what!r} in this backbone to unfreeze from."
        + (f" Did you mean {near[0]!r}?" if near else " Give all, none, a number of layers, or a name of featx layers.")
    )


def finetune(
    bundle: Bundle,
    prepared: Prepared,
    command: str = "",
    progress: Progress = no_progress,
    tell: Tell = say_nothing,
) -> Bundle:
    """Train a bundle's network end to end, keep the best epoch by validation, and save it as one more bundle.

    Raises
    ------
    BundleError
        A head that cannot be grafted.
    DataError
        No validation part, without which no epoch could be chosen.
    """
    start = time.perf_counter()
    options, seed = prepared.pipeline.finetune, prepared.pipeline.data.seed
    _require_graftable(bundle)
    data = _Data(bundle, prepared)
    model = graft(bundle)
    unfreeze(model, options.unfreeze, options.batch_norm)
    wanted = tuned_fingerprint(bundle, options, seed)
    state = digest_json([wanted, prepared.sample.digest])  # other images or labels do not resume this training
    trainer = _Trainer(model, data, options, seed, prepared.run / f".finetune-{state[:12]}")
    before = _figures(
        trainer.judge_parts()
    )  # the bundle's own figures may be of other images: the split may have grown
    history = trainer.train(progress, tell)
    found = _save(bundle, prepared, trainer, before, history, command, wanted, time.perf_counter() - start)
    trainer.checkpoint.remove()
    return found


class _Data:
    """Images and labels of each part, the labels as positions in the bundle's classes."""

    def __init__(self, bundle: Bundle, prepared: Prepared) -> None:
        sample, images = prepared.sample, prepared.sample.images
        labels, self.classes = align(images.classes, sample.y, bundle.classes)
        self.paths = [images.paths[row] for row in sample.rows]
        self.labels, self.split = labels, sample.split
        self.known = len(bundle.classes)
        self.size = bundle.input_size
        self.resize = str(bundle.about["backbone"]["resize"])
        self.workers = prepared.pipeline.features.workers
        self.weight = np.ones(len(labels)) if sample.weight is None else sample.weight
        if bundle.about["head"]["params"].get("class_weight") == "balanced":
            counts = np.bincount(labels[self.split == TRAIN], minlength=len(self.classes))
            self.weight = self.weight * (counts.sum() / np.maximum(counts, 1) / np.count_nonzero(counts))[labels]
        if not (self.split == VAL).any():
            raise DataError("Fine-tuning keeps the best epoch by validation, and there is no val part. See --split.")

    def rows(self, code: int) -> np.ndarray:
        """Positions of one part; a class the head has not seen cannot be trained."""
        rows = np.flatnonzero(self.split == code)
        return rows[self.labels[rows] < self.known] if code == TRAIN else rows

    def batches(self, rows: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(positions of the readable images, float32 images) in the order of `rows`."""
        for batch in iter_batches(self.paths, rows.tolist(), self.size, self.resize, size, self.workers):
            if len(batch.rows):
                yield batch.rows, batch.images.astype(np.float32)


class _Trainer:
    """Trains epoch by epoch. Its whole state is on disk after each."""

    def __init__(self, model: keras.Model, data: _Data, options: FinetuneOptions, seed: int, folder: Path) -> None:
        self.model, self.data, self.options, self.seed, self.folder = model, data, options, seed, folder
        keras = import_keras()
        rate = options.learning_rate
        self.optimizer: Any = (
            keras.optimizers.Adam(rate)
            if options.optimizer == "adam"
            else keras.optimizers.SGD(rate, momentum=options.momentum)
        )
        model.compile(self.optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
        self.optimizer.build(model.trainable_variables)
        self.checkpoint = Checkpoint(model, self.optimizer, folder)

    def train(self, progress: Progress, tell: Tell) -> list[dict[str, Any]]:
        """Train what is left of the epochs; returns the history, with the best epoch's weights in the model."""
        history = self.checkpoint.resume()
        if history:
            tell(f"Going on after epoch {len(history)}.")
        for epoch in range(len(history), self.options.epochs):
            start = time.perf_counter()
            loss = self._epoch(epoch, progress)
            logits, labels, _ = self.logits(VAL)
            if not (np.isfinite(loss) and np.isfinite(logits).all()):
                raise UsageError(
                    f"The loss became infinite in epoch {epoch + 1}. Choose a smaller --learning-rate than "
                    f"{self.options.learning_rate}."
                )
            val = measure(labels, calibrate.softmax(logits), self.data.classes)
            entry = {"epoch": epoch + 1, "loss": loss, **{f"val_{k}": val[k] for k in ("accuracy", "log_loss")}}
            entry["seconds"] = round(time.perf_counter() - start, 3)
            history.append(entry)
            self.checkpoint.keep(history, best=_best_epoch(history) == epoch)
            tell(
                f"epoch {epoch + 1}/{self.options.epochs}: loss {loss:.4f}, val accuracy {val['accuracy']:.4f} "
                f"({entry['seconds']:.1f} s)"
            )
        self.checkpoint.restore_best()
        return history

    def logits(self, code: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Logits float32 (n, classes), labels int64 (n,) and paths of one part, in inference mode."""
        logits, rows = [np.empty((0, self.data.known), np.float32)], [np.empty(0, np.int64)]
        for some, images in self.data.batches(self.data.rows(code), self.options.batch_size):
            logits.append(np.asarray(self.model.predict_on_batch(images)))
            rows.append(some)
        read = np.concatenate(rows)
        return np.concatenate(logits), self.data.labels[read], tuple(self.data.paths[row] for row in read)

    def judge_parts(self, temperature: float = 1.0) -> list[Judged]:
        """Val and test as the model stands."""
        found = []
        for part, code in (("val", VAL), ("test", TEST)):
            logits, labels, paths = self.logits(code)
            probabilities = calibrate.softmax(logits, temperature)
            found.append(Judged(part, paths, labels, probabilities, tuple(self.data.classes)))
        return found

    def _epoch(self, epoch: int, progress: Progress) -> float:
        order = np.random.default_rng((self.seed, epoch)).permutation(self.data.rows(TRAIN))
        reseed(self.model, self.seed, epoch)
        total = done = 0.0
        for rows, images in self.data.batches(order, self.options.batch_size):
            loss = self.model.train_on_batch(images, self.data.labels[rows], sample_weight=self.data.weight[rows])
            self.model.reset_metrics()  # train_on_batch gives the mean since the last reset
            total += float(np.asarray(loss)) * len(rows)
            done += len(rows)
            progress(f"epoch {epoch + 1}/{self.options.epochs}", int(done), len(order))
        return total / max(done, 1)


def _figures(judged: list[Judged]) -> dict[str, dict[str, Any]]:
    """The single figures of each part."""
    return {one.part: summary(measure(one.labels, one.probabilities, one.classes)) for one in judged}


def _best_epoch(history: list[dict[str, Any]]) -> int:
    """Position of the epoch with the best val accuracy; of equal ones, the lowest val loss."""
    losses = [np.inf if one["val_log_loss"] is None else one["val_log_loss"] for one in history]
    return max(range(len(history)), key=lambda i: (history[i]["val_accuracy"], -losses[i]))


def _save(
    bundle: Bundle,
    prepared: Prepared,
    trainer: _Trainer,
    before: dict[str, dict[str, Any]],
    history: list[dict[str, Any]],
    command: str,
    fingerprint: str,
    seconds: float,
) -> Bundle:
    """Split the trained model into backbone and head again, calibrate, measure and write."""
    data = trainer.data
    val_logits, val_labels, _ = trainer.logits(VAL)
    known = val_labels < data.known
    temperature = calibrate.fit_temperature(val_logits[known], val_labels[known])
    judged = trainer.judge_parts(temperature)
    metrics = _figures(judged)
    metric = bundle.about["score"]["metric"]
    total = temperature * (bundle.temperature if bundle.about["head"]["kind"] == "network" else 1.0)
    about = describe_model(prepared.extraction, bundle.outputs, prepared.sample, list(bundle.classes), command) | {
        "backbone": bundle.about["backbone"] | {"finetuned": True},
        "key": bundle.about["key"],
        "fingerprint": fingerprint,
        "head": bundle.about["head"] | {"temperature": total, "calibration": "temperature"},
        "metrics": metrics,
        "score": {"metric": metric, "value": metric_of(metrics["val"], metric), "where": "val"},
        "search": [],
        "history": history,
        "finetune": asdict(trainer.options) | {"best_epoch": _best_epoch(history) + 1},
        "from": {"bundle": bundle.path.name, "digest": bundle.about["digest"], "metrics": before},
        "notes": [],
        "seconds": round(seconds, 3),
    }
    about["verdict"] = _verdict(about, metric)
    tuned, sample = _write(bundle, prepared, trainer, temperature, about), prepared.sample
    report_fit(tuned, prepared.extraction, sample.y, sample.split, judged, prepared.pipeline)
    return tuned


def _verdict(about: dict[str, Any], metric: str) -> str:
    """One sentence: did fine-tuning beat the head it started from?"""
    before, after = about["from"]["metrics"], about["metrics"]
    sign = -1 if metric in LOWER_IS_BETTER else 1
    told = []
    for part in ("val", "test"):
        old, new = metric_of(before[part], metric), metric_of(after[part], metric)
        if old is not None and new is not None:
            word = "beats" if sign * (new - old) > 0 else "equals" if new == old else "does not beat"
            told.append(f"{word} the head on {part} ({metric} {new:.4f} against {old:.4f})")
    return "Fine-tuning " + ", and ".join(told) + "." if told else "There is nothing to compare with the head on."


def _write(bundle: Bundle, prepared: Prepared, trainer: _Trainer, temperature: float, about: dict[str, Any]) -> Bundle:
    keras, model = import_keras(), trainer.model
    backbone = persist.load_network(bundle.path / "backbone.keras")
    trained = {layer.name: layer for layer in model.layers}
    for layer in backbone.layers:
        layer.set_weights(trained[layer.name].get_weights())
    folder = trainer.folder
    folder.mkdir(parents=True, exist_ok=True)
    backbone.save(folder / "backbone.keras")
    sources = {name: bundle.path / name for name in (front.FILE,) if name in bundle.about["files"]}
    sources |= {"backbone.keras": folder / "backbone.keras", "split.npz": folder / "split.npz"}
    write_split(folder / "split.npz", prepared.sample.digests, prepared.sample.split)  # of what it was trained on
    sources[novelty.FILE] = _reference(bundle, backbone, trainer).save(folder)
    head = trained[_HEAD]
    if isinstance(head, keras.layers.Dense):
        kernel, bias = (np.asarray(value) / np.float32(temperature) for value in head.get_weights())
        np.savez(folder / "head.npz", kernel=kernel, bias=bias)
        sources["head.npz"] = folder / "head.npz"
    else:
        head.save(folder / "head.keras")
        sources["head.keras"] = folder / "head.keras"
    if choose_engine(prepared.pipeline.features.engine) == "openvino":
        shutil.rmtree(folder / "graph", ignore_errors=True)
        compile_graph("openvino", lambda: backbone, folder / "graph", "float32")
        sources["graph"] = folder / "graph"
    return add_bundle(prepared.run, f"{about['head']['clf']}-finetuned", about, sources)


def _reference(bundle: Bundle, backbone: keras.Model, trainer: _Trainer) -> novelty.Reference:
    """What unknown images are told by, in the features that the backbone gives after training."""
    data, d = trainer.data, int(bundle.about["head"]["features"])

    def features(rows: np.ndarray) -> tuple[np.ndarray, ArrayFeatures]:
        read, found = [np.empty(0, np.int64)], [np.empty((0, d), np.float32)]
        for some, images in data.batches(rows, trainer.options.batch_size):
            made = backbone.predict_on_batch(images)
            maps = [made[name] if isinstance(made, dict) else made for name in bundle.about["outputs"]]
            found.append(np.concatenate([np.asarray(one).reshape(len(some), -1) for one in maps], axis=1))
            read.append(some)
        return np.concatenate(read), ArrayFeatures(np.concatenate(found))

    train, val = data.rows(TRAIN), data.rows(VAL)
    val = np.random.default_rng(trainer.seed).permutation(val)[: novelty.MOST_ROWS]
    read, kept = features(train[novelty.choose_rows(data.labels[train], d, trainer.seed)])
    return novelty.fit_reference(kept, data.labels[read], features(val)[1], trainer.seed)
