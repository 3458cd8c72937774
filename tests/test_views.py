"""Cached views: what is computed and where it lies, and heads that are fitted on views and judged on images."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from arrays import standard_scaler
from cached import extract, extract_views, list_stores, prepare, repair_store
from fitted import call, write_pictures
from PIL import Image

from featx.bundle.bundle import load_bundle
from featx.bundle.novelty import load_reference
from featx.config import AugmentOptions, DataOptions, FeaturesOptions, HeadOptions, Pipeline, ReportOptions
from featx.dataset import TEST, TRAIN
from featx.errors import DataError
from featx.extraction.flow import Extraction
from featx.extraction.views import Views
from featx.features import as_features
from featx.images.augment import Augmenter
from featx.io.digests import digest_file
from featx.runs.prepared import Prepared
from featx.selection.choice import Choice
from featx.selection.heads import choose_head
from featx.selection.nested import nested_estimate
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings
from featx.store.cache import Cache
from featx.workflow.fit import fingerprint
from featx.workflow.publish import publish_head

POLICY = AugmentOptions(flip="horizontal", rotation=20, brightness=0.3)


@pytest.fixture
def options(tiny_backbone: Path, cache: Path) -> FeaturesOptions:
    return FeaturesOptions(backbone=str(tiny_backbone), layer=("high",), cache=str(cache))


@pytest.fixture
def pipeline(options: FeaturesOptions, tmp_path: Path) -> Pipeline:
    """Sixty pictures of three colours, half of them to train."""
    return Pipeline(
        data=DataOptions(path=str(write_pictures(tmp_path / "pictures")), split=(0.5, 0.25, 0.25)),
        features=options,
        augment=replace(POLICY, views=2),
        head=HeadOptions(strength=0.1),
        report=ReportOptions(runs=str(tmp_path / "runs"), name="lab", html=False),
    )


@pytest.fixture
def known(options: FeaturesOptions, image_folder: Callable[..., Path]) -> Extraction:
    """Twelve images with features."""
    from featx.dataset import read_images

    return extract(read_images(str(image_folder(6)), DataOptions()), options)


def views_of(known: Extraction, each: int, policy: AugmentOptions = POLICY, seed: int = 0, rows: int = 12) -> Views:
    return extract_views(known, np.arange(rows), Augmenter(policy, seed), each)


def counts(views: Views) -> tuple[int, int]:
    return views.extraction.computed, views.extraction.reused


def values(views: Views) -> np.ndarray:
    return views.features(views.extraction.outputs[0]).asarray()


# --- what is computed --------------------------------------------------------------------------------------------


def test_views_are_the_networks_features_of_the_altered_images(known: Extraction, tiny_backbone: Path) -> None:
    import keras

    found = views_of(known, 2)
    network = keras.models.load_model(tiny_backbone)
    inner = keras.Model(network.input, network.get_layer("high").output)
    augmenter = Augmenter(POLICY, 0)
    altered = [
        augmenter(np.asarray(Image.open(path)), digest_file(Path(path)), view)
        for path in known.images.paths
        for view in (1, 2)
    ]
    expected = np.asarray(inner(np.stack(altered).astype(np.float32))).mean((1, 2))
    np.testing.assert_allclose(values(found), expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())
    np.testing.assert_array_equal(found.of, np.repeat(np.arange(12), 2))
    np.testing.assert_array_equal(found.extraction.views[found.rows], np.tile([1, 2], 12))


def test_only_what_is_missing_is_computed(known: Extraction, options: FeaturesOptions) -> None:
    parts = sorted(known.store.directory.rglob("*.h5"))
    assert counts(views_of(known, 3, rows=8)) == (24, 0)
    three = values(views_of(known, 3))
    assert counts(views_of(known, 5)) == (24, 36)
    assert counts(views_of(known, 5)) == (0, 60)
    again = views_of(known, 3)
    assert counts(again) == (0, 36)
    np.testing.assert_array_equal(values(again), three)
    assert sorted(known.store.directory.rglob("*.h5")) == parts  # the images stay as they are
    assert counts(views_of(known, 3, replace(POLICY, rotation=21))) == (36, 0)
    assert counts(views_of(known, 3, seed=1)) == (36, 0)
    both = extract(known.images, replace(options, layer=("high", "low")))
    assert counts(views_of(both, 3)) == (36, 0)  # the new layer alone
    assert counts(views_of(known, 3)) == (0, 36)
    keys = {store.key.views for store in list_stores(Path(options.cache))}
    assert len(keys) == 4
    assert "none" in keys


def test_an_interrupted_extraction_of_views_goes_on(
    known: Extraction, options: FeaturesOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featx.engines import openvino
    from featx.extraction import work

    monkeypatch.setattr(work, "_CLAIM", 8)
    monkeypatch.setattr(openvino, "_HANDOVER", 8)
    monkeypatch.setattr(openvino, "usable_cores", lambda: 1)
    undisturbed = values(views_of(known, 4, seed=1))

    def stop(name: str, done: int, total: int, /, **_: int) -> None:
        if name == "extract" and done >= 8:
            raise KeyboardInterrupt

    policy = Augmenter(POLICY, 2)
    few = replace(known, options=replace(options, infer_batch=8))
    with pytest.raises(KeyboardInterrupt):
        extract_views(few, np.arange(12), policy, 4, stop)
    views = extract_views(few, np.arange(12), policy, 4)
    assert 0 < views.extraction.reused < 48
    assert sum(counts(views)) == 48
    assert values(views).shape == undisturbed.shape
    whole = values(views)
    for row in range(12):  # each row is that of its own image and view
        alone = extract_views(known, np.array([row]), policy, 4)
        np.testing.assert_array_equal(values(alone), whole[4 * row : 4 * row + 4])


def test_two_that_extract_at_once_end_with_the_same_views(known: Extraction, monkeypatch: pytest.MonkeyPatch) -> None:
    from featx.extraction import work

    monkeypatch.setattr(work, "_CLAIM", 4)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: views_of(known, 3), range(2))
    assert first.extraction.computed + second.extraction.computed >= 36
    for views in (first, second):
        assert len(views.rows) == 36
        np.testing.assert_array_equal(values(views), values(first))
    assert counts(views_of(known, 3)) == (0, 36)


def test_views_of_an_image_that_is_gone_are_left_out(known: Extraction) -> None:
    Path(known.images.paths[3]).unlink()
    views = views_of(known, 2)
    assert counts(views) == (22, 0)
    assert [one["path"] for one in views.extraction.bad] == [known.images.paths[3]]
    assert 3 not in views.of
    assert values(views).shape == (22, 8)


def test_views_are_verified_repaired_and_pruned_like_images(known: Extraction, options: FeaturesOptions) -> None:
    before = values(views_of(known, 1))
    views = views_of(known, 3)
    everything = values(views)
    store = Cache(options.cache).store(views.extraction.store.key)
    part = sorted(store.directory.rglob("*.h5"))[-1]
    with h5py.File(part, "r+") as file:
        file["features"][5] = file["features"][6]
        lost = int(file["view"][5])
    (damage,) = [one for _, one in store.verify() if one is not None]
    assert (damage.rows, damage.views) == ([5], [lost])
    assert repair_store(store, [damage]) == (1, 0)
    assert all(one is None for _, one in store.verify())
    assert counts(views_of(known, 3)) == (0, 36)
    np.testing.assert_array_equal(values(views_of(known, 3)), everything)
    old, new = store.prune()
    assert (old, new) == (3, 1)
    np.testing.assert_array_equal(values(views_of(known, 3)), everything)
    np.testing.assert_array_equal(values(views_of(known, 1)), before)


# --- how a head is chosen ----------------------------------------------------------------------------------------


def noise_with_views(n: int = 60, each: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images whose features say nothing of their class, and views that lie right beside them: whoever has seen a view
    of an image knows its class."""
    random = np.random.default_rng(seed)
    images, y = random.normal(size=(n, 5)), np.arange(n) % 2
    views = np.repeat(images, each, axis=0) + random.normal(0, 1e-3, (n * each, 5))
    of = np.repeat(np.arange(n), each)
    return (
        np.concatenate([images, views]).astype(np.float32),
        np.concatenate([y, y[of]]),
        np.concatenate([np.arange(n), of]),
    )


