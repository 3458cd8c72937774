"""What one GPU gives: extraction, features against the CPU's, memory, fine-tuning, two processes, the first batch.

    python benchmarks/gpu.py > gpu.json                 # about eight minutes on a machine with one GPU
    python benchmarks/gpu.py --small > small.json       # the same steps in a small form, on any machine

Prints one JSON object. Every step stands by itself: one that fails is reported as `failed`, with the reason, and the
others go on. Seconds are of the wall; `cpu_seconds` are those of the process and its children.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import featx_command, in_process, machine, run_command, write_photos


@dataclass(frozen=True)
class Plan:
    """How large the steps are. layer and below : where heads and cached maps are taken."""

    root: str
    backbone: str
    side: int
    images: int
    photo: tuple[int, int]
    layer: str
    below: str
    weights: str

    @property
    def options(self) -> list[str]:
        """The options of every command."""
        return [
            f"{self.root}/photos",
            "--backbone",
            self.backbone,
            "--weights",
            self.weights,
            "--input-size",
            str(self.side),
        ]


def gpu_name() -> str | None:
    """The GPU as nvidia-smi names it; None without one."""
    return _ask("name")


def _ask(field: str) -> str | None:
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@contextmanager
def watched_memory() -> Iterator[list[int]]:
    """Collect the GPU's used memory in MB, twice a second."""
    seen: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            used = _ask("memory.used")
            if used is None:
                return
            seen.append(int(used))
            ended.wait(0.5)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def cpu_seconds() -> float:
    """Of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(plan: Plan, *words: str) -> dict[str, Any]:
    """Run a featx command with --json: what it printed, its seconds and processor seconds."""
    start = cpu_seconds()
    done = run_command(featx_command(*words, "--json"), plan.root)
    return {"seconds": done["seconds"], "cpu_seconds": cpu_seconds() - start, "json": json.loads(done["stdout"])}


def extract(plan: Plan, precision: str, cache: str, *more: str) -> dict[str, Any]:
    """Extraction of all photographs into a cache of its own."""
    options = ["--layer", plan.layer, "--precision", precision, "--engine", "tensorflow", "--cache", cache, *more]
    with watched_memory() as memory:
        done = timed(plan, "extract", *plan.options, *options)
    found = {name: done["json"][name] for name in ("images_per_second", "stages", "computed")}
    return found | {"seconds": done["seconds"], "cpu_seconds": done["cpu_seconds"], "gpu_mb": max(memory, default=None)}


def keras_predict(plan: Plan) -> dict[str, Any]:
    """Keras' own loop: tf.data decodes and resizes, `predict` runs the network cut at the same layer."""
    import tensorflow as tf

    from featx.backbones import import_keras

    keras = import_keras()
    start = time.perf_counter()
    network = getattr(keras.applications, plan.backbone)(
        weights=None, include_top=False, input_shape=(plan.side, plan.side, 3)
    )
    cut = keras.Model(network.inputs, keras.layers.GlobalAveragePooling2D()(network.get_layer(plan.layer).output))
    files = sorted(str(path) for path in Path(f"{plan.root}/photos").rglob("*.jpg"))

    def read(path: Any) -> Any:
        image = tf.image.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.image.resize(image, (plan.side, plan.side))

    rows = tf.data.Dataset.from_tensor_slices(files).map(read, tf.data.AUTOTUNE).batch(64).prefetch(tf.data.AUTOTUNE)
    first = time.perf_counter()
    cut.predict(rows, verbose=0)
    end = time.perf_counter()
    return {"images_per_second": len(files) / (end - first), "seconds": end - start}


def decode_limit(plan: Plan) -> dict[str, Any]:
    """How fast featx' own decoder alone is on all cores: no GPU gets more images than that."""
    from featx.images.batches import Decoding, iter_batches

    files = sorted(Path(f"{plan.root}/photos").rglob("*.jpg"))
    start = time.perf_counter()
    count = sum(
        len(one.rows)
        for one in iter_batches(files, range(len(files)), Decoding((plan.side, plan.side), "stretch", 64, 0))
    )
    seconds = time.perf_counter() - start
    return {"images_per_second": count / seconds, "seconds": seconds}


def first_batch(plan: Plan, precision: str) -> dict[str, Any]:
    """Seconds until the engine is ready, of its first batch, and of single images and full batches after it."""
    import numpy as np

    from featx.backbones import Output, open_network, resolve
    from featx.config import FeaturesOptions
    from featx.engines.tensorflow import compile_graph

    options = FeaturesOptions(backbone=plan.backbone, weights=plan.weights, input_size=plan.side)
    start = time.perf_counter()
    spec, output = resolve(options), Output(plan.layer, "avg")
    engine = compile_graph(lambda: open_network(spec).cut([output]), Path("unused"), precision)
    ready = time.perf_counter()
    images = np.random.default_rng(0).integers(0, 256, (engine.batch_size, plan.side, plan.side, 3), np.uint8)
    engine.infer(images)
    first = time.perf_counter()
    engine.infer(images[:1])

    def seconds_of(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(5):
            engine.infer(images[:count])
        return (time.perf_counter() - begun) / 5

    return {
        "ready_seconds": ready - start,
        "first_batch_seconds": first - ready,
        "batch_size": engine.batch_size,
        "one_image_ms": 1000 * seconds_of(1),
        "full_batch_ms": 1000 * seconds_of(engine.batch_size),
        "seconds": time.perf_counter() - start,
    }


def against_cpu(plan: Plan) -> dict[str, Any]:
    """The GPU's features of some photographs against those of a process without GPU, both in float32."""
    import numpy as np

    tables = {}
    few = f"{plan.root}/few"
    write_photos(Path(few), min(plan.images, 64), plan.photo, seed=1)
    for device, hidden in (("default", os.environ.get("CUDA_VISIBLE_DEVICES")), ("cpu", "-1")):
        options = [few, *plan.options[1:], "--layer", plan.layer, "--engine", "tensorflow", "--storage", "float32"]
        words = ["cache", "export", *options, "--cache", f"{plan.root}/{device}", "--out", f"{plan.root}/{device}.h5"]
        environment = {**os.environ, **({} if hidden is None else {"CUDA_VISIBLE_DEVICES": hidden})}
        subprocess.run(featx_command(*words), cwd=plan.root, env=environment, check=True, capture_output=True)
        import h5py

        with h5py.File(f"{plan.root}/{device}.h5") as file:
            tables[device] = np.asarray(file["features"], np.float64)
    ours, theirs = tables["default"], tables["cpu"]
    cosine = (ours * theirs).sum(1) / np.maximum(np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1), 1e-30)
    largest = np.abs(ours - theirs).max() / np.abs(theirs).max()
    return {"least_cosine": float(cosine.min()), "largest_relative": float(largest)}


