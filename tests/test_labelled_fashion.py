"""Fashion-MNIST with several labels: what is written, and that a head of ours on it is as good as scikit-learn's."""

from __future__ import annotations

import csv
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from arrays import standard_scaler
from cached import extract
from fitted import Outcome, call
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.multiclass import OneVsRestClassifier

from featx.bundle.split import read_split
from featx.config import DataOptions, FeaturesOptions
from featx.dataset import NONE, SPLITS, read_images
from featx.dataset.fashion_mnist import FASHION_CLASSES
from featx.dataset.labelled_fashion import ALSO_TRUE, write_labelled_fashion

SIDE = 28


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 2048 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def draw_garments(labels: np.ndarray, seed: int) -> np.ndarray:
    """Noise, and a bright bar whose place tells the class: uint8 (n, 28, 28)."""
    images = np.random.default_rng(seed).integers(0, 60, (len(labels), SIDE, SIDE))
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 5)
        image[4 + 12 * row : 12 + 12 * row, 1 + 5 * column : 6 + 5 * column] += 180
    return images


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("idx")
    for prefix, count, seed in (("train", 240, 0), ("t10k", 80, 1)):
        labels = np.random.default_rng(seed).permutation(np.arange(count) % 10)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(draw_garments(labels, seed)))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Callable[..., Outcome]:
    return lambda *arguments: call(*arguments, cwd=tmp_path)


def rows_of(index: Path) -> list[dict[str, str]]:
    with open(index, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_images_and_labels_are_those_of_the_garments(source: Path, tmp_path: Path) -> None:
    assert write_labelled_fashion(source, tmp_path / "out", 90, seed=4) == 90
    rows = rows_of(tmp_path / "out" / "index.csv")
    assert len(rows) == 90
    shown: list[tuple[str, str]] = []
    for row in rows:
        part, name = row["path"].removesuffix(".png").split("/")
        assert part == row["split"]
        prefix = {"train": "train", "test": "t10k"}[part]
        pixels = np.frombuffer((source / f"{prefix}-images-idx3-ubyte").read_bytes()[16:], np.uint8)
        classes = (source / f"{prefix}-labels-idx1-ubyte").read_bytes()[8:]
        garments = [int(number) - 1 for number in name.split("-")]
        shown += [(part, str(garment)) for garment in garments]
        expected = {FASHION_CLASSES[classes[garment]] for garment in garments}
        expected |= {kind for garment in garments for kind in ALSO_TRUE[FASHION_CLASSES[classes[garment]]]}
        assert set(row["label"].split("$")) == expected
        found = np.asarray(Image.open(tmp_path / "out" / row["path"]))
        sources = [pixels.reshape(-1, SIDE, SIDE)[garment] for garment in garments]
        if len(garments) == 1:
            np.testing.assert_array_equal(found, sources[0])
        else:
            assert found.shape == (2 * SIDE, 2 * SIDE)
            np.testing.assert_array_equal(found[SIDE // 2 : -SIDE // 2], np.hstack(sources))
            assert not found[: SIDE // 2].any()
            assert not found[-SIDE // 2 :].any()
    assert len(set(shown)) == len(shown) == 90 + 24 + 6  # no garment twice
    assert [sum(row["split"] == part for row in rows) for part in ("train", "test")] == [72, 18]


def test_a_seed_gives_the_same_images_again(source: Path, work: Callable[..., Outcome], tmp_path: Path) -> None:
    asked = ("data", "fashion-mnist", "--source", source, "--multilabel", "--images", "20")
    first = work(*asked, "--out", "one", "--json")
    assert first.json == {"out": "one", "images": 20, "index": "one/index.csv"}
    work(*asked, "--out", "again")
    work(*asked, "--out", "other", "--seed", "1")
    one, again, other = ((tmp_path / name / "index.csv").read_text() for name in ("one", "again", "other"))
    assert one == again != other
    names = [row["path"] for row in rows_of(tmp_path / "one" / "index.csv")]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        (("--multilabel", "--images", "5000"), 1, "there are 240. Ask for fewer with --images"),
        (("--multilabel", "--images", "4"), 2, "x>=5"),
        (("--images", "20"), 2, "--multilabel --images"),
        (("--seed", "1"), 2, "--multilabel --seed"),
    ],
)
def test_what_makes_no_sense_is_refused(
    source: Path, work: Callable[..., Outcome], tmp_path: Path, more: tuple[str, ...], status: int, words: str
) -> None:
    refused = work("data", "fashion-mnist", "--source", source, "--out", "out", *more)
    assert refused.status == status
    assert words in refused.sentence
    assert not (tmp_path / "out").exists()


def test_from_idx_files_to_predictions(
    source: Path, tiny_backbone: Path, cache: Path, work: Callable[..., Outcome], tmp_path: Path
) -> None:
    assert (
        work("data", "fashion-mnist", "--source", source, "--out", "fashion", "--multilabel", "--images", "150").status
        == 0
    )
    features = ("--label-separator", "$", "--backbone", tiny_backbone, "--layer", "low@flatten", "--cache", cache)
    checked = work("check", "fashion/index.csv", "--label-separator", "$", "--json").json
    assert (checked["readable"], checked["duplicates"]) == (150, [])
    assert checked["classes"]["upper body"] > checked["classes"]["accessory"] > 0
    strength = 0.01
    done = work("fit-head", "fashion/index.csv", *features, "--strength", str(strength), "--json")
    assert done.status == 0, done.err
    assert done.json["test"]["images"] == 30

    # scikit-learn on the same features and rows.
    images = read_images(str(tmp_path / "fashion" / "index.csv"), DataOptions(label_separator="$"))
    options = FeaturesOptions(backbone=str(tiny_backbone), layer=("low@flatten",), cache=str(cache))
    extraction = extract(images, options)
    x = extraction.features(extraction.outputs[0], np.arange(150)).asarray()
    digests, codes = read_split(tmp_path / done.json["bundle"] / "split.npz")
    kept = dict(zip(digests.tolist(), codes.tolist(), strict=True))
    part = np.array([kept.get(digest, NONE) for digest in extraction.digests.tolist()])
    train, test = part == SPLITS.index("train"), part == SPLITS.index("test")
    scaler = standard_scaler(x[train])
    reference = OneVsRestClassifier(LogisticRegression(C=strength, tol=1e-8, max_iter=10_000))
    labels = np.asarray(images.labels)
    reference.fit(scaler.transform(x[train]), labels[train].astype(int))
    known = labels[test].any(axis=0) & ~labels[test].all(axis=0)
    scores = reference.decision_function(scaler.transform(x[test]))
    expected = average_precision_score(labels[test][:, known], scores[:, known], average="macro")
    assert done.json["test"]["average_precision_macro"] == pytest.approx(expected, abs=0.01)
    assert expected > 0.8

    paths = [images.paths[row] for row in np.flatnonzero(test)]
    answers = work("predict", *paths, "--model", done.json["bundle"], "--json").json["predictions"]
    truth = [set(images.label_names(row)) for row in np.flatnonzero(test)]
    exact = np.mean([set(one["labels"]) == names for one, names in zip(answers, truth, strict=True)])
    assert exact == pytest.approx(done.json["test"]["exact_match"])
