"""The second time: nothing to do on 10,000 images, 100 new ones among them, and a backbone that is known already.

    python benchmarks/bench_second_run.py [--images 10000] [--new 100] [--rounds 3]

All but the last are whole processes of `featx extract`, from start to exit. The last is the time from an empty Python
process to the first features of a batch, against Keras building the same network and predicting the same batch.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import compare, count_imported, featx_command, in_process, report, run_command

SETTINGS = {  # backbone: (input size, layer, module of keras.applications)
    "EfficientNetLite0": (224, "top_activation", None),
    "InceptionV3": (150, "mixed7", "inception_v3"),
    "ResNet50": (224, "conv5_block3_out", "resnet50"),
}
SIDE = 64  # of the images, and of the network's input
OLD = 3600  # seconds: files this old are trusted not to change unseen


def write_pngs(folder: str, count: int, seed: int) -> dict[str, Any]:
    """Write `count` different PNG files in ten class folders, an hour old."""
    import os

    import numpy as np
    from PIL import Image

    random = np.random.default_rng(seed)
    long_ago = time.time() - OLD
    for number in range(count):
        path = Path(folder) / f"class{number % 10}" / f"{seed}-{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
        os.utime(path, (long_ago, long_ago))
    return {"files": count}


def _extract(folder: str, cache: str) -> list[str]:
    return featx_command("extract", folder, "--input-size", str(SIDE), "--cache", cache, "--json")


def _run_extract(root: str, folder: str, cache: str) -> dict[str, Any]:
    done = run_command(_extract(folder, cache), root)
    found = json.loads(done["stdout"])
    return {"seconds": done["seconds"], "computed": found["computed"], "reused": found["reused"]}


def nothing_to_do(root: str) -> dict[str, Any]:
    return _run_extract(root, "images", "cache")


def new_alone(root: str) -> dict[str, Any]:
    """The new images with a cache that has the converted graph and no feature of theirs."""
    with tempfile.TemporaryDirectory(dir=root) as copy:
        shutil.copytree(Path(root) / "warm-cache", copy, dirs_exist_ok=True)
        return _run_extract(root, "new", copy)


def new_among_old(root: str) -> dict[str, Any]:
    """The new images are put among the others, computed, and taken away again with all that is known of them."""
    new = [
        (path, Path(root) / "images" / path.relative_to(Path(root) / "new"))
        for path in Path(root, "new").rglob("*.png")
    ]
    with tempfile.TemporaryDirectory(dir=root) as copy:
        shutil.copytree(Path(root) / "cache", copy, dirs_exist_ok=True)
        for source, target in new:
            shutil.copy2(source, target)
        try:
            return _run_extract(root, "images", copy)
        finally:
            for _, target in new:
                target.unlink()


def _options(backbone: str, cache: str) -> Any:
    from featx.config import FeaturesOptions

    size, layer, module = SETTINGS[backbone]
    weights = "random" if module else "bundled"
    return FeaturesOptions(
        backbone=backbone, weights=weights, weights_seed=1, layer=(layer,), input_size=size, cache=cache
    )


def featx_ready(backbone: str, cache: str) -> dict[str, Any]:
    """Seconds from here to the first features. The first call converts the graph, later ones find it."""
    import sys

    start = time.perf_counter()
    import numpy as np

    from featx.backbones import resolve, resolve_outputs
    from featx.extraction.flow import make_key, open_engine
    from featx.store.cache import Cache

    options = _options(backbone, cache)
    spec = resolve(options)
    outputs = resolve_outputs(options, spec)
    with Cache(cache) as opened:
        key = make_key(options, spec, outputs, opened.index)
        engine = open_engine(outputs, spec, options, opened.store(key).graphs)
    engine.infer(np.zeros((engine.batch_size, *spec.input_size, 3), np.uint8))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "imports tensorflow": int("tensorflow" in sys.modules)}


def keras_ready(backbone: str) -> dict[str, Any]:
    start = time.perf_counter()
    import keras
    import numpy as np

    size, layer, _ = SETTINGS[backbone]
    network = getattr(keras.applications, backbone)(weights=None, include_top=False, input_shape=(size, size, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(network.get_layer(layer).output)
    keras.Model(network.input, pooled).predict(np.zeros((8, size, size, 3), np.float32), verbose=0)
    return {"seconds": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--new", type=int, default=100)
    parser.add_argument("--backbones", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        for name, count, seed in (("images", arguments.images, 0), ("new", arguments.new, 1), ("warm", 20, 2)):
            in_process(write_pngs, (f"{root}/{name}", count, seed))
        in_process(_run_extract, (root, "warm", "warm-cache"))
        shutil.copytree(f"{root}/warm-cache", f"{root}/cache")
        first = in_process(_run_extract, (root, "images", "cache"))
        cases: dict[str, Any] = {
            "nothing to do": (nothing_to_do, (root,)),
            "new images alone": (new_alone, (root,)),
            "new among the old": (new_among_old, (root,)),
        }
        for backbone in arguments.backbones:
            in_process(featx_ready, (backbone, f"{root}/ready"))
            cases[f"{backbone} ready, featx"] = (featx_ready, (backbone, f"{root}/ready"))
            if SETTINGS[backbone][2]:
                cases[f"{backbone} ready, Keras"] = (keras_ready, (backbone,))
        results = {"first run": first} | compare(cases, arguments.rounds)
        imports = in_process(count_imported, (_extract("images", "cache"), root, ("tensorflow",)))
    nothing, alone, among = (results[name] for name in ("nothing to do", "new images alone", "new among the old"))
    if (nothing["computed"], among["computed"]) != (0, arguments.new):
        raise SystemExit(f"Computed {nothing['computed']} and {among['computed']} images, not 0 and {arguments.new}.")
    goals = {
        "nothing to do, seconds": (2.0, nothing["seconds"], "max"),
        "nothing to do, imports of tensorflow": (0, imports["imports tensorflow"], "max"),
        "new images among the old, seconds more than alone": (2.0, among["seconds"] - alone["seconds"], "max"),
    }
    for backbone in arguments.backbones:
        ready = results[f"{backbone} ready, featx"]
        goals[f"{backbone} ready to infer, seconds"] = (2.0, ready["seconds"], "max")
        goals[f"{backbone} ready to infer, imports of tensorflow"] = (0, ready["imports tensorflow"], "max")
    claim = f"The second run over {arguments.images:,} PNG files, and over {arguments.new} new ones among them"
    report(claim, results, goals)


if __name__ == "__main__":
    main()
