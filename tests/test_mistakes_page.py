"""`featx evaluate --mistakes`: each wrong image with its maps and the training images that are most like it."""

from __future__ import annotations

import base64
import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import Lab, call, write_pictures, write_squares
from PIL import Image

import featx
from featx.bundle.bundle import load_bundle
from featx.errors import UsageError
from featx.inference.explain import Explainer
from featx.inference.overlays import draw_map
from featx.inference.predict import AnswerOptions, iter_features, predict


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "mistakes.csv").read_text().splitlines()))


def cards_of(folder: Path) -> list[str]:
    return re.findall(r'<article class="mistake".*?</article>', (folder / "index.html").read_text(), re.DOTALL)


def pictures(html: str) -> list[tuple[str, np.ndarray]]:
    """The words of each picture in a part of the page, and its pixels."""
    found = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"[^>]* alt="([^"]*)"', html)
    return [(alt, np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), float)) for data, alt in found]


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.fixture
def measured(lab: Lab, tmp_path: Path) -> tuple[Any, Path, list[str]]:
    """A model, the folder of its mistakes on all pictures, and the arguments that it took."""
    model = lab.bundle("logreg")
    settings = ["--set", f"features.cache={lab.root / 'cache'}"]
    words = ["evaluate", str(model.path), "--data", str(lab.root / "pictures"), "--split", "all", *settings]
    done = call(*words, "--mistakes", "wrong", "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    return model, tmp_path, words


def test_each_mistake_has_its_photo_its_maps_and_its_nearest_training_images(
    measured: tuple[Any, Path, list[str]], lab: Lab
) -> None:
    model, place, words = measured
    again = call(*words, "--mistakes", "wrong", "--force", "--json", cwd=place)
    told, folder = again.json["mistakes"], place / "wrong"
    paths = sorted(map(str, (lab.root / "pictures").rglob("*.png")))
    answers = {one.path: one for one in predict(model, paths, AnswerOptions())}
    wrong = {path: one for path, one in answers.items() if one.label != Path(path).parent.name}
    order = sorted(wrong, key=lambda path: -wrong[path].confidence)
    assert len(wrong) > 2
    assert told == {
        "page": "wrong/index.html",
        "csv": "wrong/mistakes.csv",
        "images": len(wrong),
        "shown": len(wrong),
    }
    rows, cards = rows_of(folder), cards_of(folder)
    assert [row["path"] for row in rows] == ["/".join(Path(path).parts[-2:]) for path in order]
    assert [row["predicted"] for row in rows] == [wrong[path].label for path in order]
    assert len(cards) == len(order)
    train = [path for path in paths if _digest(path) in _trained(model)]
    features = dict(zip(paths, _features(model, paths), strict=True))
    for path, card in zip(order, cards, strict=True):
        actual, predicted = Path(path).parent.name, wrong[path].label
        assert f"Labelled <strong>{actual}</strong>, predicted <strong>{predicted}</strong>" in card
        shown = pictures(card)
        explained = {
            one.label: one for one in next(Explainer(model, labels=[actual, predicted]).explain([path])).classes
        }
        for (alt, pixels), label in zip(shown[1:3], (predicted, actual), strict=True):
            assert f"supports {label}" in alt
            over = draw_map(explained[label], path, model)[0].resize(pixels.shape[1::-1])
            assert correlation(np.asarray(over, float), pixels) > 0.9
        near = sorted((one for one in train if one != path), key=lambda one: -_cosine(features[one], features[path]))
        assert [alt.split(", ")[-1] for alt, _ in shown[3:]] == [Path(one).name for one in near[:5]]
        assert f"training image {Path(near[0]).parent.name}, " in shown[3][0]
    assert "<script src" not in (folder / "index.html").read_text()


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def _features(model: Any, paths: list[str]) -> np.ndarray:
    return np.concatenate([features for _, features, _ in iter_features(model, paths)]).astype(float)


def _digest(path: str) -> bytes:
    from hashlib import sha256

    return sha256(Path(path).read_bytes()).digest()


def _trained(model: Any) -> set[bytes]:
    return {digest for digest, part in model.split().items() if part == 0}


def test_a_folder_in_use_is_refused_before_anything_is_measured(measured: tuple[Any, Path, list[str]]) -> None:
    _, place, words = measured
    (place / "wrong" / "mistakes.csv").write_text("mine")
    done = call(*words, "--mistakes", "wrong", cwd=place)
    assert done.status != 0
    assert "wrong is a folder with files in it. Add to it with --force" in done.err
    assert (place / "wrong" / "mistakes.csv").read_text() == "mine"
    done = call(*words, "--force", cwd=place)
    assert done.status != 0
    assert "--force goes with --mistakes" in done.err


def test_where_training_images_are_not_at_hand_the_page_says_so(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model, others = featx.load(lab.bundle("logreg").path), write_pictures(tmp_path / "others", 15, seed=9)
    (others / "red").rename(others / "=RED(1)")  # a class that the model does not know, and a formula of a spreadsheet
    answer = model.evaluate("others", mistakes="wrong")
    page = (tmp_path / "wrong" / "index.html").read_text()
    assert "The nearest training images are not shown: " in page
    assert "was trained on none of the images of others" in page
    rows = rows_of(tmp_path / "wrong")
    assert answer["mistakes"] == {
        "page": "wrong/index.html",
        "csv": "wrong/mistakes.csv",
        "images": round(45 * (1 - answer["accuracy"])),
        "shown": len(rows),
    }
    assert sum(row["actual"] == "'=RED(1)" and row["path"].startswith("'=RED(1)/") for row in rows) == 15
    assert "Labelled <strong>=RED(1)</strong>, predicted" in page
    assert "supports =RED(1)" not in page
    with pytest.raises(UsageError, match="with files in it"):
        model.evaluate("others", mistakes="wrong")
    assert model.evaluate("others", mistakes="wrong", force=True) == answer


def test_without_a_mistake_the_page_says_that_there_is_none(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = featx.load(lab.bundle("logreg").path)
    paths = sorted(map(str, (lab.root / "pictures").rglob("*.png")))
    right = [one.path for one in model.predict(paths) if one.label == Path(one.path).parent.name]
    for path in right[:3]:
        (tmp_path / "right" / Path(path).parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "right" / Path(path).parent.name / Path(path).name).write_bytes(Path(path).read_bytes())
    answer = model.evaluate(tmp_path / "right", mistakes=tmp_path / "wrong")
    assert answer["mistakes"]["images"] == 0
    assert "There are none: all 3 images are right." in (tmp_path / "wrong" / "index.html").read_text()
    assert rows_of(tmp_path / "wrong") == []


def test_of_several_labels_the_wrong_ones_are_explained(tmp_path: Path, tiny_backbone: Path, featx: Any) -> None:
    index = write_squares(tmp_path)
    options = ["--label-separator", "$", "--backbone", tiny_backbone, "--layer", "high@flatten", "--cache", "cache"]
    made = featx("fit-head", index, *options, "--split", "0.5,0.25,0.25", "--folds", "3", "--no-html", "--json").json
    again = ("--set", "data.label_separator=$", "--set", "features.cache=cache", "--json")
    told = featx("evaluate", made["bundle"], "--data", index, "--mistakes", "wrong", *again).json
    rows, cards = rows_of(tmp_path / "wrong"), cards_of(tmp_path / "wrong")
    assert told["mistakes"]["images"] == len(rows) == round(60 * (1 - told["exact_match"]))
    losses = [float(row["log_loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert load_bundle(tmp_path / made["bundle"]).multilabel
    for row, card in zip(rows, cards, strict=True):
        given, there = (set(row[name].split(", ")) - {"nothing"} for name in ("predicted", "actual"))
        assert set(re.findall(r"<figcaption>supports (\w+),", card)) == given ^ there
        assert "training images" in card