def choose(x: np.ndarray, y: np.ndarray, options: HeadOptions, seed: int = 0, **more: Any) -> Choice:
    """Choose a head on rows that are all of train."""
    split = np.full(len(y), TRAIN, np.uint8)
    return choose_head(Problem(as_features(x), y, split, ("a", "b"), **more), SearchSettings(options, seed))


def test_folds_keep_an_image_and_its_views_together() -> None:
    x, y, view_of = noise_with_views()
    options = HeadOptions(clf="knn", strength=1.0, search="cv")
    leaking = choose(x, y, options)
    kept = choose(x, y, options, image_of=view_of)
    assert leaking.candidates[0].score > 0.9
    assert kept.candidates[0].score < 0.7


@pytest.mark.parametrize("clf", ["logreg", "knn"])
def test_the_score_of_folds_is_that_of_their_images_alone(clf: str) -> None:
    """Brute force: for every fold fit scikit-learn on the images and views outside of it, predict the images in it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from featx.selection.folds import make_folds

    x, y, view_of = noise_with_views(90)
    x[:, 0] += y  # something to learn
    options = HeadOptions(clf=clf, strength={"logreg": 0.5, "knn": 5.0}[clf], search="cv", folds=3)
    choice = choose(x, y, options, seed=4, image_of=view_of)
    held = make_folds(y[:90], None, 3, 4)[view_of]
    right = []
    if clf == "logreg":  # is standardised once, by the rows of all folds
        x = StandardScaler().fit_transform(x)
    for fold in range(3):
        head: Any = LogisticRegression(C=0.5, tol=1e-8) if clf == "logreg" else KNeighborsClassifier(5)
        head = make_pipeline(StandardScaler(), head) if clf == "knn" else head
        head.fit(x[held != fold], y[held != fold])
        judged = np.flatnonzero((held == fold) & (view_of == np.arange(len(y))))
        right += (head.predict(x[judged]) == y[judged]).tolist()
    assert len(right) == 90
    assert choice.candidates[0].score == pytest.approx(np.mean(right), abs=1e-9)


def test_views_stay_with_their_image_when_groups_are_kept_together() -> None:
    x, y, view_of = noise_with_views(40)
    x[:40] = x[np.arange(40) // 4 * 4]  # four shots of each thing, all the same
    x[40:] = x[view_of[40:]]
    y = (np.arange(40) // 4 % 2)[view_of]
    groups = (np.arange(40) // 4)[view_of]
    options = HeadOptions(clf="knn", strength=1.0, search="cv")
    apart = choose(x, y, options, image_of=view_of)
    kept = choose(x, y, options, image_of=view_of, groups=groups)
    assert apart.candidates[0].score > 0.9
    assert kept.candidates[0].score < 0.8


def test_a_nested_estimate_never_sees_views_of_what_it_judges() -> None:
    x, y, view_of = noise_with_views()
    split = np.full(len(y), TRAIN, np.uint8)
    options = HeadOptions(clf="knn", strength=1.0)
    problem = Problem(as_features(x), y, split, ("a", "b"), image_of=view_of)
    kept = nested_estimate({"f": as_features(x)}, problem, SearchSettings(options)).as_json()
    assert kept["images"] == 60
    assert kept["accuracy"] < 0.7


def test_a_dense_head_watches_images_that_it_is_not_judged_on_and_not_their_views() -> None:
    """By hand: two folds, each trained on its images and views but for a tenth of the images, which stops it."""
    from featx.heads.table import head_kind, make_head
    from featx.metrics.scores import score
    from featx.selection.folds import make_folds

    x, y, view_of = noise_with_views(40)
    x[:40, 0] += 2 * y[:40]
    x[40:] *= 5  # what is watched would tell another epoch to stop at
    options = HeadOptions(clf="dense", hidden="", epochs=12, patience=1, learning_rate=0.1, folds=2, metric="log_loss")
    options = replace(options, search="cv")
    choice = choose(x, y, options, seed=3, image_of=view_of)
    held, own = make_folds(y[:40], None, 2, 3)[view_of], view_of == np.arange(len(y))

    logits = np.full((len(y), 2), np.nan, np.float32)
    for fold in range(2):
        head: Any = make_head(head_kind("dense"), None, options, 3)
        judged, fitted = (held == fold) & own, (held != fold) & own
        tenth = np.full(len(y), -1)
        tenth[fitted] = make_folds(y[fitted], None, 10, 3)
        stops, trains = (tenth == 0) & own, (held != fold) & (tenth[view_of] != 0)
        head.fit(x[trains], y[trains], validation=(x[stops], y[stops]))
        logits[judged] = head.logits(x[judged])
    assert choice.candidates[0].score == pytest.approx(score("log_loss", logits[own], y[own]), rel=1e-3)


# --- heads of the pipeline ---------------------------------------------------------------------------------------


def rows_by_hand(prepared: Prepared, part: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of the images of a part, and for train below them those of each view, taken one by one."""
    sample, output = prepared.sample, prepared.extraction.outputs[0]
    rows = np.flatnonzero(sample.split == part)
    x = [prepared.extraction.features(output, sample.rows[rows]).asarray()]
    y = [sample.y[rows]]
    if part == TRAIN and sample.views is not None:
        done = sample.views.extraction
        for row in rows:
            digest = digest_file(Path(sample.images.paths[sample.rows[row]]))
            for view in (1, 2):
                table = done.store.table(output.layer, output.pooling)
                x.append(table.read(np.array([digest], "V32"), view).asarray())
                y.append(sample.y[[row]])
    return np.concatenate(x), np.concatenate(y)


