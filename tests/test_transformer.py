"""FeatureExtractor as scikit-learn uses it: checks, clones, pipelines, grids, processes; and each image once."""

from __future__ import annotations

import inspect
import os
import pickle
from dataclasses import fields
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from cached import list_stores
from fitted import COLOURS, Lab
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array
from sklearn.utils.estimator_checks import check_estimator

from featx import FeatureExtractor
from featx.api import transformer
from featx.config import FeaturesOptions
from featx.errors import BackboneError, DataError, UsageError


@pytest.fixture
def extractor(lab: Lab, tmp_path: Path) -> FeatureExtractor:
    """Of the tiny backbone, with an empty cache."""
    return FeatureExtractor(lab.root / "tiny.keras", storage="float32", cache=tmp_path / "cache")


def labels_of(paths: list[str]) -> list[str]:
    return [Path(path).parent.name for path in paths]


def rows_of(extractor: FeatureExtractor) -> dict[str, int]:
    """How many rows were ever computed, by layer and pooling: doubles would count."""
    found: dict[str, int] = {}
    for store in list_stores(Path(extractor.cache)):
        for name, table in store.tables().items():
            found[name] = found.get(name, 0) + table.rows
    return found


# --- what it computes --------------------------------------------------------------------------------------------


def test_features_are_those_of_keras(lab: Lab, extractor: FeatureExtractor) -> None:
    import keras

    network = keras.saving.load_model(lab.root / "tiny.keras")
    paths = lab.pictures[::7]
    images = np.stack([np.asarray(Image.open(path).resize((32, 32), Image.Resampling.BILINEAR)) for path in paths])
    maps = np.asarray(network(images.astype(np.float32), training=False))
    found = extractor.set_params(layer=["last@avg", "last"], pooling="max").fit_transform(paths)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.hstack([maps.mean((1, 2)), maps.max((1, 2))]), rtol=1e-3, atol=1e-4)
    assert extractor.n_features_out_ == 32
    assert extractor.get_feature_names_out()[[0, 16, 31]].tolist() == ["last@avg_0", "last@max_0", "last@max_15"]


