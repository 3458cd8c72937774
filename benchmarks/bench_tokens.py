"""DINOv2 ViT-S/14 at 224 pixels: images per CPU second of float32, bfloat16 and Keras' own `predict`, in turn.

    python benchmarks/bench_tokens.py [--images 32] [--rounds 5]

The weights are random, since the cost does not depend on them. The class token and the average of the patches at the
end are computed. CPU seconds are of the whole process, and cores that others use cost the same to each of the three.
First, the class token, the average and a grid of 2 x 2 of every block are compared with those of KerasHub's network.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import report

SMALL = {
    "patch_size": 14,
    "num_layers": 12,
    "hidden_dim": 384,
    "num_heads": 6,
    "intermediate_dim": 1536,
    "image_shape": [518, 518, 3],
    "position_embedding_shape": [518, 518, 3],
}
PREDICT = "Keras predict, float32"


def compare_blocks(folder: Path, count: int = 4) -> tuple[int, float]:
    """Outputs that were compared with KerasHub's, and the largest difference in millionths of the largest value."""
    import keras
    from keras_hub.models import DINOV2Backbone

    from featx.backbones import Output, open_network, resolve
    from featx.config import FeaturesOptions
    from featx.engines.choice import compile_graph

    side = {"image_shape": (224, 224, 3), "position_embedding_shape": (224, 224, 3)}
    network = DINOV2Backbone(**{**SMALL, **side})
    network.save_to_preset(str(folder / "hub"))
    pixels = np.random.default_rng(0).integers(0, 256, (count, 224, 224, 3), np.uint8)
    given = ((pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).astype(np.float32)
    tensors = {name: one for name, one in network.pyramid_outputs.items() if name != "stem"}
    expected = {}
    for name, tokens in keras.Model(network.inputs[0], tensors)(given, training=False).items():
        patches = np.asarray(tokens)[:, 1:]
        squares = patches.reshape(count, 2, 8, 2, 8, -1).mean(axis=(2, 4)).reshape(count, -1)
        block = name.replace("stage", "block")
        for pooling, value in (("cls", np.asarray(tokens)[:, 0]), ("avg", patches.mean(axis=1)), ("grid:2", squares)):
            expected[Output(block, pooling)] = value
    spec = resolve(FeaturesOptions(backbone=str(folder / "hub"), preprocessing="imagenet"))
    cut = open_network(spec).cut(list(expected))
    found = compile_graph("openvino", lambda: cut, folder / "blocks", "float32").infer(pixels)
    errors = [np.abs(found[one.name] - value).max() / np.abs(value).max() for one, value in expected.items()]
    return len(errors), 1e6 * float(max(errors))


def measure(folder: Path, count: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Images per CPU second and per second of each case; and how far bfloat16 is from float32."""
    from featx.backbones import Output, open_network, resolve
    from featx.config import FeaturesOptions
    from featx.engines.choice import compile_graph

    content = {"class_name": "DINOV2Backbone", "registered_name": "keras_hub>DINOV2Backbone", "config": SMALL}
    (folder / "config.json").write_text(json.dumps({"module": "keras_hub.src.models.dinov2.dinov2_backbone"} | content))
    spec = resolve(FeaturesOptions(backbone=str(folder), weights="random", preprocessing="imagenet"))
    network: Any = open_network(spec).cut([Output("output", "cls+avg")])
    pixels = np.random.default_rng(0).integers(0, 256, (count, *spec.input_size, 3), np.uint8)
    cases: dict[str, Callable[[], Any]] = {}
    for precision in ("float32", "bfloat16"):
        engine = compile_graph("openvino", lambda: network, folder / "graph", precision)
        cases[f"featx, {precision}"] = partial(engine.infer, pixels)
    cases[PREDICT] = partial(network.predict, pixels.astype(np.float32), batch_size=32, verbose=0)
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    found = {}
    for turn in range(rounds + 1):
        for name, case in cases.items():
            cpu, wall = time.process_time(), time.perf_counter()
            found[name] = case()["output@cls+avg"]
            if turn:  # the first compiles
                rates[name].append((count / (time.process_time() - cpu), count / (time.perf_counter() - wall)))
    exact = found[PREDICT]
    return {
        name: {
            "images per CPU second": statistics.median(rate for rate, _ in rates[name]),
            "images per second": statistics.median(rate for _, rate in rates[name]),
            "largest difference to predict, relative": float(np.abs(found[name] - exact).max() / np.abs(exact).max()),
        }
        for name in cases
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        outputs, error = compare_blocks(Path(place))
        results = measure(Path(place), chosen.images, chosen.rounds)
    rate = {name: one["images per CPU second"] for name, one in results.items()}
    goals = {
        f"{outputs} outputs of blocks, largest difference to KerasHub's in millionths": (100, error, "max"),
        "float32 / predict, images per CPU second": (1.0, rate["featx, float32"] / rate[PREDICT], "min"),
        "bfloat16 / float32, images per CPU second": (1.8, rate["featx, bfloat16"] / rate["featx, float32"], "min"),
    }
    report("DINOv2 ViT-S/14 at 224 pixels, random weights", results, goals)


if __name__ == "__main__":
    main()
