"""What the cache is for: a frozen VGG16 with a dense head trained the usual way, and by featx, which extracts once.

    python benchmarks/bench_cache.py [--images 592] [--epochs 20] [--measured-epochs 2] [--rounds 1]

The usual way runs every image through the frozen network in every epoch; of its epochs only some are measured, and the
later of them stand for the rest. The second story is a search among ten strengths in five folds: the usual way has the
network in the pipeline that is fitted, so each of the fifty fits and the last one pass all images through it; one such
pass and one fit are measured. Seconds count from an empty process on either side: imports, building and converting the
network are in them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import compare, report, write_photos

SIZE, LAYER = 224, "block5_pool"
HIDDEN, DROPOUT = (256, 128), 0.3
BATCH = 32
FOLDS, STRENGTHS = 5, 10
GOAL = 15.0


def _network() -> Any:
    import keras

    base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(SIZE, SIZE, 3))
    base.trainable = False
    return base


def _head(keras: Any, tensor: Any, classes: int) -> Any:
    hidden = keras.layers.Dense(HIDDEN[0], "relu")(tensor)
    hidden = keras.layers.Dropout(DROPOUT)(hidden)
    hidden = keras.layers.Dense(HIDDEN[1], "relu")(hidden)
    return keras.layers.Dense(classes, "softmax")(hidden)


def usual_training(folder: str, epochs: int, measured: int) -> dict[str, Any]:
    start = time.perf_counter()
    import keras

    train, val = keras.utils.image_dataset_from_directory(
        folder, image_size=(SIZE, SIZE), batch_size=BATCH, validation_split=0.2, subset="both", seed=0, verbose=False
    )
    base = _network()
    inputs = keras.Input((SIZE, SIZE, 3))
    features = base(keras.applications.vgg16.preprocess_input(inputs), training=False)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    model = keras.Model(inputs, _head(keras, pooled, len(train.class_names)))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    ends = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter()))  # noqa: ARG005
    model.fit(train.prefetch(2), validation_data=val.prefetch(2), epochs=measured, verbose=0, callbacks=[note])
    first = ends[0] - start
    later = (ends[-1] - ends[0]) / (measured - 1) if measured > 1 else first
    return {"seconds": first + (epochs - 1) * later, "measured seconds": ends[-1] - start, "seconds of an epoch": later}


def usual_search(folder: str) -> dict[str, Any]:
    """The search with the network in the pipeline: passes through it and fits of the head, one of each measured."""
    start = time.perf_counter()
    import keras
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    images = keras.utils.image_dataset_from_directory(
        folder, image_size=(SIZE, SIZE), batch_size=BATCH, shuffle=False, verbose=False
    )
    base = _network()
    model = keras.Model(base.input, keras.layers.GlobalAveragePooling2D()(base.output))
    prepared = images.map(lambda x, _: keras.applications.vgg16.preprocess_input(x)).prefetch(2)
    before = time.perf_counter()
    features = model.predict(prepared, verbose=0)
    one_pass = time.perf_counter() - before
    labels = [int(label) for _, some in images for label in some]
    before = time.perf_counter()
    make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels)
    one_fit = time.perf_counter() - before
    measured = time.perf_counter() - start
    fits = FOLDS * STRENGTHS + 1
    seconds = measured + (fits - 1) * (one_pass + one_fit)
    return {
        "seconds": seconds,
        "measured seconds": measured,
        "seconds of a pass": one_pass,
        "seconds of a fit": one_fit,
    }


def featx_way(folder: str, clf: str, epochs: int) -> dict[str, Any]:
    """Extract into an empty cache, then fit: the dense head for `epochs`, or logreg with the whole search."""
    start = time.perf_counter()
    import numpy as np

    from featx.config import DataOptions, FeaturesOptions, HeadOptions, HiddenLayers
    from featx.dataset import read_images
    from featx.extraction.flow import extract
    from featx.selection.heads import choose_head
    from featx.selection.problem import Problem
    from featx.selection.settings import SearchSettings
    from featx.store.cache import Cache

    if clf == "dense":
        hidden = f"{HIDDEN[0]},{DROPOUT},{HIDDEN[1]}"
        head = HeadOptions(
            clf="dense", search="val", hidden=HiddenLayers(hidden), epochs=epochs, patience=epochs, batch_size=BATCH
        )
    else:
        head = HeadOptions(clf="logreg", search="cv", folds=FOLDS)
    with tempfile.TemporaryDirectory() as cache:
        options = FeaturesOptions(backbone="VGG16", weights="random", layer=(LAYER,), input_size=SIZE, cache=cache)
        with Cache(cache) as opened:
            done = extract(read_images(folder, DataOptions()), options, opened)
        extracted = time.perf_counter()
        images = done.images
        assert images.labels is not None
        rows = np.flatnonzero(done.readable)
        shares = [0.8, 0.2] if clf == "dense" else [1.0, 0.0]
        split = np.random.default_rng(0).choice(2, len(rows), p=shares).astype(np.uint8)
        features = done.features(done.outputs[0], rows)
        choose_head(Problem(features, images.labels[rows], split, images.classes), SearchSettings(head))
        end = time.perf_counter()
    return {"seconds": end - start, "seconds of extraction": extracted - start, "seconds of the head": end - extracted}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=592)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--measured-epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = str(Path(root) / "photos")
        write_photos(Path(folder), arguments.images, (500, 400))
        measured = min(arguments.measured_epochs, arguments.epochs)
        cases: dict[str, Any] = {
            "training: Keras, frozen VGG16": (usual_training, (folder, arguments.epochs, measured)),
            "training: featx": (featx_way, (folder, "dense", arguments.epochs)),
            "search: network in the pipeline": (usual_search, (folder,)),
            "search: featx": (featx_way, (folder, "logreg", 0)),
        }
        results = compare(cases, arguments.rounds)
    training = results["training: Keras, frozen VGG16"]["seconds"] / results["training: featx"]["seconds"]
    search = results["search: network in the pipeline"]["seconds"] / results["search: featx"]["seconds"]
    goals = {
        f"training for {arguments.epochs} epochs: Keras / featx, seconds": (GOAL, training, "min"),
        f"search, {FOLDS} folds x {STRENGTHS} strengths: usual / featx, seconds": (GOAL, search, "min"),
    }
    notes = [
        f"training: {measured} of {arguments.epochs} epochs of the usual way were measured, the rest multiplied.",
        f"search: one pass and one fit of the usual way were measured, and multiplied by {FOLDS * STRENGTHS + 1}.",
        "VGG16 has random weights: only the seconds count here.",
    ]
    claim = f"The point of the cache: VGG16 and a head on {arguments.images} photographs"
    report(claim, results, goals, notes=notes)


if __name__ == "__main__":
    main()