def finetune(plan: Plan, *more: str) -> dict[str, Any]:
    """Seconds of the second of two epochs: in the first the step is traced."""
    head = [
        *plan.options,
        "--layer",
        f"{plan.layer}@avg",
        "--layer",
        f"{plan.below}@none",
        "--cache",
        f"{plan.root}/head",
    ]
    common = [*head, "--name", "gpu", "--no-html"]
    bundle = timed(plan, "fit-head", *common, "--strength", "0.01")["json"]["bundle"]
    with watched_memory() as memory:
        done = timed(plan, "finetune", *common, "--from", bundle, "--epochs", "2", "--patience", "2", *more)
    manifest = json.loads((Path(plan.root) / done["json"]["bundle"] / "bundle.json").read_text())
    epochs = [epoch["seconds"] for epoch in manifest["history"]]
    return {
        "epoch_seconds": epochs[-1],
        "seconds": done["seconds"],
        "cpu_seconds": done["cpu_seconds"],
        "gpu_mb": max(memory, default=None),
    }


def two_processes(plan: Plan) -> dict[str, Any]:
    """Two extractions into one cache at once: they share the work."""
    options = ["--layer", plan.layer, "--engine", "tensorflow", "--cache", f"{plan.root}/shared", "--json"]
    command = featx_command("extract", *plan.options, *options)
    start = time.perf_counter()
    running = [
        subprocess.Popen(command, cwd=plan.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)
    ]
    answers = [json.loads(one.communicate()[0]) for one in running]
    return {"seconds": time.perf_counter() - start, "computed": [one["computed"] for one in answers]}


def attempt(step: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What a step gives, or why it failed."""
    try:
        return step(*arguments)
    except (SystemExit, Exception) as error:  # one step that fails costs no other
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"}


def run(plan: Plan, precisions: tuple[str, ...], only: list[str] | None) -> dict[str, Any]:
    """All steps, or those of `only`, the most telling first: a machine may be taken away early."""
    found: dict[str, Any] = {}
    steps: list[tuple[str, Callable[..., dict[str, Any]], tuple[Any, ...]]] = [
        *((f"extract {one}", extract, (plan, one, f"{plan.root}/{one}")) for one in precisions),
        ("keras predict", in_process, (keras_predict, (plan,))),
        ("decode alone", in_process, (decode_limit, (plan,))),
        ("first batch", in_process, (first_batch, (plan, "float32"))),
        ("gpu against cpu", in_process, (against_cpu, (plan,))),
        ("fine-tune, whole network", finetune, (plan, "--mixed-precision", "none")),
        ("fine-tune, from cache", finetune, (plan, "--from-cache", plan.below)),
        ("fine-tune, half of the memory", finetune, (plan, "--gpu-memory", "0.5", "--unfreeze", "none")),
        ("two processes", two_processes, (plan,)),
    ]
    for name, step, arguments in steps:
        if only and name not in only:
            continue
        start = time.perf_counter()
        found[name] = attempt(step, *arguments)
        print(f"{name}: {time.perf_counter() - start:.1f} s {found[name]}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="A few small images and a small network, for any machine.")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="These steps, by their names in the answer.")
    arguments = parser.parse_args()
    name = gpu_name()
    with tempfile.TemporaryDirectory() as root:
        if arguments.small:
            plan = Plan(root, "MobileNetV2", 32, 40, (64, 48), "block_16_project", "block_13_expand_relu", "random")
        else:
            plan = Plan(root, "InceptionV3", 299, 4000, (500, 400), "mixed10", "mixed7", "random")
        write_photos(Path(root) / "photos", plan.images, plan.photo)
        precisions = ("float32", "float16", "bfloat16") if name else ("float32",)
        start = time.perf_counter()
        steps = run(plan, precisions, arguments.only)
    rates = {key: one.get("images_per_second") for key, one in steps.items()}
    ratio = None
    if rates.get("extract float32") and rates.get("keras predict"):
        ratio = rates["extract float32"] / rates["keras predict"]
    answer = {"gpu": name, "machine": machine(), "seconds": time.perf_counter() - start, "steps": steps}
    print(json.dumps(answer | {"featx / keras, images per second, float32": ratio}, indent=1))


if __name__ == "__main__":
    main()
