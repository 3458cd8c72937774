"""Fixtures that several test modules share: small images, a small backbone, the command line."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

# Two processes test at once, on small arrays: threads of theirs would wait for each other in loops (test_heads took
# 14.8 CPU seconds with two threads, 9.4 with one). Libraries read this when they are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import numpy as np
import pytest
from fitted import Lab, call, make_lab
from PIL import Image

from featx.io.lazy import keep_imports
from featx.runs.prepared import Prepared
from featx.runs.run import Run

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background jobs: commands would not see Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What is imported while tests are collected stays: looking for garbage among it takes seconds. So does TensorFlow.
gc.disable()
keep_imports()


@pytest.hookimpl(tryfirst=True)  # before those are left out that `-m` does not ask for
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = set((Path(__file__).parent / "slow.txt").read_text(encoding="utf-8").splitlines())
    for item in items:
        if f"{item.path.name}::{item.name.partition('[')[0]}" in slow:
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


SIDE = 16  # of the images the tiny backbone takes


def environment(**more: str) -> dict[str, str]:
    """This process' environment, without a GPU and without TensorFlow's messages."""
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", **more}


def write_images(folder: Path, count: int, seed: int = 0, size: tuple[int, int] = (SIDE, SIDE)) -> list[Path]:
    """`count` PNG files, no two of the same pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    paths = []
    for number in range(count):
        path = folder / f"{seed}-{number:05d}.png"
        pixels = random.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(path, compress_level=0)
        paths.append(path)
    return paths


def save_backbone(path: Path, scale: float = 1.0, seed: int = 0) -> Path:
    """A network of two convolutions as a .keras file; `scale` multiplies the values of its last map."""
    from featx.backbones.runtime import import_keras

    keras = import_keras()
    random = np.random.default_rng(seed)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(6, 3, 2, "same", activation="relu", name="low")(inputs)
    x = keras.layers.Conv2D(8, 3, 2, "same", activation="relu", name="high")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(x), name="tiny")
    for name, size in (("low", 1 / 255), ("high", scale)):
        layer = model.get_layer(name)
        kernel, bias = layer.get_weights()
        layer.set_weights([random.normal(0.0, size, kernel.shape), np.full(bias.shape, size / 10)])
    model.save(path)
    return path


