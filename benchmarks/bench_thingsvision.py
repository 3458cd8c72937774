"""Extraction against thingsvision (torch) on the same architecture: JPEG files in, HDF5 out, flushed to the disk.

    python benchmarks/bench_thingsvision.py PYTHON [--backbones ResNet50 MobileNetV2] [--images 500] [--rounds 3]

PYTHON is the interpreter of an environment of its own that has thingsvision: it asks for older libraries than featx.
Version 2.7.3 installs under Python 3.10 with the torch 2.0.1 that it asks for, and not beside torch 2.13.
Networks are built and warm before the clock starts on either side; both have random weights.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import bench_extract
from harness import compare, report, run_command, write_photos

MODULES = {  # backbone: (name in torchvision, the module whose output is what featx takes, averaged)
    "ResNet50": ("resnet50", "avgpool"),
    "MobileNetV2": ("mobilenet_v2", "classifier.0"),
    "EfficientNetB0": ("efficientnet_b0", "avgpool"),
}
GOAL = 2.0
SCRIPT = """
import importlib.metadata, json, os, resource, sys, time
name, module, folder, warm, out = sys.argv[1:]
from thingsvision import get_extractor
from thingsvision.utils.data import DataLoader, ImageDataset
from thingsvision.utils.storing import save_features
extractor = get_extractor(name, source="torchvision", device="cpu", pretrained=False)

def extract(root):
    images = ImageDataset(root, out, extractor.get_backend(), transforms=extractor.get_transformations())
    batches = DataLoader(images, batch_size=32, backend=extractor.get_backend())
    features = extractor.extract_features(batches, module, flatten_acts=True, output_type="ndarray")
    save_features(features, out, file_format="hdf5")
    file = os.open(os.path.join(out, "features.hdf5"), os.O_RDONLY)
    os.fsync(file)
    return features.shape

extract(warm)
start = time.perf_counter()
shape = extract(folder)
seconds = time.perf_counter() - start
versions = {library: importlib.metadata.version(library) for library in ("thingsvision", "torch", "torchvision")}
print(json.dumps({"seconds": seconds, "images_per_second": shape[0] / seconds, "features": shape[1], **versions}))
"""


def thingsvision_way(python: str, backbone: str, folder: str) -> dict[str, Any]:
    name, module = MODULES[backbone]
    with tempfile.TemporaryDirectory() as out:
        warm = str(Path(folder).parent / "warm")
        done = run_command([python, "-c", SCRIPT, name, module, folder, warm, out], out)
    found: dict[str, Any] = json.loads(done["stdout"].strip().splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python")
    parser.add_argument("--backbones", nargs="+", choices=MODULES, default=list(MODULES))
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = str(Path(root) / "photos")
        write_photos(Path(folder), arguments.images, (500, 400))
        write_photos(Path(root) / "warm", 64, (500, 400), seed=1)
        cases: dict[str, Any] = {}
        for backbone in arguments.backbones:
            cases[f"{backbone}: thingsvision"] = (thingsvision_way, (arguments.python, backbone, folder))
            cases[f"{backbone}: featx"] = (bench_extract.featx_way, (backbone, "float32", folder))
        results = compare(cases, arguments.rounds)
    goals = {}
    for backbone in arguments.backbones:
        ours, theirs = results[f"{backbone}: featx"], results[f"{backbone}: thingsvision"]
        ratio = ours["images_per_second"] / theirs["images_per_second"]
        goals[f"{backbone}: featx / thingsvision, images per second"] = (GOAL, ratio, "min")
    libraries = ("thingsvision", "torch", "torchvision")
    versions = ", ".join(f"{library} {results[f'{backbone}: thingsvision'].pop(library)}" for library in libraries)
    for found in results.values():
        for library in libraries:
            found.pop(library, None)
    notes = [f"In its own environment: {versions}. Both in float32 on the CPU."]
    report(f"Extraction of {arguments.images} JPEG files of 500x400 against thingsvision", results, goals, notes=notes)


if __name__ == "__main__":
    main()