def test_a_head_is_the_one_that_scikit_learn_fits_on_images_and_views(pipeline: Pipeline) -> None:
    from sklearn.linear_model import LogisticRegression

    prepared = prepare(pipeline)
    bundle = publish_head(prepared)
    x, y = rows_by_hand(prepared, TRAIN)
    assert len(y) == 3 * 30
    scaler = standard_scaler(x)
    reference = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit(scaler.transform(x), y)
    test, _ = rows_by_hand(prepared, TEST)
    logits = bundle.head(test) * bundle.temperature
    expected = reference.decision_function(scaler.transform(test))
    centred = [one - one.mean(axis=1, keepdims=True) for one in (logits, expected)]
    np.testing.assert_allclose(centred[0], centred[1], atol=2e-3 * np.abs(centred[1]).max())


def test_a_bundle_counts_images_and_keeps_the_policy(pipeline: Pipeline) -> None:
    with_views, without = prepare(pipeline), prepare(replace(pipeline, augment=AugmentOptions()))
    assert with_views.sample.views is not None
    assert without.sample.views is None
    assert with_views.sample.digest == without.sample.digest
    first, second = publish_head(with_views), publish_head(without)
    assert first.manifest.split == second.manifest.split
    assert first.manifest.split.images == {"train": 30, "val": 15, "test": 15}
    assert first.manifest.metrics_on("test").images == 15
    assert first.manifest.fingerprint != second.manifest.fingerprint
    assert first.manifest.augment.as_json() == {
        "policy": with_views.sample.views.augmenter.as_json()["policy"],
        "seed": 0,
        "views": 2,
    }
    assert second.manifest.augment is None
    more = prepare(replace(pipeline, augment=replace(pipeline.augment, views=3)))
    assert with_views.run.find(fingerprint(with_views)) == first
    assert without.run.find(fingerprint(without)) == second
    assert with_views.run.find(fingerprint(more)) is None
    # distances are measured from images, of which there are 30
    assert len(load_reference(first.path).rows) == 30
    np.testing.assert_array_equal(load_reference(first.path).rows, load_reference(second.path).rows)