def test_a_second_transform_computes_nothing(
    lab: Lab, extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = lab.pictures[:6]
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    first, of_pixels = extractor.fit_transform(paths), extractor.transform(pixels)
    np.testing.assert_array_equal(first, of_pixels)  # the same code decodes and resizes both
    assert rows_of(extractor) == {"last@avg": 12}  # a PNG file and an array are two images
    monkeypatch.setattr(transformer, "extract", _without_network)
    twin = clone(extractor)
    np.testing.assert_array_equal(twin.transform(paths[::-1]), first[::-1])
    np.testing.assert_array_equal(twin.transform([*pixels, *pixels]), [*first, *first])
    np.testing.assert_array_equal(twin.transform([Image.fromarray(one) for one in pixels]), first)
    np.testing.assert_array_equal(twin.transform(np.asfortranarray(pixels)), first)


def _without_network(*arguments: Any) -> Any:
    from featx.extraction.flow import extract

    done = extract(*arguments)
    assert done.computed == 0
    return done


def test_an_array_has_the_identity_of_the_ppm_file_of_its_pixels(extractor: FeatureExtractor, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    found = extractor.fit_transform(pixels[None])
    Image.fromarray(pixels).save(tmp_path / "same.ppm")
    np.testing.assert_array_equal(extractor.transform([tmp_path / "same.ppm"]), found)
    assert rows_of(extractor) == {"last@avg": 1}
    turned = np.ascontiguousarray(pixels.reshape(7, 5, 3))  # the same bytes, another shape
    assert not np.array_equal(extractor.transform([turned]), found)
    assert rows_of(extractor) == {"last@avg": 2}


def test_images_in_memory_of_every_kind(extractor: FeatureExtractor) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (9, 8), np.uint8)
    colour = np.repeat(grey[..., None], 3, axis=2)
    opaque = np.dstack([colour, np.full(grey.shape, 255, np.uint8)])
    sideways = Image.fromarray(np.rot90(colour))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    buffer = _saved(sideways, exif)
    kinds = [grey, grey[..., None], colour, opaque, Image.fromarray(grey), Image.fromarray(grey).convert("P")]
    found = extractor.fit_transform([*kinds, Image.open(buffer)])
    for row in found:
        np.testing.assert_array_equal(row, found[0])
    assert rows_of(extractor) == {"last@avg": 1}


def _saved(image: Image.Image, exif: Image.Exif) -> Any:
    import io

    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    return buffer


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("a.png", "Images are a list.*got one str. Put a single image in a list"),
        (Image.new("RGB", (4, 4)), "got one Image"),
        (np.zeros((8, 8, 3), np.uint8), r"got an array \(8, 8, 3\)"),
        (7, "got one int"),
        ([], "No images given"),
        (np.empty((0, 8, 8, 3), np.uint8), "No images given"),
        (np.zeros((2, 8, 8, 3)), r"image 1 is float64 \(8, 8, 3\)"),
        (np.zeros((2, 8, 8, 2), np.uint8), r"image 1 is uint8 \(8, 8, 2\)"),
        (np.zeros((4, 4), np.uint8), r"got an array \(4, 4\)"),
        ([np.zeros((4, 4), np.uint8), "a.png"], "image 2 is a str"),
        ([np.zeros((4, 0, 3), np.uint8)], r"image 1 is uint8 \(4, 0, 3\)"),
        ([1.0, 2.0], "image 1 is a float"),
        ([None], "image 1 is a NoneType"),
        ([Image.new("F", (4, 4))], "image 1: pixels are 32-bit fractions"),
    ],
)
def test_what_is_no_image_is_told(extractor: FeatureExtractor, images: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        extractor.transform(images)


def test_an_image_that_cannot_be_read_is_named(lab: Lab, extractor: FeatureExtractor, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    paths = [*lab.pictures[:3], tmp_path / "broken.png", tmp_path / "gone.png"]
    with pytest.raises(DataError, match=r"2 of 5 images cannot be read.*broken\.png \(a damaged PNG file\)"):
        extractor.fit(paths)
    assert rows_of(extractor) == {"last@avg": 3}  # what could be done is kept


def test_mistaken_parameters(lab: Lab, extractor: FeatureExtractor) -> None:
    paths = lab.pictures[:1]
    with pytest.raises(UsageError, match=r"FeatureExtractor: features\.resize: .*'stretch'.*got 'squeeze'"):
        clone(extractor).set_params(resize="squeeze").fit(paths)
    with pytest.raises(BackboneError, match="Did you mean 'last'"):
        clone(extractor).set_params(layer="lost").fit(paths)
    with pytest.raises(ValueError, match="Invalid parameter 'laier'"):
        extractor.set_params(laier="last")
    with pytest.raises(TypeError, match="laier"):
        FeatureExtractor(laier="last")  # type: ignore[call-arg]


def test_parameters_are_the_options_of_the_features() -> None:
    options = {entry.name: entry.default for entry in fields(FeaturesOptions)}
    parameters = inspect.signature(FeatureExtractor).parameters
    assert parameters.keys() == options.keys()
    assert {name: one.default for name, one in parameters.items()} == options


# --- as scikit-learn uses it -------------------------------------------------------------------------------------


def test_the_tags_say_that_tables_of_numbers_are_no_images(extractor: FeatureExtractor) -> None:
    with pytest.warns(SkipTestWarning, match="Can't test estimator FeatureExtractor"):
        results = check_estimator(extractor)
    assert [one["check_name"] for one in results if one["status"] == "passed"] == ["check_estimator_cloneable"]


class OfTables(FeatureExtractor):
    """Sees every row of a table of numbers as an image of four by four pixels, so that the checks have images."""

    def fit(self, X: Any, y: Any = None) -> OfTables:
        return super().fit(_as_images(X))  # type: ignore[return-value]

    def transform(self, X: Any) -> np.ndarray:
        return super().transform(_as_images(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = tags.input_tags.string = False
        return tags


def _as_images(X: Any) -> np.ndarray:
    table = check_array(X, dtype=np.float64)
    return np.stack([np.resize(np.frombuffer(row.tobytes(), np.uint8), (4, 4, 3)) for row in table])


@pytest.mark.slow
def test_every_check_of_scikit_learn_passes_once_it_has_images(extractor: FeatureExtractor) -> None:
    """None is expected to fail. That of other array libraries runs only where SciPy was told to support them."""
    made = OfTables(**extractor.get_params())
    results = check_estimator(made, expected_failed_checks={}, on_fail=None, on_skip=None)
    others = {one["check_name"]: repr(one["exception"]) for one in results if one["status"] != "passed"}
    assert others.keys() <= {"check_array_api_input"}, others
    assert len(results) >= 35


def test_clones_and_pickles_give_the_same(lab: Lab, extractor: FeatureExtractor) -> None:
    paths = lab.pictures[:4]
    found = extractor.fit_transform(paths)
    twin = clone(extractor)
    assert twin.get_params() == extractor.get_params()
    assert not hasattr(twin, "n_features_out_")
    with pytest.raises(NotFittedError):
        twin.get_feature_names_out()
    np.testing.assert_array_equal(twin.transform(paths), found)  # frozen: nothing to fit
    again = pickle.loads(pickle.dumps(extractor))
    assert again.get_feature_names_out().tolist() == extractor.get_feature_names_out().tolist()
    np.testing.assert_array_equal(again.transform(paths), found)


def test_output_of_pandas(lab: Lab, extractor: FeatureExtractor) -> None:
    pandas = pytest.importorskip("pandas")
    column = pandas.Series(lab.pictures[:4], index=[3, 5, 7, 9])
    expected = extractor.fit_transform(column)
    for given in (column, column.to_frame(), np.array(lab.pictures[:4], dtype=object)):
        np.testing.assert_array_equal(extractor.transform(given), expected)
    table = extractor.set_output(transform="pandas").transform(column)
    assert table.columns.tolist() == extractor.get_feature_names_out().tolist()
    assert table.index.tolist() == [3, 5, 7, 9]


def test_a_pipeline_is_right_about_colours(lab: Lab, extractor: FeatureExtractor) -> None:
    paths = np.array(lab.pictures)
    order = np.random.default_rng(0).permutation(len(paths))
    train, test = paths[order[:40]], paths[order[40:]]
    model = make_pipeline(extractor, StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(train, labels_of(train))
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    by_hand = head.fit(extractor.transform(train), labels_of(train))
    np.testing.assert_array_equal(model.predict(test), by_hand.predict(extractor.transform(test)))
    assert model.score(test, labels_of(test)) > 0.6 > 1 / len(COLOURS)


@pytest.mark.parametrize("kind", ["paths", "arrays"])
def test_a_grid_over_layers_computes_every_image_once(lab: Lab, extractor: FeatureExtractor, kind: str) -> None:
    paths = lab.pictures[::2]
    images = paths if kind == "paths" else np.stack([np.asarray(Image.open(path)) for path in paths])
    model = make_pipeline(extractor, LogisticRegression(max_iter=500))
    grid = {"featureextractor__layer": ["body", "last"], "logisticregression__C": [0.01, 1.0]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(images, labels_of(paths))
    assert len(search.cv_results_["params"]) == 4
    assert rows_of(extractor) == {f"{name}@avg": 30 for name in ("body", "last")}
    # the same by hand: the features of everything, then the folds
    best = search.best_params_
    features = clone(extractor).set_params(layer=best["featureextractor__layer"]).transform(images)
    head = LogisticRegression(max_iter=500, C=best["logisticregression__C"])
    assert cross_val_score(head, features, labels_of(paths), cv=2).mean() == pytest.approx(search.best_score_)


def test_all_layers_of_a_grid_take_one_pass(
    lab: Lab, extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = lab.pictures[::3]
    clone(extractor).set_params(layer=["body", "last"]).fit(paths)
    monkeypatch.setattr(transformer, "extract", _without_network)
    model = make_pipeline(extractor, LogisticRegression(max_iter=500))
    grid = {"featureextractor__layer": ["body", "last"]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(paths, labels_of(paths))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert rows_of(extractor) == {"body@avg": 20, "last@avg": 20}


@pytest.mark.slow
def test_two_processes_share_the_work(lab: Lab, extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    paths = lab.pictures
    model = make_pipeline(extractor, LogisticRegression(max_iter=500))
    grid = {"featureextractor__layer": ["body", "last"], "logisticregression__C": [0.01, 1.0]}
    with joblib.parallel_config("loky", n_jobs=2):
        both = GridSearchCV(model, grid, cv=3, error_score="raise").fit(paths, labels_of(paths))
    rows = rows_of(extractor)
    one = GridSearchCV(model, grid, cv=3, error_score="raise").fit(paths, labels_of(paths))
    np.testing.assert_array_equal(both.cv_results_["mean_test_score"], one.cv_results_["mean_test_score"])
    assert rows == {"body@avg": 60, "last@avg": 60} == rows_of(extractor)
    pids = set(joblib.Parallel(n_jobs=2)(joblib.delayed(os.getpid)() for _ in range(4)))
    assert os.getpid() not in pids  # the workers are processes
