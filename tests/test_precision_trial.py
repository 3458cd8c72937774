"""What bfloat16 would save and cost: measured on a few images, said once, early in an extraction that takes long."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cached import extract, list_stores
from fitted import call, make_lab
from sklearn.metrics.pairwise import paired_cosine_distances

from featx.config import DataOptions, FeaturesOptions
from featx.dataset import read_images
from featx.engines import openvino
from featx.engines.choice import effective_precision
from featx.errors import EngineError
from featx.extraction import precision_trial, work
from featx.extraction.extraction import Extraction
from featx.extraction.job import settle
from featx.extraction.precision_trial import Pace, PrecisionTrial, advise, images_to_try, try_shorter
from featx.extraction.request import request_images
from featx.first_look import precision as look_precision
from featx.io.progress import no_progress
from featx.store.cache import Cache

TWICE = PrecisionTrial(64, 0.01, 2.0, 0.99987, 0.9912)


def has_bfloat16() -> bool:
    try:
        return effective_precision("openvino", "bfloat16") == "bfloat16"
    except EngineError:
        return False


needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16 arithmetic")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lab = make_lab(tmp_path_factory.getbasetemp() / "lab")
    folder = tmp_path_factory.mktemp("precision")
    shutil.copytree(lab.root / "pictures", folder / "pictures")
    shutil.copy(lab.root / "tiny.keras", folder / "tiny.keras")
    return folder


def options(place: Path, **more: Any) -> FeaturesOptions:
    made = {"backbone": str(place / "tiny.keras"), "storage": "float32", "cache": str(place / "cache")}
    return FeaturesOptions(**{**made, **more})


def values(done: Extraction) -> np.ndarray:
    (output,) = done.outputs
    return np.concatenate([*done.features(output, np.arange(len(done.images))).blocks()])


def take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every extraction take long, and every gain be worth a line."""
    monkeypatch.setattr(openvino, "_HANDOVER", 8)
    monkeypatch.setattr(work, "_SETTLED", 0.0)
    monkeypatch.setattr(precision_trial, "WORTH_A_LINE", 0.0)
    monkeypatch.setattr(precision_trial, "_LEAST_GAIN", 1e9)


# --- the words and figures -------------------------------------------------------------------------------------------


def test_what_is_not_inference_stays_as_it_is() -> None:
    # 1,000 of 10,000 images in 100 s, of which 80 are inference: 0.1 s each, 0.06 at twice the speed of inference
    pace = Pace(10_000, 1_000, 100.0, 80.0)
    assert pace.left == pytest.approx(900)
    assert pace.whole(TWICE) == pytest.approx(600)
    line = advise(TWICE, pace)
    assert line.startswith("About 15 min left. With --precision bfloat16 all 10,000 images would take about 10 min: ")
    assert "measured on 64 of these images, it infers 2.0 times as fast" in line
    assert "cosine of 0.9999 to those of float32 (the worst image 0.991)" in line


@pytest.mark.parametrize(
    "pace",
    [
        Pace(10_000, 1_000, 100.0, 10.0),  # decoding is what takes long
        Pace(10_000, 6_000, 600.0, 600.0),  # what is left takes hardly longer than all anew
    ],
)
def test_no_line_where_little_is_saved(pace: Pace) -> None:
    assert advise(TWICE, pace) == ""


def test_a_trial_takes_little_of_what_is_left() -> None:
    assert Pace(1_000, 100, 5.0, 5.0).images_to_try == 0  # 45 s are left
    for each in (0.001, 0.05, 0.5, 2.0):
        pace = Pace(100_000, 100, 100 * each, 100 * each)
        count = pace.images_to_try
        assert 16 <= count <= 64
        assert 1.7 * count * each <= max(0.03 * pace.left, 1.7 * 16 * each)
    assert images_to_try(1.0, 0.5) == 0


# --- measured --------------------------------------------------------------------------------------------------------


@needs_bfloat16
def test_the_cosine_is_that_of_extracted_features(place: Path) -> None:
    images = read_images(str(place / "pictures"), DataOptions())
    exact, short = (values(extract(images, options(place, precision=one))) for one in ("float32", "bfloat16"))
    wanted = 1 - paired_cosine_distances(exact[:40].astype(np.float64), short[:40].astype(np.float64))
    with Cache(options(place).cache) as cache:
        job = settle(options(place), cache)
        trial = try_shorter(job, request_images(images, cache.index, no_progress), range(40), job.outputs)
        assert try_shorter(settle(options(place, precision="bfloat16"), cache), None, range(40), job.outputs) is None  # type: ignore[arg-type]
    assert trial is not None
    assert trial.images == 40
    assert trial.cosine == pytest.approx(np.median(wanted), abs=1e-6)
    assert trial.worst == pytest.approx(wanted.min(), abs=1e-6)
    assert trial.worst < 1  # it was another arithmetic
    assert trial.faster > 0


@needs_bfloat16
def test_a_long_extraction_says_it_once_and_keeps_its_features(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    images = read_images(str(place / "pictures"), DataOptions())
    plain = values(extract(images, options(place)))
    take_long(monkeypatch)
    with caplog.at_level(logging.WARNING):
        done = extract(images, options(place, cache=str(tmp_path)))
    lines = [one.getMessage() for one in caplog.records if "bfloat16" in one.getMessage()]
    assert len(lines) == 1
    assert "left. With --precision bfloat16 all 60 images" in lines[0]
    np.testing.assert_allclose(values(done), plain, rtol=1e-5, atol=1e-6)
    assert [store.key.precision for store in list_stores(tmp_path)] == ["float32"]


def test_no_word_of_it_where_the_processor_lacks_it(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from openvino import Core

    monkeypatch.setattr(Core, "get_property", lambda *_: ["FP32", "INT8"])
    take_long(monkeypatch)
    with caplog.at_level(logging.WARNING):
        done = extract(read_images(str(place / "pictures"), DataOptions()), options(place, cache=str(tmp_path)))
    assert done.computed == 60
    assert "bfloat16" not in caplog.text


@needs_bfloat16
def test_a_look_at_many_images_measures_it(place: Path, imagenet_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(imagenet_cache, place / "look-cache")
    ask = ("look", "pictures", "--backbone", "tiny.keras", "--cache", "look-cache", "--no-html", "--json")
    assert call(*ask, cwd=place).json["precision"] is None  # 60 images are done in no time
    monkeypatch.setattr(look_precision, "WORTH_A_LINE", 0.0)
    found = call(*ask, cwd=place).json
    assert found["precision"]["precision"] == "bfloat16"
    assert 0.9 < found["precision"]["worst"] <= found["precision"]["cosine"] <= 1
    assert any(note.startswith("Inference of all 60 images would take about ") for note in found["notes"])
