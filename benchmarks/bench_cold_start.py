"""Cold start: seconds of whole processes, from start to exit.

    python benchmarks/bench_cold_start.py [--rounds 5]

`featx predict` of one photograph with a linear head is measured against a plain Keras script that loads the same
network and head from a `.keras` file and predicts the same photograph. `featx serve` counts until it prints its
address, and a fit of a head on 2,000 images with nothing to extract until the head begins to be fitted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import compare, count_imported, featx_command, in_process, report, run_command, write_photos

PLAIN_KERAS = """
import sys
import keras
import numpy as np
from PIL import Image

model = keras.saving.load_model(sys.argv[1])
image = Image.open(sys.argv[2]).convert("RGB").resize(model.input_shape[2:0:-1], Image.Resampling.BILINEAR)
chances = model.predict(np.asarray(image, np.float32)[None], verbose=0)[0]
print(chances.argmax(), chances.max())
"""
FIRST_FIT = """
import sys
import time

import featx

def stop(stage, done, total):
    if stage == "fit":
        print(time.time() - float(sys.argv[2]), time.process_time())
        raise KeyboardInterrupt

try:
    featx.fit_head(sys.argv[1], input_size=64, progress=stop)
except KeyboardInterrupt:
    pass
"""
COMMANDS = {  # name: (arguments, goal in seconds)
    "featx --help": (("--help",), 0.4),
    "featx cache ls": (("cache", "ls"), 0.4),
    "featx layers InceptionV3": (("layers", "InceptionV3"), 0.4),
}
GOAL_PREDICT, GOAL_SERVE, GOAL_FIT = 0.5, 2.0, 1.0
FITTED = 2000  # images


def prepare(root: str, input_size: int) -> dict[str, Any]:
    """A cache, a bundle with a linear head, and the same network with the same head as one `.keras` file."""
    write_photos(Path(root) / "photos", 24, (500, 400))
    write_photos(Path(root) / "one", 1, (500, 400), seed=1)
    write_photos(Path(root) / "many", FITTED, (80, 60), seed=2)
    run_command(featx_command("extract", "many", "--input-size", "64"), root)
    Path(root, "first_fit.py").write_text(FIRST_FIT)
    done = run_command(
        featx_command("fit-head", "photos", "--clf", "logreg", "--input-size", str(input_size), "--json"), root
    )
    bundle = json.loads(done["stdout"])["bundle"]
    _save_keras(Path(root) / bundle, Path(root) / "model.keras")
    Path(root, "plain_keras.py").write_text(PLAIN_KERAS)
    run_command(featx_command("layers", "InceptionV3"), root)  # the second call is what counts
    return {"bundle": bundle}


def _save_keras(bundle: Path, out: Path) -> None:
    import keras
    import numpy as np

    backbone = keras.saving.load_model(bundle / "backbone.keras", compile=False)
    (features,) = backbone.output.values()
    head = np.load(bundle / "head.npz")
    layer = keras.layers.Dense(head["kernel"].shape[1], activation="softmax")
    model = keras.Model(backbone.input, layer(features))
    layer.set_weights([head["kernel"], head["bias"]])
    model.save(out)


def whole_process(command: list[str], root: str) -> dict[str, Any]:
    return {"seconds": run_command(command, root)["seconds"]}


def until_served(root: str, bundle: str) -> dict[str, Any]:
    """Seconds from the start of `featx serve` until it prints its address."""
    command = featx_command("serve", bundle, "--port", "0")
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        served = any(line.startswith("Serving") for line in process.stderr)
        seconds = time.perf_counter() - start
        process.terminate()
        process.stderr.read()
    if not served:
        raise RuntimeError("featx serve did not start")
    return {"seconds": seconds}


def until_fitted(root: str) -> dict[str, Any]:
    """Seconds from the start of a process until a head begins to be fitted on features that are there."""
    done = run_command([sys.executable, "first_fit.py", "many", str(time.time())], root)
    seconds, cpu = map(float, done["stdout"].split())
    return {"seconds": seconds, "cpu_seconds": cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        bundle = in_process(prepare, (root, arguments.input_size))["bundle"]
        photo = "one/class0/00000.jpg"
        predict = featx_command("predict", photo, "--model", bundle)
        cases: dict[str, Any] = {
            name: (whole_process, (featx_command(*words), root)) for name, (words, _) in COMMANDS.items()
        }
        cases["featx predict"] = (whole_process, (predict, root))
        cases["featx serve, until it is ready"] = (until_served, (root, bundle))
        cases[f"fit of a head on {FITTED} cached images, until it begins"] = (until_fitted, (root,))
        cases["plain Keras script"] = (
            whole_process,
            ([sys.executable, "plain_keras.py", "model.keras", photo], root),
        )
        results = compare(cases, arguments.rounds)
        imports = in_process(count_imported, (predict, root, ("tensorflow", "sklearn")))
    goals = {f"{name}, seconds": (goal, results[name]["seconds"], "max") for name, (_, goal) in COMMANDS.items()}
    goals["featx predict, seconds"] = (GOAL_PREDICT, results["featx predict"]["seconds"], "max")
    serve, fit = (name for name in cases if "until" in name)
    goals[f"{serve}, seconds"] = (GOAL_SERVE, results[serve]["seconds"], "max")
    goals[f"{fit}, seconds"] = (GOAL_FIT, results[fit]["seconds"], "max")
    for library in ("tensorflow", "sklearn"):
        goals[f"featx predict, imports of {library}"] = (0, imports[f"imports {library}"], "max")
    ratio = results["plain Keras script"]["seconds"] / results["featx predict"]["seconds"]
    report("Cold start: seconds of whole processes", results, goals, {"plain Keras script / featx predict": ratio})


if __name__ == "__main__":
    main()
