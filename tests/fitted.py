"""A small backbone, sixty pictures and the bundles of every kind of head, made once per process."""

from __future__ import annotations

import io
import json
import os
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cached import prepare
from PIL import Image

from featx.bundle.bundle import Bundle
from featx.config import (
    DataOptions,
    FeaturesOptions,
    FinetuneOptions,
    HeadOptions,
    Pipeline,
    ReportOptions,
    check_options,
)
from featx.dataset import ImageSet
from featx.inference.judge import judge
from featx.metrics.measures import measure
from featx.runs.prepared import Prepared
from featx.runs.run import Run
from featx.workflow.publish import publish_head

COLOURS = {"blue": (60, 90, 170), "green": (80, 160, 90), "red": (170, 80, 70)}


def write_pictures(root: Path, per_class: int = 20, seed: int = 0) -> Path:
    """Noisy pictures in one colour per class: easy, and not so easy that every head is right about all."""
    generator = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            tint = np.array(colour) + generator.normal(0, 35, 3)
            pixels = np.clip(tint + generator.normal(0, 40, (24, 32, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{seed}-{number:02}.png")
    return root


def write_squares(root: Path, count: int = 60) -> Path:
    """A CSV of pictures of squares in colours: an image has a label for every colour it shows, some have none."""
    random = np.random.default_rng(0)
    colours = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}
    (root / "images").mkdir(parents=True)
    rows = ["path,label"]
    for number in range(count):
        pixels = np.full((32, 32, 3), 128, np.uint8) + random.integers(0, 20, (32, 32, 3), dtype=np.uint8)
        shown = [name for name in colours if random.random() < 0.5]
        for name in shown:
            top, left = random.integers(0, 20, 2)
            pixels[top : top + 12, left : left + 12] = colours[name]
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
        rows.append(f"images/{number}.png,{'$'.join(shown)}")
    (root / "index.csv").write_text("\n".join(rows) + "\n")
    return root / "index.csv"


def write_backbone(path: Path) -> Path:
    """A .keras file: three convolutions, and a batch normalisation whose statistics are not 0 and 1."""
    import keras
    from keras import layers

    def start(seed: int) -> Any:
        return keras.initializers.GlorotUniform(seed)

    inputs = keras.Input((32, 32, 3), name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(inputs)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, kernel_initializer=start(1), name="stem")(x)
    norm = layers.BatchNormalization(name="stem_bn")
    x = layers.ReLU(name="stem_relu")(norm(x))
    x = layers.Conv2D(16, 3, 2, "same", activation="relu", kernel_initializer=start(2), name="body")(x)
    x = layers.Conv2D(16, 3, 2, "same", activation="relu", kernel_initializer=start(3), name="last")(x)
    generator = np.random.default_rng(4)
    norm.set_weights([generator.uniform(0.5, 1.5, 8).astype(np.float32) for _ in range(4)])
    keras.Model(inputs, x).save(path)
    return path


@dataclass
class Lab:
    """Where the pictures are, and what was made of them."""

    root: Path
    bundles: dict[str, Bundle] = field(default_factory=dict)

    @property
    def pipeline(self) -> Pipeline:
        """Half of the pictures to train, the rest to choose and to measure."""
        return Pipeline(
            data=DataOptions(path=str(self.root / "pictures"), split=(0.5, 0.25, 0.25)),
            features=FeaturesOptions(backbone=str(self.root / "tiny.keras"), cache=str(self.root / "cache")),
            head=HeadOptions(epochs=4, hidden="16,0.3"),
            finetune=FinetuneOptions(epochs=2, batch_size=8, learning_rate=1e-3),
            report=ReportOptions(runs=str(self.root / "runs"), name="lab", html=False),
        )

    @cached_property
    def prepared(self) -> Prepared:
        """The pictures with features and a split."""
        return prepare(self.pipeline)

    def head(self, name: str) -> HeadOptions:
        """How the head of this name is fitted."""
        head = replace(self.pipeline.head, clf=name, strength={"knn": 5.0}.get(name))
        return replace(head, clf="svm", kernel="rbf", strength=10.0) if name == "rbf" else head

    def bundle(self, name: str) -> Bundle:
        """The bundle of a head: logreg, svm, ridge, knn, dense or rbf."""
        if name not in self.bundles:
            pipeline = replace(self.pipeline, head=self.head(name))
            self.bundles[name] = publish_head(
                replace(self.prepared, pipeline=pipeline, run=Run(self.root / "runs" / name))
            )
        return self.bundles[name]

    @property
    def pictures(self) -> list[str]:
        """The paths of all pictures."""
        return sorted(map(str, (self.root / "pictures").rglob("*.png")))


@cache
def make_lab(root: Path) -> Lab:
    """The one lab of this process."""
    write_pictures(root / "pictures")
    write_backbone(root / "tiny.keras")
    return Lab(root)


def with_finetune(prepared: Prepared, **changes: Any) -> Prepared:
    """The same with other options of the fine-tune, which are checked."""
    pipeline = replace(prepared.pipeline, finetune=replace(prepared.pipeline.finetune, **changes))
    return replace(prepared, pipeline=check_options(pipeline))


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit status, stdout, stderr."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        return json.loads(self.out)

    @property
    def sentence(self) -> str:
        """The last line on stderr, which says what went wrong."""
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""


def call(*arguments: str | Path, cwd: Path) -> Outcome:
    """Run a command of featx in this process, as if in the folder `cwd`."""
    from featx.cli.app import main

    out, err = io.StringIO(), io.StringIO()
    with chdir(cwd), redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([os.fspath(argument) for argument in arguments])
    return Outcome(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def evaluate(bundle: Bundle, images: ImageSet) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """What `featx evaluate --json` measures of labelled images, and the images that could not be read."""
    predictions, unreadable = judge(bundle, images, images.name)
    return measure(predictions).as_json(), unreadable