@pytest.mark.parametrize(
    "head",
    [
        HeadOptions(clf="svm", nested=True),
        HeadOptions(clf="knn", pca=3),
        HeadOptions(clf="dense", hidden="8", epochs=15, learning_rate=0.01),
        HeadOptions(clf="logreg", search="val", refit=True, calibrate="sigmoid"),
        HeadOptions(clf="ridge", search="cv", class_weight="balanced", memory="5KB"),
    ],
    ids=lambda head: head.clf,
)
def test_every_way_to_fit_works_on_views(pipeline: Pipeline, head: HeadOptions) -> None:
    bundle = publish_head(prepare(replace(pipeline, head=head)))
    assert bundle.manifest.metrics_on("val").images == 15
    assert bundle.manifest.metrics_on("test").get("accuracy") > 0.5
    if head.nested:
        assert bundle.manifest.nested.images == 60


def test_principal_components_are_those_of_images_and_views(pipeline: Pipeline) -> None:
    from sklearn.decomposition import PCA

    prepared = prepare(replace(pipeline, head=HeadOptions(clf="knn", pca=3, strength=3)))
    bundle = publish_head(prepared)
    x, _ = rows_by_hand(prepared, TRAIN)
    expected = PCA(3).fit(x).components_
    assert bundle.transform.components is not None
    cosines = np.abs((bundle.transform.components * expected).sum(axis=1))
    np.testing.assert_allclose(cosines, 1, atol=1e-4)


