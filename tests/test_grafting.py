"""A grafted network gives the bundle's logits before its first step: every head, front and pooling."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cached import prepare
from fitted import Lab

from featx.bundle.bundle import Bundle
from featx.config import FeaturesOptions, HeadOptions, Pipeline
from featx.finetune.flow import GRAFTABLE, graft
from featx.finetune.unfreezing import Unfreezing
from featx.images.decoder import load_image
from featx.runs.prepared import Prepared
from featx.runs.run import Run
from featx.workflow.publish import publish_head


def pictures(lab: Lab, side: int = 32, count: int = 6) -> np.ndarray:
    """float32 (count, side, side, 3)."""
    paths = lab.pictures[:: 60 // count][:count]
    return np.stack([load_image(path, (side, side), "stretch") for path in paths]).astype(np.float32)


def check_first_step(bundle: Bundle, images: np.ndarray, *, training: bool) -> None:
    """Logits as the bundle gives them of the same float32 features, to 1e-4 of the largest.

    training : also in training mode, where nothing is dropped out and batch normalisation is frozen
    """
    import keras

    backbone = keras.saving.load_model(bundle.path / "backbone.keras", compile=False)
    made = backbone(images, training=False)
    maps = [np.asarray(made[name]).reshape(len(images), -1) for name in bundle.manifest.output_names]
    expected = bundle.head(bundle.transform.apply(np.concatenate(maps, axis=1)))
    assert np.ptp(expected, axis=0).max() > 0, "the images are told apart"
    model = graft(bundle)
    Unfreezing(model, ["featx_head"], "all", "frozen").set(0)
    for mode in (False, True)[: 1 + training]:
        found = np.asarray(model(images, training=mode))
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@cache
def prepared(pipeline: Pipeline) -> Prepared:
    """The pictures with features and a split, once for every head behind the same features."""
    return prepare(pipeline)


def fitted(lab: Lab, root: Path, features: FeaturesOptions, head: HeadOptions) -> Bundle:
    pipeline = replace(lab.pipeline, features=features)
    return publish_head(
        replace(prepared(pipeline), pipeline=replace(pipeline, head=head), run=Run(root / "graft" / "1"))
    )


def lab_features(lab: Lab, layers: tuple[str, ...], pooling: tuple[str, ...]) -> FeaturesOptions:
    return replace(lab.pipeline.features, layer=layers, pooling=pooling, engine="tensorflow")


@pytest.mark.usefixtures("op_by_op")
@pytest.mark.parametrize("clf", GRAFTABLE)
@pytest.mark.parametrize("front", [{}, {"normalize": "l2"}, {"pca": 5.0}, {"normalize": "l2", "pca": 0.9}])
def test_every_head_behind_every_front(lab: Lab, tmp_path: Path, clf: Any, front: dict[str, Any]) -> None:
    head = HeadOptions(clf=clf, strength=None if clf == "dense" else 0.01, hidden="8", epochs=2, **front)
    bundle = fitted(lab, tmp_path, lab_features(lab, ("last",), ("avg",)), head)
    assert bundle.manifest.head.clf == clf
    check_first_step(bundle, pictures(lab), training=True)


@pytest.mark.usefixtures("op_by_op")
@pytest.mark.parametrize("clf", ["logreg", "dense"])
@pytest.mark.parametrize(
    ("layers", "poolings"),
    [
        (("body",), ("avg",)),
        (("body",), ("max",)),
        (("body",), ("grid:2",)),
        (("body",), ("grid:3",)),  # 8 x 8 is not divisible by 3
        (("body",), ("flatten",)),
        (("stem_relu@grid:2", "body@max", "last@flatten"), ()),
        (("last",), ("avg", "max")),  # two poolings of one layer
    ],
)
def test_every_pooling_and_several_layers(
    lab: Lab, tmp_path: Path, clf: Any, layers: tuple[str, ...], poolings: tuple[str, ...]
) -> None:
    head = HeadOptions(clf=clf, strength=None if clf == "dense" else 0.01, hidden="8", epochs=2, combine="all")
    bundle = fitted(lab, tmp_path, lab_features(lab, layers, poolings), head)
    assert len(bundle.manifest.output_names) == max(len(layers), len(poolings))
    check_first_step(bundle, pictures(lab), training=True)
