"""Inference alone: how much of what this processor can do at all does featx get out of it?

    python benchmarks/bench_inference.py [--backbones ResNet50 VGG16] [--images 256] [--rounds 3]

The practical peak is the best that OpenVINO sustains on large float32 convolutions, measured in the same run. What a
network does per second is its multiply-adds, two operations each, times its images per second. `model.predict` of the
same network, images in memory on both sides, is the alternative; so is one batch after the other, each on all cores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any

from harness import compare, in_process, report

SETTINGS: dict[str, tuple[int, str, float | None]] = {  # backbone: (input size, layer, goal as a share of the peak)
    "ResNet50": (224, "conv5_block3_out", 0.9),
    "VGG16": (224, "block5_pool", 0.9),
    "InceptionV3": (150, "mixed7", 0.8),
    "EfficientNetB0": (224, "top_activation", None),
}
CONVOLUTIONS = ((128, 112), (256, 56), (512, 28))  # channels, side of the map
CONVOLUTION_BATCH, CONVOLUTION_LAYERS = 8, 4


def _cut(backbone: str) -> Any:
    from featx.backbones import open_network, resolve, resolve_outputs
    from featx.config import FeaturesOptions

    size, layer, _ = SETTINGS[backbone]
    options = FeaturesOptions(backbone=backbone, weights="random", weights_seed=1, layer=(layer,), input_size=size)
    spec = resolve(options)
    return open_network(spec).cut(resolve_outputs(options, spec))


def convert(backbone: str, graph: str) -> dict[str, Any]:
    """Write the converted graph, and count its multiply-adds per image."""
    from pathlib import Path

    from featx.backbones.layers import multiply_adds
    from featx.engines.openvino import convert as write

    model = _cut(backbone)
    write(model, Path(graph))
    return {"multiply_adds": sum(multiply_adds(layer) for layer in model.layers)}


def peak(seconds: float) -> dict[str, Any]:
    """GFLOP/s of stacks of 3x3 convolutions; the best of several shapes."""
    rates = {
        f"{channels} channels, {side}x{side}": _convolve(channels, side, seconds) for channels, side in CONVOLUTIONS
    }
    return {"gflops": max(rates.values()), **rates}


def _convolve(channels: int, side: int, seconds: float) -> float:
    import numpy as np
    import openvino
    from openvino import opset13

    random = np.random.default_rng(0)
    image = opset13.parameter([CONVOLUTION_BATCH, channels, side, side], np.float32)
    node = image
    for _ in range(CONVOLUTION_LAYERS):
        kernel = random.standard_normal((channels, channels, 3, 3), np.float32) / (3 * channels**0.5)
        node = opset13.convolution(node, opset13.constant(kernel), [1, 1], [1, 1], [1, 1], [1, 1])
    model = openvino.Model([node], [image], "convolutions")
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(model, "CPU", hints).create_infer_request()
    batch = random.standard_normal((CONVOLUTION_BATCH, channels, side, side), np.float32)
    request.infer([batch], share_inputs=True)
    start, runs = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        request.infer([batch], share_inputs=True)
        runs += 1
    spent = time.perf_counter() - start
    return 2e-9 * 9 * channels**2 * side**2 * CONVOLUTION_BATCH * CONVOLUTION_LAYERS * runs / spent


def featx_way(backbone: str, graph: str, multiply_adds: int, images: int) -> dict[str, Any]:
    from pathlib import Path

    import numpy as np

    from featx.engines.choice import load_graph

    engine = load_graph(Path(graph), "float32")
    size = SETTINGS[backbone][0]
    batch = np.random.default_rng(0).integers(0, 256, (images, size, size, 3), np.uint8)
    engine.infer(batch[: engine.handover])
    start = time.perf_counter()
    engine.infer(batch)
    seconds = time.perf_counter() - start
    rate = images / seconds
    return {"seconds": seconds, "images_per_second": rate, "gflops": 2e-9 * multiply_adds * rate}


def one_by_one(backbone: str, graph: str, images: int) -> dict[str, Any]:
    """All cores on one batch of 8 after the other."""
    from pathlib import Path

    import numpy as np
    import openvino

    size = SETTINGS[backbone][0]
    core = openvino.Core()
    model = core.read_model(Path(graph) / "graph.xml")
    model.reshape([8, size, size, 3])
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", hints).create_infer_request()
    batches = np.random.default_rng(0).integers(0, 256, (-(-images // 8), 8, size, size, 3), np.uint8)
    request.infer([batches[0]], share_inputs=True)
    start = time.perf_counter()
    for batch in batches:
        request.infer([batch], share_inputs=True)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "images_per_second": 8 * len(batches) / seconds}


def keras_way(backbone: str, multiply_adds: int, images: int) -> dict[str, Any]:
    import numpy as np

    model = _cut(backbone)
    size = SETTINGS[backbone][0]
    batch = np.random.default_rng(0).integers(0, 256, (images, size, size, 3), np.uint8).astype(np.float32)
    model.predict(batch[:32], batch_size=32, verbose=0)
    start = time.perf_counter()
    model.predict(batch, batch_size=32, verbose=0)
    seconds = time.perf_counter() - start
    rate = images / seconds
    return {"seconds": seconds, "images_per_second": rate, "gflops": 2e-9 * multiply_adds * rate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--peak-seconds", type=float, default=2.0, help="Per shape of convolution.")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        cases: dict[str, Any] = {"practical peak": (peak, (arguments.peak_seconds,))}
        for backbone in arguments.backbones:
            graph = f"{root}/{backbone}"
            work = in_process(convert, (backbone, graph))["multiply_adds"]
            cases[f"{backbone}, featx"] = (featx_way, (backbone, graph, work, arguments.images))
            cases[f"{backbone}, one batch at a time"] = (one_by_one, (backbone, graph, arguments.images))
            cases[f"{backbone}, model.predict"] = (keras_way, (backbone, work, arguments.images))
        results = compare(cases, arguments.rounds)
    most = results["practical peak"]["gflops"]
    goals, figures = {}, {}
    for backbone in arguments.backbones:
        ours, theirs = results[f"{backbone}, featx"], results[f"{backbone}, model.predict"]
        alone, goal = results[f"{backbone}, one batch at a time"], SETTINGS[backbone][2]
        if goal is not None:
            goals[f"{backbone}: share of the practical peak"] = (goal, ours["gflops"] / most, "min")
        figures[f"{backbone}: featx / one batch at a time"] = ours["images_per_second"] / alone["images_per_second"]
        figures[f"{backbone}: featx / model.predict"] = ours["images_per_second"] / theirs["images_per_second"]
    report("Inference alone in float32, against the practical peak", results, goals, figures)


if __name__ == "__main__":
    main()
