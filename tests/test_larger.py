"""A larger input size: advised where fine structure matters, and nowhere else."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featx.backbones import Output
from featx.config import DataOptions, FeaturesOptions, Pipeline
from featx.dataset import ImageSet, read_data
from featx.features import ArrayFeatures
from featx.first_look.advice import Numbers, ScoredOutput, advise
from featx.first_look.larger import LargerSize, try_larger
from featx.first_look.recommendation import Recommendation, add_larger
from featx.first_look.study import Study
from featx.images.decoder import load_image
from featx.store.cache import Cache

OUTPUT = "top_activation@avg"


@dataclass(frozen=True)
class Edges:
    """In the place of a network's features: how much neighbours differ across and down, and the mean colour."""

    images: ImageSet
    side: int

    @property
    def readable(self) -> np.ndarray:
        return np.ones(len(self.images), bool)

    @property
    def digests(self) -> np.ndarray:
        return np.frombuffer(b"".join(f"{row:032d}".encode() for row in range(len(self.images))), "V32")

    def features(self, output: Output, rows: np.ndarray) -> ArrayFeatures:
        assert output.name == OUTPUT
        found = []
        for row in rows.tolist():
            pixels = load_image(self.images.paths[row], (self.side, self.side), "stretch").astype(np.float32)
            across, down = (np.abs(np.diff(pixels, axis=axis)).mean() for axis in (1, 0))
            found.append([across, down, *pixels.mean(axis=(0, 1))])
        return ArrayFeatures(np.array(found, np.float32))


def write(folder: Path, fine: bool, side: int = 128, count: int = 40) -> Path:
    """Two classes: stripes of one pixel, upright or lying, which a smaller picture loses; or two colours."""
    random, window = np.random.default_rng(0), np.outer(np.hanning(side), np.hanning(side))
    stripes = (np.arange(side) % 2 - 0.5) * 60
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for place in range(count):
            pixels = np.full((side, side, 3), 60.0) + random.uniform(0, 20, 3)
            if fine:
                pixels += (window * (stripes[:, None] if label == "a" else stripes))[..., None]
            else:
                pixels[..., 0 if label == "a" else 2] += 100
            pixels += random.normal(0, 20, pixels.shape)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / label / f"{place}.png")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    def extract(images: ImageSet, options: FeaturesOptions, *_: object) -> Edges:
        if options.engine == "tensorflow":
            time.sleep(0.01 * len(images))
        return Edges(images, options.input_size or 0)

    monkeypatch.setattr("featx.first_look.larger.extract", extract)
    return Cache(str(tmp_path / "cache"))


def study_of(folder: Path, cache: Cache, **features: object) -> Study:
    options = replace(FeaturesOptions(input_size=64), **features)  # type: ignore[arg-type]
    pipeline = Pipeline(data=DataOptions(path=str(folder)), features=options)
    images = read_data(pipeline)
    return Study(images, images, pipeline, cache)


def test_a_larger_size_is_better_where_fine_structure_matters(tmp_path: Path, cache: Cache) -> None:
    found, note = try_larger(study_of(write(tmp_path / "set", fine=True), cache), OUTPUT, None)
    assert note == ""
    assert found is not None
    assert (found.side, found.usual, found.images, found.better) == (128, 64, 80, True)
    assert found.before < 0.75 < 0.95 < found.score
    assert "Every image then takes about 4.0 times as long" in found.sentence


def test_it_is_not_where_colour_does_and_is_not_tried_on_small_images(tmp_path: Path, cache: Cache) -> None:
    found, _ = try_larger(study_of(write(tmp_path / "set", fine=False), cache), OUTPUT, None)
    assert found is not None
    assert (found.before, found.score, found.better) == (1.0, 1.0, False)
    assert "no more than could be chance" in found.sentence
    small = study_of(write(tmp_path / "small", fine=True, side=72, count=8), cache)
    assert try_larger(small, OUTPUT, None) == (None, "")


def test_what_is_more_than_chance_is_seen_to_be() -> None:
    found = LargerSize(128, 75, "mixed2", 396, "accuracy", 0.9798, 0.9596, 0.0187)
    assert "0.020 more, where 0.019 could be chance" in found.sentence


def test_it_is_judged_on_as_many_images_as_there_is_time_for(tmp_path: Path, cache: Cache) -> None:
    study = study_of(write(tmp_path / "set", fine=True), cache, engine="tensorflow")  # 0.01 s an image
    found, note = try_larger(study, OUTPUT, 0.4)
    assert found is None
    assert note.endswith("Try it: --input-size 128.")
    found, note = try_larger(study, OUTPUT, 60.0)
    assert found is not None
    assert found.images == 80


def test_commands_and_json_have_the_size_that_is_better(tmp_path: Path, cache: Cache) -> None:
    study = study_of(write(tmp_path / "set", fine=True, count=2), cache)
    better = LargerSize(448, 256, OUTPUT, 200, "accuracy", 0.83, 0.72, 0.06)
    assert "3.1 times as long" in better.sentence
    assert replace(better, score=0.5).sentence.endswith("the larger size is worse.")
    numbers = Numbers(80, 2, 40.0, None, ScoredOutput(OUTPUT, 1.0, 0.72), 80)
    start = Recommendation(advise(numbers), ("featx fit-head set --input-size 256",), numbers)
    found = add_larger(start, better, study, "set --input-size 256 --resize pad")
    assert found.commands == (f"featx fit-head set --resize pad --input-size 448 --layer {OUTPUT} --clf logreg",)
    assert found.reasons[-1] == better.sentence
    larger = found.as_json()["larger"]
    assert isinstance(larger, dict)
    assert (larger["side"], larger["better"]) == (448, True)
    same = add_larger(start, replace(better, chance=0.12), study, "set --input-size 256")
    assert same.commands == start.commands
    assert same.input_size is None