def test_images_with_several_labels_have_views_too(pipeline: Pipeline, tmp_path: Path) -> None:
    lines = [
        f"{path},{path.parent.name}|{'odd' if int(path.stem[-2:]) % 2 else 'even'}"
        for path in sorted((tmp_path / "pictures").rglob("*.png"))
    ]
    (tmp_path / "index.csv").write_text("\n".join(["path,label", *lines]))
    data = replace(pipeline.data, path=str(tmp_path / "index.csv"), label_separator="|")
    bundle = publish_head(prepare(replace(pipeline, data=data)))
    assert bundle.multilabel
    assert sum(bundle.manifest.split.images.values()) == 60


def test_a_bad_feature_of_a_view_names_its_image(pipeline: Pipeline) -> None:
    from featx.errors import HeadError

    prepared = prepare(pipeline)
    views = prepared.sample.views
    assert views is not None
    part = sorted(views.extraction.store.directory.rglob("*.h5"))[0]
    with h5py.File(part, "r+") as file:
        file["features"][7] = np.nan
        name = bytes(file["path"][7]).decode()
    with h5py.File(part, "r+") as file:  # as if it had been computed so: a damaged row would be computed again
        row = [file[column][7].tobytes() for column in ("features", "digest", "view")]
        file["checksum"][7] = zlib.crc32(b"".join([*row, name.encode()]))
    with pytest.raises(HeadError, match=f"NaN or infinity for 1 image: .*{Path(name).name}"):
        publish_head(prepare(pipeline))


# --- the command line --------------------------------------------------------------------------------------------


def arguments(pipeline: Pipeline) -> list[str]:
    data, features = pipeline.data, pipeline.features
    return [
        *(str(data.path), "--split", "0.5,0.25,0.25", "--backbone", features.backbone, "--layer", "high"),
        *("--cache", features.cache, "--json"),
    ]


def test_the_command_line_extracts_plans_exports_and_fits_with_views(pipeline: Pipeline, tmp_path: Path) -> None:
    common, policy = arguments(pipeline), ["--flip", "horizontal", "--rotation", "20", "--views"]
    plan = call("extract", *common, *policy, "2", "--dry-run", cwd=tmp_path).json
    assert (plan["rows"], plan["views"]["rows"]) == (60, 60)
    assert not (tmp_path / "runs").exists()
    plain = call("extract", *common, cwd=tmp_path)
    assert "views" not in plain.json
    done = call("extract", *common, *policy, "2", cwd=tmp_path)
    assert done.status == 0, done.err
    assert (done.json["images"], done.json["computed"], done.json["reused"]) == (60, 0, 60)
    views = done.json["views"]
    assert (views["each"], views["images"], views["computed"], views["reused"]) == (2, 30, 60, 0)
    more = call("extract", *common, *policy, "3", cwd=tmp_path).json["views"]
    assert (more["computed"], more["reused"]) == (30, 60)
    plan = call("extract", *common, *policy, "3", "--dry-run", cwd=tmp_path).json
    assert (plan["rows"], plan["views"]["rows"]) == (0, 0)

    listed = call("cache", "ls", "--cache", common[common.index("--cache") + 1], cwd=tmp_path).out
    assert listed.count("high@avg, views") == 1
    exported = call("cache", "export", *common, *policy, "2", "--out", "all.h5", cwd=tmp_path)
    assert exported.json["shape"] == [120, 8]
    with h5py.File(tmp_path / "all.h5") as file:
        assert (file["view"][:] == 0).sum() == 60
        assert set(file["view"][60:]) == {1, 2}
        assert set(file["split"].asstr()[60:]) == {"train"}
        own = dict(zip(file["paths"].asstr()[:60], file["labels"][:60], strict=True))
        assert all(
            own[path] == label for path, label in zip(file["paths"].asstr()[60:], file["labels"][60:], strict=True)
        )

    fitted = call("fit-head", *common, *policy, "2", "--no-html", cwd=tmp_path)
    assert fitted.status == 0, fitted.err
    assert fitted.json["test"]["images"] == 15
    assert load_bundle(tmp_path / fitted.json["bundle"]).manifest.augment.views == 2


