"""JPEG files in, HDF5 out, flushed to the disk: featx against image_dataset_from_directory + model.predict + h5py.

    python benchmarks/bench_extract.py MobileNetV2 [--images 2000] [--rounds 3]

Both networks are built, both graphs traced and warm before the clock starts: the rate of a long run is what counts.
In the same run: featx's decoding alone and inference alone, whose sum is the least a machine of few cores can take.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import compare, cpu_seconds, report, write_photos

SETTINGS = {  # backbone: (input size, layer, goal in float32, goal in bfloat16)
    "MobileNetV2": (224, "out_relu", 1.85, 2.8),
    "EfficientNetB0": (224, "top_activation", 1.85, 2.6),
    "InceptionV3": (150, "mixed7", 1.15, 1.9),
    "ResNet50": (224, "conv5_block3_out", 1.2, 2.2),
}
WEIGHTS_SEED = 1


def keras_way(backbone: str, folder: str, out: str) -> dict[str, Any]:
    import keras
    import numpy as np

    size, layer, *_ = SETTINGS[backbone]
    module = {
        "MobileNetV2": "mobilenet_v2",
        "EfficientNetB0": "efficientnet",
        "InceptionV3": "inception_v3",
        "ResNet50": "resnet50",
    }
    network = getattr(keras.applications, backbone)(weights=None, include_top=False, input_shape=(size, size, 3))
    preprocess = getattr(keras.applications, module[backbone]).preprocess_input
    pooled = keras.layers.GlobalAveragePooling2D()(network.get_layer(layer).output)
    model = keras.Model(network.input, pooled)

    def features(where: str) -> np.ndarray:
        images = keras.utils.image_dataset_from_directory(
            where, image_size=(size, size), batch_size=32, shuffle=False, verbose=False
        )
        return np.asarray(model.predict(images.map(lambda x, _: preprocess(x)).prefetch(2), verbose=0))

    features(str(Path(folder).parent / "warm"))
    start, before = time.perf_counter(), cpu_seconds()
    found = features(folder)
    write_flushed(found, out)
    return rates(len(found), time.perf_counter() - start, cpu_seconds() - before)


def write_flushed(features: Any, out: str) -> None:
    """Features as an HDF5 file that is on the disk, as featx' parts are."""
    import h5py

    with h5py.File(out, "w") as file:
        file["features"] = features
        file.flush()
        os.fsync(file.id.get_vfd_handle())


def rates(images: int, seconds: float, cpu: float) -> dict[str, Any]:
    """What a way of extracting took; `cpu` are seconds of the process and its children while it extracted."""
    return {"seconds": seconds, "images_per_second": images / seconds, "images_per_cpu_second": images / cpu}


def _options(backbone: str, precision: str, cache: str) -> Any:
    from featx.config import FeaturesOptions

    size, layer, *_ = SETTINGS[backbone]
    common: dict[str, Any] = {"precision": precision, "cache": cache, "weights": "random", "weights_seed": WEIGHTS_SEED}
    return FeaturesOptions(backbone=backbone, layer=(layer,), input_size=size, **common)


def featx_way(backbone: str, precision: str, folder: str) -> dict[str, Any]:
    from featx.config import DataOptions
    from featx.dataset import read_images
    from featx.extraction.flow import extract
    from featx.store.cache import Cache

    with tempfile.TemporaryDirectory() as cache:
        options = _options(backbone, precision, cache)
        with Cache(cache) as opened:
            extract(read_images(str(Path(folder).parent / "warm"), DataOptions()), options, opened)
        start, before = time.perf_counter(), cpu_seconds()
        with Cache(cache) as opened:
            done = extract(read_images(folder, DataOptions()), options, opened)
        found = rates(done.computed, time.perf_counter() - start, cpu_seconds() - before)
        return {**found, **asdict(done.stages)}


def parts(backbone: str, precision: str, folder: str) -> dict[str, Any]:
    """Seconds of decoding alone and of inference alone, of the same images."""
    from featx.backbones import open_network, resolve, resolve_outputs
    from featx.engines.choice import choose_engine, compile_graph
    from featx.images.batches import Decoding, iter_batches

    options = _options(backbone, precision, "unused")
    spec = resolve(options)
    paths = sorted(str(path) for path in Path(folder).rglob("*.jpg"))
    with tempfile.TemporaryDirectory() as graph:
        outputs = resolve_outputs(options, spec)
        engine = compile_graph(
            choose_engine("auto"), lambda: open_network(spec).cut(outputs), Path(graph) / "g", precision
        )
        start = time.perf_counter()
        batches = [
            b.images
            for b in iter_batches(paths, range(len(paths)), Decoding(spec.input_size, "stretch", engine.handover))
        ]
        decode = time.perf_counter() - start
        engine.infer(batches[0])
        start = time.perf_counter()
        for images in batches:
            engine.infer(images)
        infer = time.perf_counter() - start
    return {"seconds": decode + infer, "decode": decode, "infer": infer}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone", choices=SETTINGS)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = str(Path(root) / "photos")
        write_photos(Path(folder), arguments.images, (500, 400))
        write_photos(Path(root) / "warm", 64, (500, 400), seed=1)
        cases: dict[str, Any] = {"keras": (keras_way, (arguments.backbone, folder, f"{root}/keras.h5"))}
        for precision in ("float32", "bfloat16"):
            cases[f"featx {precision}"] = (featx_way, (arguments.backbone, precision, folder))
            cases[f"parts {precision}"] = (parts, (arguments.backbone, precision, folder))
        results = compare(cases, arguments.rounds)
    rate = results["keras"]["images_per_second"]
    _, _, *least = SETTINGS[arguments.backbone]
    goals = {}
    for precision, goal in zip(("float32", "bfloat16"), least, strict=True):
        ratio = results[f"featx {precision}"]["images_per_second"] / rate
        goals[f"{precision}: featx / keras, images per second"] = (goal, ratio, "min")
        overhead = results[f"featx {precision}"]["seconds"] / results[f"parts {precision}"]["seconds"]
        goals[f"{precision}: whole run / (decoding + inference)"] = (1.1, overhead, "max")
    report(f"Extraction of {arguments.images} JPEG files of 500x400 with {arguments.backbone}", results, goals)


if __name__ == "__main__":
    main()
