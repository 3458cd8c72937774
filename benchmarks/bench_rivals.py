"""JPEG files in, HDF5 out, flushed to the disk: featx against torch, timm and ONNX Runtime as a user would use them.

    python benchmarks/bench_rivals.py PYTHON [--backbones ResNet50 MobileNetV2] [--images 500] [--rounds 3]

PYTHON is the interpreter of an environment of its own that has torch, torchvision, timm and h5py (torch compiles its
networks with a C++ compiler and Python's headers). ONNX Runtime runs beside featx, on the graph that Keras exports.

- torch: torchvision's network, channels last, `torch.compile` with frozen weights, float32 and bfloat16 (autocast).
- timm: `create_model(..., num_classes=0)` and the transform of its `resolve_model_data_config`, as documented; float32,
  not compiled.
- ONNX Runtime: its CPU provider on all cores, images decoded by Pillow in two threads ahead of it, float32.

The torch programs read with a DataLoader, with the number of workers that was fastest here: see `WORKERS`. All resize
to the same size and have random weights; networks are built, compiled and warm before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bench_extract
from harness import compare, cpu_seconds, in_process, report, run_command, write_photos

BACKBONES = ("MobileNetV2", "EfficientNetB0", "ResNet50")
TORCHVISION = {"MobileNetV2": "mobilenet_v2", "EfficientNetB0": "efficientnet_b0", "ResNet50": "resnet50"}
TIMM = {"MobileNetV2": "mobilenetv2_100", "EfficientNetB0": "efficientnet_b0", "ResNet50": "resnet50"}
RIVALS = {"float32": ("ONNX Runtime float32", "timm float32", "torch float32"), "bfloat16": ("torch bfloat16",)}
NO_ONNX = {"EfficientNetB0"}  # ONNX Runtime asks for inputs that Keras' export of it leaves without values
WORKERS, BATCH, SIZE = 1, 32, 224
GOAL = 1.0
LIBRARIES = ("torch", "torchvision", "timm")
SCRIPT = """
import importlib.metadata, json, os, resource, sys, time
way, name, precision, folder, warm, out, size, batch, workers = sys.argv[1:]
import h5py, numpy as np, torch, torchvision
from torchvision import transforms
torch.manual_seed(0)
if way == "timm":
    import timm
    network = timm.create_model(name, pretrained=False, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
else:
    network = getattr(torchvision.models, name)(weights=None)
    head = "fc" if hasattr(network, "fc") else "classifier"
    setattr(network, head, torch.nn.Identity())
    network = network.eval().to(memory_format=torch.channels_last)
    transform = transforms.Compose([
        transforms.Resize((int(size), int(size))), transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])
    import torch._inductor.config
    torch._inductor.config.freezing = True
    network = torch.compile(network)

def features(root):
    images = torchvision.datasets.ImageFolder(root, transform)
    found = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        for some, _ in torch.utils.data.DataLoader(images, int(batch), num_workers=int(workers)):
            count = len(some)
            if way != "timm":  # a batch of another size would be compiled anew
                some = torch.cat([some, some[:1].expand(int(batch) - count, -1, -1, -1)])
                some = some.contiguous(memory_format=torch.channels_last)
            found.append(network(some)[:count].float().numpy())
    return np.concatenate(found)

def used():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

features(warm)
start, before = time.perf_counter(), used()
found = features(folder)
with h5py.File(os.path.join(out, "features.h5"), "w") as file:
    file["features"] = found
    file.flush()
    os.fsync(file.id.get_vfd_handle())
seconds = time.perf_counter() - start
versions = {library: importlib.metadata.version(library) for library in ("torch", "torchvision", "timm")}
print(json.dumps({"seconds": seconds, "images_per_second": len(found) / seconds,
                  "images_per_cpu_second": len(found) / (used() - before), "features": found.shape[1], **versions}))
"""


def torch_way(python: str, way: str, backbone: str, precision: str, folder: str) -> dict[str, Any]:
    name = (TIMM if way == "timm" else TORCHVISION)[backbone]
    with tempfile.TemporaryDirectory() as out:
        warm = str(Path(folder).parent / "warm")
        numbers = (str(SIZE), str(BATCH), str(WORKERS))
        done = run_command([python, "-c", SCRIPT, way, name, precision, folder, warm, out, *numbers], out)
    found: dict[str, Any] = json.loads(done["stdout"].strip().splitlines()[-1])
    return found


def write_onnx(backbone: str, path: str) -> dict[str, Any]:
    """The pooled network as Keras exports it."""
    import keras
    import numpy as np

    size, layer, *_ = bench_extract.SETTINGS[backbone]
    network = getattr(keras.applications, backbone)(weights=None, include_top=False, input_shape=(size, size, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(network.get_layer(layer).output)
    model = keras.Model(network.input, pooled)
    model(np.zeros((1, size, size, 3), np.float32))  # Keras exports what has been called
    model.export(path, format="onnx", verbose=False)
    return {}


def onnx_way(graph: str, folder: str, out: str) -> dict[str, Any]:
    import numpy as np
    import onnxruntime
    from PIL import Image

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def decode(path: Path) -> np.ndarray:
        image = Image.open(path).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        return np.asarray(image, np.float32) / 127.5 - 1

    def batches(paths: list[Path]) -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(2) as threads:
            ahead = [threads.submit(decode, path) for path in paths[: 2 * BATCH]]
            rest = iter(paths[2 * BATCH :])
            while ahead:
                now, ahead = ahead[:BATCH], ahead[BATCH:]
                ahead += [threads.submit(decode, path) for path, _ in zip(rest, range(BATCH), strict=False)]
                yield np.stack([one.result() for one in now])

    def features(root: str) -> np.ndarray:
        paths = sorted(Path(root).rglob("*.jpg"))
        return np.concatenate([session.run(None, {name: some})[0] for some in batches(paths)])

    features(str(Path(folder).parent / "warm"))
    start, before = time.perf_counter(), cpu_seconds()
    found = features(folder)
    bench_extract.write_flushed(found, out)
    return bench_extract.rates(len(found), time.perf_counter() - start, cpu_seconds() - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python")
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = f"{root}/photos"
        write_photos(Path(folder), arguments.images, (500, 400))
        write_photos(Path(root) / "warm", 64, (500, 400), seed=1)
        cases: dict[str, Any] = {}
        work: tuple[Any, ...]
        for backbone in arguments.backbones:
            if backbone not in NO_ONNX:
                graph = f"{root}/{backbone}.onnx"
                in_process(write_onnx, (backbone, graph))
                cases[f"{backbone}: ONNX Runtime float32"] = (onnx_way, (graph, folder, f"{root}/onnx.h5"))
            for way, precision in (("timm", "float32"), ("torch", "float32"), ("torch", "bfloat16")):
                work = (arguments.python, way, backbone, precision, folder)
                cases[f"{backbone}: {way} {precision}"] = (torch_way, work)
            for precision in ("float32", "bfloat16"):
                work = (backbone, precision, folder)
                cases[f"{backbone}: featx {precision}"] = (bench_extract.featx_way, work)
        results = compare(cases, arguments.rounds)
    versions = {library: found.pop(library) for found in results.values() for library in LIBRARIES if library in found}
    goals: dict[str, tuple[float, float, str]] = {}
    for backbone in arguments.backbones:
        for precision, ways in RIVALS.items():
            here = [way for way in ways if f"{backbone}: {way}" in results]
            rival = max(here, key=lambda way: rate(results, backbone, way))
            ratio = rate(results, backbone, f"featx {precision}") / rate(results, backbone, rival)
            goals[f"{backbone}: featx / {rival}, images per second"] = (GOAL, ratio, "min")
    environment = ", ".join(f"{library} {versions[library]}" for library in LIBRARIES)
    notes = [
        f"ONNX Runtime cannot run what Keras 3.15 exports of {', '.join(sorted(NO_ONNX))}.",
        f"In an environment of their own: {environment}. featx in the precision of the other.",
        f"timm resizes as its networks are configured; torch and timm read with {WORKERS} worker process(es).",
    ]
    claim = f"Extraction of {arguments.images} JPEG files of 500x400 against torch, timm and ONNX Runtime"
    report(claim, results, goals, notes=notes)


def rate(results: dict[str, Any], backbone: str, way: str) -> float:
    return float(results[f"{backbone}: {way}"]["images_per_second"])


if __name__ == "__main__":
    main()
