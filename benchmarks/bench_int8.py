"""What int8 gains and costs beside float32 and bfloat16: images per CPU second, and accuracy on digits.

    python benchmarks/bench_int8.py [--images 100] [--rounds 3] [--only NETWORK]
                                    [--inception FILE] [--fashion-mnist FOLDER]

Every network is extracted once in each precision, which quantises it; its engines then infer the same images in turn.
The weights are random but for EfficientNetLite0's, and InceptionV3's where a file is given: speed does not depend on
them, cosines do. Accuracy is that of logistic regression on scikit-learn's digits,
the mean of five splits, since one quarter of them is 449 images and three more or less are 0.67 points; and on the
10,000 test images of Fashion-MNIST where its files are given.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import in_process, report, write_photos

PRECISIONS: tuple[Any, ...] = ("float32", "bfloat16", "int8")
SPLITS = 5  # of the digits
TRAINED = 10_000  # images of Fashion-MNIST
SMALL: dict[str, Any] = {"input_size": 64}
NETWORKS: dict[str, dict[str, Any]] = {
    "InceptionV3": {"layer": ("mixed7",), "input_size": 150},
    "ResNet50": {},
    "EfficientNetLite0": {},
    "MobileNetV2": {},
    "EfficientNetB0": {},
    "DINOv2 ViT-S": {"preprocessing": "imagenet", "layer": ("output@cls+avg",)},
}
RESCALED = ("MobileNetV2", "EfficientNetB0")


def measure(name: str, weights: str, folder: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """Images per CPU second and per second of each precision, in turn, and cosines to float32."""
    from featx.config import DataOptions, FeaturesOptions
    from featx.dataset import read_images
    from featx.extraction.flow import extract, open_engine
    from featx.images.decoder import load_image
    from featx.store.cache import Cache

    images = read_images(str(folder / "photos"), DataOptions())
    engines, features, cost = {}, {}, {}
    with Cache(folder / "cache") as cache:
        for precision in PRECISIONS:
            backbone = str(folder / "vit") if name == "DINOv2 ViT-S" else name
            options = FeaturesOptions(backbone, weights, precision=precision, cache=str(cache.path), **NETWORKS[name])
            began = time.process_time()
            done = extract(images, options, cache)
            cost[precision] = time.process_time() - began
            features[precision] = done.features(done.outputs[0], np.arange(len(images))).asarray()
            engines[precision] = open_engine(done.outputs, done.spec, options, done.store.graphs)
    pixels = np.stack([load_image(path, done.spec.input_size, done.spec.resize) for path in images.paths])
    rates: dict[str, list[tuple[float, float]]] = {precision: [] for precision in PRECISIONS}
    for turn in range(rounds + 1):
        for precision, engine in engines.items():
            cpu, wall = time.process_time(), time.perf_counter()
            engine.infer(pixels)
            if turn:  # the first compiles
                taken = (time.process_time() - cpu, time.perf_counter() - wall)
                rates[precision].append((len(pixels) / taken[0], len(pixels) / taken[1]))
    exact = features["float32"] / np.linalg.norm(features["float32"], axis=1, keepdims=True)
    result = {}
    for precision in PRECISIONS:
        own = features[precision] / np.linalg.norm(features[precision], axis=1, keepdims=True)
        cosines = (exact * own).sum(axis=1)
        result[f"{name}: {precision}"] = {
            "images per CPU second": statistics.median(rate for rate, _ in rates[precision]),
            "images per second": statistics.median(rate for _, rate in rates[precision]),
            "median cosine": float(np.median(cosines)),
            "worst cosine": float(cosines.min()),
            "CPU seconds of the first extraction": cost[precision],
        }
    return result


def write_rescaled(name: str, folder: Path) -> str:
    """Random weights whose batch normalisations are fitted on the photographs; without that, activations die out.

    (Of MobileNetV2 they shrink to 1e-12, where no range can be measured.)
    """
    from featx.backbones import import_keras

    keras = import_keras()
    model = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(224, 224, 3))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    files = sorted((folder / "photos").rglob("*.jpg"))[:64]
    pixels = np.stack([np.asarray(keras.utils.load_img(path, target_size=(224, 224)), np.float32) for path in files])
    model(pixels / 127.5 - 1 if name == "MobileNetV2" else pixels, training=True)
    path = folder / f"{name}.weights.h5"
    model.save_weights(path)
    return str(path)


def _rescale(name: str, folder: str) -> dict[str, Any]:
    return {"path": write_rescaled(name, Path(folder))}


def write_vit(folder: Path) -> None:
    """The configuration of DINOv2 ViT-S/14, without weights."""
    from bench_tokens import SMALL as VIT

    content = {"class_name": "DINOV2Backbone", "registered_name": "keras_hub>DINOV2Backbone", "config": VIT}
    folder.mkdir()
    module = {"module": "keras_hub.src.models.dinov2.dinov2_backbone"}
    (folder / "config.json").write_text(json.dumps(module | content), encoding="utf-8")


def accuracy(folder: Path, data: str, features: dict[str, Any], precision: Any) -> dict[str, Any]:
    """Logistic regression on frozen features: the mean accuracy of several splits, on the images that measure.

    Of a set with a test part of its own every split has that one; of others each has another quarter.
    """
    from featx.config import DataOptions, FeaturesOptions, HeadOptions, Pipeline, ReportOptions
    from featx.store.cache import Cache
    from featx.workflow.prepare import prepare
    from featx.workflow.publish import publish_head

    found, images, start = [], 0, time.process_time()
    for seed in range(1 if features else SPLITS):
        declared = bool(features)
        pipeline = Pipeline(
            data=DataOptions(
                path=str(folder / data),
                split=(0.95, 0.05, 0.0) if declared else (0.65, 0.1, 0.25),
                seed=seed,
                max_train=TRAINED if declared else None,
            ),
            features=FeaturesOptions(precision=precision, cache=str(folder / "cache"), **(features or SMALL)),
            head=HeadOptions(clf="logreg", strength=0.01),
            report=ReportOptions(
                name=f"{data}-{seed}-{len(features)}", runs=str(folder / f"runs-{precision}"), html=False
            ),
        )
        with Cache(folder / "cache") as cache:
            test = publish_head(prepare(pipeline, cache)).manifest.metrics_on("test")
        found.append(test.get("accuracy"))
        images += test.images
    return {
        "test accuracy": statistics.mean(one for one in found if one is not None),
        "test images": images,
        "CPU seconds of the head and its features": time.process_time() - start,
    }


def write_sets(folder: Path, fashion: str, inception: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """The images that accuracy is measured on: name -> folder, and options of the features."""
    from featx.dataset.digits import write_digits
    from featx.dataset.fashion_mnist import write_fashion_mnist

    write_digits(folder / "digits")
    sets: dict[str, tuple[str, dict[str, Any]]] = {f"digits, {SPLITS} splits": ("digits", {})}
    if fashion:
        write_fashion_mnist(Path(fashion), folder / "fashion")
        sets["Fashion-MNIST, EfficientNetLite0 at 64"] = ("fashion", SMALL)
        if inception != "random":
            cut = {"backbone": "InceptionV3", "weights": inception, "layer": ("mixed7",), "input_size": 150}
            sets["Fashion-MNIST, InceptionV3 at 150"] = ("fashion", cut)
    return sets


def main() -> None:
    from featx.errors import EngineError

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=[*NETWORKS, "accuracy"])
    parser.add_argument("--inception", default="random", help="Trained weights of InceptionV3 without its top.")
    parser.add_argument("--fashion-mnist", default="", help="Folder of the four published files.")
    chosen = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    goals: dict[str, tuple[float, float, str]] = {}
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_photos(folder / "photos", chosen.images, (320, 240))
        write_vit(folder / "vit")
        for name in NETWORKS:
            if chosen.only in {None, name}:
                rescaled = in_process(_rescale, (name, str(folder)))["path"] if name in RESCALED else "random"
                weights = {"EfficientNetLite0": "auto", "InceptionV3": chosen.inception}.get(name, rescaled)
                try:
                    results |= measure(name, weights, folder, chosen.rounds)
                except EngineError as error:  # random weights may have features that int8 ruins
                    print(f"{name}: {error}", file=sys.stderr)
                    continue
                rate = {one: results[f"{name}: {one}"]["images per CPU second"] for one in PRECISIONS}
                for other, least in (("float32", 3.0), ("bfloat16", 1.5)):
                    claim, ratio = f"{name}: int8 / {other}, images per CPU second", rate["int8"] / rate[other]
                    if name in {"InceptionV3", "ResNet50"}:
                        goals[claim] = (least, ratio, "min")
                    else:
                        ratios[claim] = ratio
        if chosen.only in {None, "accuracy"}:
            for name, (data, features) in write_sets(folder, chosen.fashion_mnist, chosen.inception).items():
                found = {one: accuracy(folder, data, features, one) for one in PRECISIONS}
                results |= {f"{name}: {one}": figures for one, figures in found.items()}
                lost = 100 * (found["float32"]["test accuracy"] - found["int8"]["test accuracy"])
                goals[f"{name}: points of accuracy lost by int8"] = (0.3, lost, "max")
    report("int8 beside float32 and bfloat16", results, goals, ratios)


if __name__ == "__main__":
    main()