def test_views_and_exports_need_no_images_of_every_class(pipeline: Pipeline, tmp_path: Path) -> None:
    common, policy = arguments(pipeline), ["--flip", "horizontal", "--rotation", "20", "--views", "1"]
    pictures = Path(str(pipeline.data.path))
    (pictures / "later").mkdir()
    (pictures / "broken").mkdir()
    (pictures / "broken" / "1.png").write_text("text")
    note = "No readable image of broken and later."
    done = call("extract", *common, *policy, cwd=tmp_path)
    assert (done.status, done.json["views"]["images"]) == (0, 30), done.err
    assert note in done.err
    exported = call("cache", "export", *common, *policy, "--out", "all.npz", cwd=tmp_path)
    assert (exported.status, exported.json["shape"]) == (0, [90, 8]), exported.err
    assert note in exported.err
    assert np.load(tmp_path / "all.npz")["classes"].tolist() == ["blue", "broken", "green", "later", "red"]
    refused = call("fit-head", *common, *policy, cwd=tmp_path)
    assert refused.status == 1
    assert "has no readable image" in refused.err


@pytest.mark.parametrize("labels", [True, False])
def test_a_dry_run_counts_no_views_of_images_that_are_known_to_be_unreadable(
    pipeline: Pipeline, tmp_path: Path, labels: bool
) -> None:
    common, policy = arguments(pipeline), ["--flip", "horizontal", "--rotation", "20", "--views", "2"]
    pictures = Path(str(pipeline.data.path))
    for number in range(8):
        (pictures / "blue" / f"broken-{number}.png").write_text(f"text {number}")
    if not labels:
        paths = sorted(map(str, pictures.glob("*/*.png")))
        (tmp_path / "bare.csv").write_text("\n".join(["path", *paths]))
        common[0] = "bare.csv"
    told = call("extract", *common[:-1], *policy, "--dry-run", cwd=tmp_path).out
    assert "; at most " in told
    assert "rows to compute  at most " in told
    call("extract", *common, cwd=tmp_path)
    planned = call("extract", *common, *policy, "--dry-run", cwd=tmp_path).json
    told = call("extract", *common[:-1], *policy, "--dry-run", cwd=tmp_path).out
    assert "at most" not in told
    done = call("extract", *common, *policy, cwd=tmp_path).json
    assert planned["views"]["rows"] == done["views"]["computed"] == (60 if labels else 120)