_OF_SUMS = ("OPENBLAS_", "OMP_", "MKL_")  # settings by which libraries that are loaded later add in another order


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """What one test changes in the environment holds in the processes of those after it: BLAS adds otherwise."""
    before = {name: text for name, text in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    yield
    changed = {name: text for name, text in before.items() if os.environ.get(name) != text}
    added = {name: os.environ.pop(name) for name in set(os.environ) - set(before) if name.startswith(_OF_SUMS)}
    os.environ.update(changed)
    assert not changed | added, "a test changed these for all that follow it"


@pytest.fixture(autouse=True)
def _close_caches() -> Iterator[None]:
    yield
    if "cached" in sys.modules:
        sys.modules["cached"].close_all()
    if "featx.io.modules" in sys.modules:  # a command allows modules in its process
        sys.modules["featx.io.modules"].named_modules().names.clear()


@pytest.fixture(autouse=True, scope="session")
def _quick_speeds() -> Iterator[None]:
    """One prediction is enough to know that a speed is measured, of each network that is compared or exported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featx.inference.speed._LEAST_SECONDS", 0.0)
        patch.setattr("featx.inference.speed._LEAST_CALLS", 1)
        yield


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Makes a folder of a name once for all processes that test at once, while the others wait; nobody changes it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder = shared / name
        with locked(shared / f"{name}.lock"):
            if not folder.exists():
                begun = base / f"{name}-begun"
                begun.mkdir()
                fill(begun)
                with suppress(FileExistsError):
                    begun.rename(folder)
        return folder

    return make


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; where there are no such locks, each makes its own and the first one counts."""
    with open(path, "w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def tiny_backbone(made_once: Callable[..., Path]) -> Path:
    """A .keras file with the layers `low` (8x8x6) and `high` (4x4x8)."""
    return made_once("tiny", lambda folder: save_backbone(folder / "tiny.keras")) / "tiny.keras"


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of `count` small distinct PNG files per class."""

    def make(count: int = 6, classes: Sequence[str] = ("cat", "dog"), name: str = "images", seed: int = 0) -> Path:
        for number, label in enumerate(classes):
            write_images(tmp_path / name / label, count, seed=seed + number)
        return tmp_path / name

    return make


@pytest.fixture
def featx(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line in `tmp_path`. `.json` of the result is what `--json` printed.

    In this process, which has TensorFlow already: importing it takes four seconds of a core. `fresh`, and any option
    of `subprocess.run`, gives a process of its own, where what was imported or is missing matters.
    """

    def run(*arguments: object, status: int | None = 0, fresh: bool = False, **options: Any) -> Any:
        words = list(map(str, arguments))
        done: Any
        if fresh or options:
            settings = {"cwd": tmp_path, "env": environment(), "capture_output": True, "text": True, "timeout": 300}
            command = [sys.executable, "-m", "featx", *words]
            done = subprocess.run(command, check=False, **(settings | options))
        else:
            outcome = call(*words, cwd=tmp_path)
            done = subprocess.CompletedProcess(words, outcome.status, outcome.out, outcome.err)
        assert status is None or done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
        done.json = json.loads(done.stdout) if "--json" in arguments and done.returncode == 0 else None
        return done

    return run


def warm(folder: Path, **features: Any) -> None:
    """A cache without features in `folder / "cache"`, which has the network that the features are made with."""
    from cached import extract

    from featx.config import DataOptions, FeaturesOptions
    from featx.dataset import read_images

    write_images(folder / "images", 2, seed=77)
    images = read_images(str(folder / "images"), DataOptions())
    extract(images, FeaturesOptions(cache=str(folder / "cache"), **features))
    for part in (folder / "cache").glob("*/*@*/*.h5"):
        part.unlink()
    for table in (folder / "cache").glob("*/*@*"):
        table.rmdir()


@pytest.fixture(scope="session")
def warm_cache(tiny_backbone: Path, made_once: Callable[..., Path]) -> Path:
    """A cache without features that gives `high@avg` or `low@flatten` of the tiny backbone without TensorFlow."""

    def fill(folder: Path) -> None:
        for layers in (("high",), ("low@flatten",)):
            warm(folder, backbone=str(tiny_backbone), layer=layers)

    return made_once("warm", fill) / "cache"


@pytest.fixture(scope="session")
def imagenet_cache(made_once: Callable[..., Path]) -> Path:
    """A cache without features that has the network which `featx look` asks for the classes of ImageNet."""
    from featx.backbones import BACKBONES
    from featx.first_look.imagenet import BUNDLED

    return made_once("imagenet", lambda folder: warm(folder, layer=BACKBONES[BUNDLED].top[-1:])) / "cache"


@pytest.fixture
def cache(warm_cache: Path, tmp_path: Path) -> Path:
    """A copy of `warm_cache` for one test, in `tmp_path / "cache"`."""
    shutil.copytree(warm_cache, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The one lab of this process."""
    return make_lab(tmp_path_factory.getbasetemp() / "lab")


@pytest.fixture
def prepared(lab: Lab, tmp_path: Path) -> Prepared:
    """The pictures of the lab, with a folder for results of its own; without OpenVINO there is no graph to convert."""
    features = replace(lab.pipeline.features, engine="tensorflow")
    return replace(lab.prepared, run=Run(tmp_path / "run"), pipeline=replace(lab.pipeline, features=features))


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Sums in the same order each time, so that equal training gives equal bits."""
    import tensorflow as tf
    from tensorflow.python.framework import config

    tf.config.experimental.enable_op_determinism()
    yield
    config.disable_op_determinism()


@pytest.fixture
def op_by_op() -> Iterator[None]:
    """Networks are trained op by op: to trace and optimise a graph takes longer than the few steps of a test."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
