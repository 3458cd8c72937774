"""Networks exported to ONNX and read back: features against ONNX Runtime's, and a bundle that outlives its file.

    python benchmarks/bench_onnx_round_trip.py [NAME ...]

Weights are random, since nothing here depends on them. A bundle is fitted on small images of two colours, packed, and
predicts in a new process in which TensorFlow, Keras and KerasHub cannot be imported and the ONNX file is gone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 224
CNNS = ("ResNet50", "MobileNetV2", "DenseNet121", "EfficientNetB0")
BLOCKED = ("tensorflow", "keras", "keras_hub")
SHARES = (0.2, 0.9)  # of the multiply-adds: tensors inside that are compared beside the last


def make_network(name: str) -> Any:
    """A Keras network with random weights; statistics of batch normalisations that are not 0 and 1."""
    from featx.backbones import import_keras

    keras = import_keras()
    keras.utils.set_random_seed(5)
    if name == "dinov2_small":
        import keras_hub

        network = keras_hub.models.DINOV2Backbone(
            patch_size=14, num_layers=12, hidden_dim=384, num_heads=6, intermediate_dim=1536,
            image_shape=(SIDE, SIDE, 3), position_embedding_shape=(SIDE, SIDE, 3),
        )  # fmt: skip
        image = keras.Input((SIDE, SIDE, 3))
        scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)
        part = keras.Model(network.inputs[0], network.outputs[0])
        return keras.Model(image, {"features": part(scaled)})
    image = keras.Input((SIDE, SIDE, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    network = getattr(keras.applications, name)(weights=None, include_top=False, input_tensor=scaled)
    random = np.random.default_rng(6)
    for variable in network.variables:
        if "moving_variance" in variable.path or "gamma" in variable.path:
            variable.assign(random.uniform(0.7, 1.3, variable.shape))
        elif "moving_mean" in variable.path or "beta" in variable.path:
            variable.assign(random.uniform(-0.3, 0.3, variable.shape))
    return keras.Model(network.inputs[0], {"features": network.outputs[0]})


def export(name: str, path: Path) -> None:
    """Write the network as an ONNX file, which takes uint8 as those of `featx export` do."""
    from featx.export.onnx import convert

    convert(make_network(name), path, "float32", np.zeros((1, SIDE, SIDE, 3), np.float32))


def run_onnx(path: Path, names: Sequence[str], images: np.ndarray) -> dict[str, np.ndarray]:
    """Any tensors of an ONNX file by ONNX Runtime."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    del model.graph.output[:]
    kind = onnx.TensorProto.FLOAT
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, kind, None) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(list(names), {session.get_inputs()[0].name: images}), strict=True))


def names_in(path: Path) -> set[str]:
    """The tensors of the file; those that OpenVINO makes of them have names that ONNX Runtime does not know."""
    import onnx

    return {name for node in onnx.load(path, load_external_data=False).graph.node for name in node.output}


def compare(path: Path) -> dict[str, Any]:
    """The largest difference of averaged features, relative to the largest one, at two tensors inside and the last."""
    from featx.backbones import Output, open_network, resolve
    from featx.backbones.libraries import import_openvino
    from featx.config import FeaturesOptions

    spec = resolve(FeaturesOptions(backbone=str(path), preprocessing="none", input_size=SIDE))
    network = open_network(spec)
    known = {one.name: one for one in network.layers() if len(one.shape) > 1}
    named = names_in(path)
    inside = [n for n, one in known.items() if n in named and one.clean_cut and SHARES[0] < one.share < SHARES[1]]
    names = list(dict.fromkeys([inside[0], inside[-1], network.default_layer]))
    pixels = np.random.default_rng(7).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    cut = network.cut([Output(name, "avg") for name in names])
    compiled = import_openvino().Core().compile_model(cut.model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answers = compiled(pixels)
    truth = run_onnx(path, names, pixels)
    worst = {}
    for name in names:
        found = np.array(answers[compiled.output(cut.tensors[f"{name}@avg"])])
        expected = average(truth[name], known[name].shape)
        worst[name] = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-30))
    return {"layers": worst, "largest": max(worst.values())}


def average(tensor: np.ndarray, shape: Sequence[int | None]) -> np.ndarray:
    """Over the places of a map, channels first or last; over the patches of tokens, behind the class token."""
    if tensor.ndim == 3:
        return np.asarray(tensor[:, 1:].mean(axis=1))
    return np.asarray(tensor.mean(axis=(2, 3) if tensor.shape[1:] == (shape[2], *shape[:2]) else (1, 2)))


def outlive(path: Path, work: Path) -> bool:
    """Whether a packed bundle predicts as before without the file and the libraries it was made with."""
    from PIL import Image

    random = np.random.default_rng(8)
    for label, colour in {"blue": (60, 80, 170), "red": (170, 70, 60)}.items():
        (work / "images" / label).mkdir(parents=True)
        for number in range(10):
            pixels = np.clip(np.array(colour) + random.normal(0, 40, (48, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(work / "images" / label / f"{number}.png")
    given = ("--backbone", path, "--preprocessing", "none", "--clf", "logreg", "--no-html")
    fitted = featx(work, "fit-head", "images", *given, "--json")
    featx(work, "bundle", "pack", fitted["bundle"], "--out", "model.featx")
    before = featx(work, "predict", "images", "--model", "model.featx", "--json")
    path.unlink()
    (work / "blocked").mkdir()
    for library in BLOCKED:
        (work / "blocked" / f"{library}.py").write_text("raise ImportError('not on this machine')")
    paths = os.pathsep.join([str(work / "blocked"), os.environ.get("PYTHONPATH", "")])
    after = featx(work, "predict", "images", "--model", "model.featx", "--json", PYTHONPATH=paths)
    return bool(before["predictions"] == after["predictions"])


def featx(work: Path, *arguments: str | Path, **environment: str) -> Any:
    """What a command prints with --json."""
    command = [sys.executable, "-m", "featx", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=work, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout) if "--json" in arguments else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of the networks (all)")
    for name in parser.parse_args().names or ("dinov2_small", *CNNS):
        with tempfile.TemporaryDirectory() as root:
            work, start = Path(root), time.process_time()
            path = work / f"{name}.onnx"
            export(name, path)
            found = {"network": name, "megabytes": round(path.stat().st_size / 1e6, 1)} | compare(path)
            found |= {"outlived": outlive(path, work), "cpu_seconds": round(time.process_time() - start, 1)}
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