@pytest.mark.parametrize("labels", ["none", "one", "declared"])
def test_views_and_exports_need_no_labels(pipeline: Pipeline, tmp_path: Path, labels: str) -> None:
    common, policy = arguments(pipeline), ["--flip", "horizontal", "--rotation", "20", "--views", "1"]
    paths = sorted(Path(str(pipeline.data.path)).glob("*/*.png"))[:10]
    heads = {"none": "path", "one": "path,label", "declared": "path,split"}
    ends = {"none": ["", ""], "one": [",cat", ","], "declared": [",train", ",test"]}[labels]
    lines = [f"{path}{ends[place % 2]}" for place, path in enumerate(paths)]
    (tmp_path / "some.csv").write_text("\n".join([heads[labels], *lines]))
    common[0], views = "some.csv", 5 if labels == "declared" else 10
    plan = call("extract", *common, *policy, "--dry-run", cwd=tmp_path)
    assert (plan.status, plan.json["views"]["rows"]) == (0, views), plan.err
    text = call("extract", *common[:-1], *policy, cwd=tmp_path)
    assert f"1 view of each of {views} images: {views} computed" in text.out, text.err
    exported = call("cache", "export", *common, *policy, "--out", "some.csv.npz", cwd=tmp_path)
    assert (exported.status, exported.json["shape"]) == (0, [10 + views, 8]), exported.err
    with np.load(tmp_path / "some.csv.npz") as file:
        arrays = dict(file)
    assert set(arrays) == {"features", "paths", "classes", "view", "about", *(["labels"] if labels == "one" else [])}
    assert arrays["view"].tolist() == [0] * 10 + [1] * views
    wanted = arrays["paths"][:10][::2] if labels == "declared" else arrays["paths"][:10]
    assert arrays["paths"][10:].tolist() == wanted.tolist()
    call("cache", "export", *common, "--out", "table.csv", cwd=tmp_path)
    header, first, second = (tmp_path / "table.csv").read_text().splitlines()[:3]
    assert header.startswith("path,label,high" if labels == "one" else "path,high")
    if labels == "one":
        assert (first.split(",")[1], second.split(",")[1]) == ("cat", "")


def test_a_pipeline_file_runs_with_views_and_is_up_to_date_then(pipeline: Pipeline, tmp_path: Path) -> None:
    from featx.config.pipeline import as_yaml

    off = replace(pipeline, finetune=replace(pipeline.finetune, enabled=False))
    (tmp_path / "p.yaml").write_text(as_yaml(off))
    first = call("run", "-p", "p.yaml", "--json", cwd=tmp_path)
    assert first.status == 0, first.err
    assert "60 views computed" in first.json["stages"][0]["why"]
    again = call("run", "-p", "p.yaml", "--json", cwd=tmp_path).json
    assert [stage["done"] for stage in again["stages"]] == [False, False, False]
    more = call("run", "-p", "p.yaml", "--set", "augment.views=3", "--json", cwd=tmp_path).json
    assert [stage["done"] for stage in more["stages"]] == [True, True, False]
    assert "30 views computed, 60 reused" in more["stages"][0]["why"]


def test_a_policy_without_views_and_views_without_a_policy_are_told(pipeline: Pipeline, tmp_path: Path) -> None:
    common = arguments(pipeline)
    typed = call("fit-head", *common, "--flip", "horizontal", cwd=tmp_path)
    assert (typed.status, "Add --views 5, or leave it out." in typed.sentence) == (2, True)
    (tmp_path / "shared.yaml").write_text("augment: {flip: horizontal}\n")  # with a fine-tune, for instance
    done = call("fit-head", *common, "-p", "shared.yaml", "--no-html", cwd=tmp_path)
    assert done.status == 0, done.err
    assert "--views" in done.err
    assert "flip" in done.err
    refused = call("fit-head", *common, "--views", "3", cwd=tmp_path)
    assert refused.status == 2
    assert "augment.views must be 0 where no operation is on, got 3" in refused.sentence


def test_views_need_labels(pipeline: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no labels"):
        prepare(replace(pipeline, data=DataOptions(path=str(tmp_path / "pictures" / "blue"))))


def test_what_was_done_and_what_is_left_is_told_in_words(pipeline: Pipeline, tmp_path: Path) -> None:
    done = call("extract", *arguments(pipeline)[:-1], "--zoom", "0.2", "--views", "2", cwd=tmp_path)
    assert done.status == 0, done.err
    assert "2 views of each of 30 training images: 60 computed, 0 reused" in done.out
    told = call("extract", *arguments(pipeline)[:-1], "--zoom", "0.2", "--views", "2", "--dry-run", cwd=tmp_path)
    assert "all 60 views have their features" in told.out
