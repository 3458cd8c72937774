"""Options that cannot apply are refused, or reported where something else has set them; what can be honoured is."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fitted import Lab, call, write_pictures
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from featx.comparing.plan import plan
from featx.config import CompareOptions, DataOptions, HeadOptions, Pipeline
from featx.config.applicable import require_applicable
from featx.dataset import TRAIN, ImageSet, read_images
from featx.errors import DataError, HeadError, UsageError
from featx.features import ArrayFeatures
from featx.io.digests import digest_bytes
from featx.runs.split import KeptSplit
from featx.selection.heads import choose_head
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("group_column", "patient"),
        ("weight_column", "w"),
        ("label_column", "species"),
        ("path_column", "file"),
        ("split_column", "part"),
        ("label_separator", "$"),
        ("image_dir", "elsewhere"),
    ],
)
def test_a_folder_has_no_columns(tmp_path: Path, option: str, value: str) -> None:
    write_pictures(tmp_path / "p", 2)
    flag = f"--{option.replace('_', '-')}"
    for source in (tmp_path / "p", tmp_path / "p" / "red" / "0-00.png"):
        with pytest.raises(UsageError, match=rf"^{flag} .* is for images that a CSV lists.*featx split .* --out index"):
            read_images(source, DataOptions(**{option: value}))
    refused = call("check", "p", flag, value, cwd=tmp_path)
    assert (refused.status, refused.sentence.startswith(f"featx: {flag} {value}")) == (2, True)


def test_an_index_has_all_columns_wherever_its_images_lie(tmp_path: Path) -> None:
    text = "file,species,part,patient,w\nhttp://127.0.0.1:9/a.png,x,train,p1,1\nhttp://127.0.0.1:9/b.png,y,test,p2,2\n"
    (tmp_path / "index.csv").write_text(text)
    options = DataOptions(
        path_column="file", label_column="species", split_column="part", group_column="patient", weight_column="w"
    )
    for image_dir in (None, "http://127.0.0.1:9/elsewhere"):  # only paths that are not whole are looked for there
        images = read_images(tmp_path / "index.csv", replace(options, image_dir=image_dir))
        assert (images.classes, images.groups) == (("x", "y"), ("p1", "p2"))
        assert images.weights is not None
        assert images.weights.tolist() == [1, 2]
        assert images.paths == ("http://127.0.0.1:9/a.png", "http://127.0.0.1:9/b.png")


@pytest.mark.parametrize("option", ["group_column", "weight_column", "label_column", "split_column", "path_column"])
def test_a_column_that_an_index_has_not_is_named_beside_those_it_has(tmp_path: Path, option: str) -> None:
    (tmp_path / "index.csv").write_text("path,label,patient\na.png,x,p1\n")
    with pytest.raises(DataError, match=r"No column 'patiend'.*path, label, patient"):
        read_images(tmp_path / "index.csv", DataOptions(**{option: "patiend"}))


def test_shares_of_a_split_that_is_declared_are_reported(tmp_path: Path) -> None:
    digests = np.array([digest_bytes(bytes([row])) for row in range(40)], "V32")
    declared = np.resize(np.array([0, 0, 1, 2], np.uint8), 40)
    images = ImageSet("x", "x", tuple(map(str, range(40))), np.arange(40) // 4 % 2, ("a", "b"), declared=declared)
    images = replace(images, groups=tuple(f"g{row // 8}" for row in range(40)))
    kept, readable = KeptSplit(tmp_path / "split"), np.ones(40, bool)
    found = kept.sample(images, digests, readable, DataOptions(split=(0.5, 0.25, 0.25))).notes
    assert [note[:40] for note in found] == [
        "5 groups have images in several parts th",
        "--split changes nothing: the data declar",
    ]
    assert kept.sample(replace(images, groups=None), digests, readable, DataOptions()).notes == ()


def test_a_pipeline_that_names_columns_can_be_measured_on_a_folder(lab: Lab, tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 2, seed=8)
    (tmp_path / "lab.yaml").write_text("data: {path: index.csv, group_column: patient, image_dir: somewhere}\n")
    bundle = lab.bundle("logreg").path
    found = call("evaluate", bundle, "-p", "lab.yaml", "--data", "p", "--json", cwd=tmp_path)
    assert found.json["images"] == 6, found.err
    typed = ("--set", "data.group_column=patient")
    assert call("evaluate", bundle, "--data", "p", *typed, cwd=tmp_path).status == 2


def test_a_comparison_of_a_csv_and_a_folder_reports_what_the_folder_does_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_pictures(tmp_path / "p", 2)
    (tmp_path / "index.csv").write_text("path,label,patient\n")
    both = CompareOptions(data=(str(tmp_path / "p"), str(tmp_path / "index.csv")), clf=("logreg", "knn"))
    pipeline = Pipeline(
        data=DataOptions(group_column="patient"), compare=both, head=HeadOptions(class_weight="balanced")
    )
    with caplog.at_level(logging.WARNING):
        passes = plan(pipeline)
    assert [one.pipeline.data.group_column for one in passes] == [None, "patient"]
    assert "p is a folder, so it is compared without data.group_column." in caplog.text
    weights = [one.pipeline.head.class_weight for one in passes[0].combinations if one.stage == "head"]
    assert weights == ["balanced", "none"]
    assert "knn is fitted without head.class_weight" in caplog.text


# --- weights -----------------------------------------------------------------------------------------------------


def uneven(**changes: object) -> Problem:
    """Two classes that overlap, one ten times as large."""
    random = np.random.default_rng(0)
    y = np.repeat([0, 1], [300, 30])
    x = (random.normal(size=(330, 4)) + y[:, None]).astype(np.float32)
    return Problem(ArrayFeatures(x), y, np.full(330, TRAIN, np.uint8), ("many", "rare"), **changes)  # type: ignore[arg-type]


def settings(**options: object) -> SearchSettings:
    return SearchSettings(HeadOptions(**options))  # type: ignore[arg-type]


def test_nearest_neighbours_have_no_weights() -> None:
    some = np.where(np.arange(330) % 2, 1.0, 2.0)
    for problem, options in (
        (uneven(), {"class_weight": "balanced"}),
        (uneven(), {"class_weight": "rare=10"}),
        (uneven(weight=some), {}),
    ):
        with pytest.raises(HeadError, match=r"--clf knn has no weights.*Choose --clf logreg, svm, ridge or dense"):
            choose_head(problem, settings(clf="knn", **options))
    kept = choose_head(uneven(weight=np.where(np.arange(330) % 2, 1.0, 0.0)), settings(clf="knn"))
    assert kept.clf == "knn"


@pytest.mark.parametrize(
    ("clf", "more"),
    [
        ("logreg", {}),
        ("svm", {}),
        ("svm", {"kernel": "rbf"}),
        ("ridge", {}),
        ("dense", {"epochs": 15, "hidden": "8", "folds": 2, "learning_rate": 0.02}),
        ("auto", {}),
        ("estimator", {"estimator": "sklearn.naive_bayes.GaussianNB"}),
    ],
)
def test_weights_reach_every_head_that_takes_them(clf: str, more: dict[str, object]) -> None:
    """The rare class is found more often, by every way to weigh it; other heads refuse (see the tests around)."""
    problem = uneven()
    options = {"clf": clf, **more} | ({} if clf in {"auto", "dense", "estimator"} else {"strength": 0.1})
    recalls = []
    for weighed, weight in ((problem, "none"), (problem, "balanced"), (problem, "rare=10")):
        found = choose_head(weighed, settings(class_weight=weight, **options))
        given = found.head.logits(weighed.features).argmax(axis=1)
        recalls.append((given[problem.y == 1] == 1).mean())
    assert min(recalls[1:]) > recalls[0] + 0.15


def test_thresholds_of_one_class_are_reported() -> None:
    (note,) = choose_head(uneven(), settings(thresholds="none", strength=0.1)).notes
    assert note == "--thresholds changed nothing: thresholds are for images with several labels (--label-separator)."


def test_auto_leaves_out_by_name_what_weights_do_not_change() -> None:
    found = choose_head(uneven(), settings(clf="auto", class_weight="balanced"))
    assert "knn was not tried: weights do not change it." in found.notes
    assert "knn" not in {candidate.clf for candidate in found.candidates}
    assert "knn" in {candidate.clf for candidate in choose_head(uneven(), settings(clf="auto")).candidates}


def test_balanced_weights_reach_an_estimator_that_takes_weights() -> None:
    problem = uneven()
    found = choose_head(
        problem, settings(clf="estimator", estimator="sklearn.naive_bayes.GaussianNB", class_weight="balanced")
    )
    x, y = problem.features.asarray(), problem.y
    scaled = StandardScaler().fit_transform(x)
    theirs = GaussianNB().fit(scaled, y, sample_weight=compute_sample_weight("balanced", y))
    np.testing.assert_array_equal(found.head.logits(problem.features).argmax(axis=1), theirs.predict(scaled))
    plain = GaussianNB().fit(scaled, y)
    assert (theirs.predict(scaled)[y == 1] == 1).mean() > (plain.predict(scaled)[y == 1] == 1).mean() + 0.2
    refusing = "sklearn.discriminant_analysis.LinearDiscriminantAnalysis"
    with pytest.raises(HeadError, match="takes no weights of rows here"):
        choose_head(problem, settings(clf="estimator", estimator=refusing, class_weight="balanced"))


def test_a_weight_of_labels_is_refused_for_one_class() -> None:
    with pytest.raises(HeadError, match="--positive-weight is for images with several labels"):
        choose_head(uneven(), settings(positive_weight=3.0))


# --- what is typed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "works"),
    [
        (("--epochs", "5"), "--clf dense or --clf auto"),
        (("--hidden", "64"), "--clf dense or --clf auto"),
        (("--kernel", "rbf"), "--clf svm"),
        (("--clf", "dense", "--strength", "2"), "--clf logreg or --clf svm or --clf ridge or --clf knn"),
        (("--clf", "auto", "--strength", "2"), "--clf logreg or --clf svm or --clf ridge or --clf knn"),
        (("--set", "head.grid={var_smoothing: [1]}"), "--clf estimator"),
        (("--clf", "dense", "--decay", "0.5"), "--schedule exponential"),
        (("--clf", "dense", "--schedule", "cosine", "--factor", "0.1"), "--schedule plateau"),
        (("--clf", "dense", "--momentum", "0.5"), "--optimizer sgd"),
        (("--clf", "svm", "--gamma", "2"), "--kernel rbf"),
        (("--thresholds", "none", "--threshold-range", "0.1,0.9"), "--thresholds per_class or --thresholds global"),
        (("--weights-seed", "3"), "--weights random"),
        (("--fill-value", "7", "--rotation", "20", "--views", "2"), "--fill-mode constant"),
    ],
)
def test_a_typed_option_that_changes_nothing_is_refused(
    lab: Lab, tmp_path: Path, typed: tuple[str, ...], works: str
) -> None:
    refused = call("fit-head", lab.root / "pictures", *typed, cwd=tmp_path)
    assert refused.status == 2
    assert "has no effect with" in refused.sentence
    assert f"Choose {works}, or leave it out." in refused.sentence
    assert not (tmp_path / "runs").exists()


def test_what_a_file_shares_among_heads_is_not_refused() -> None:
    heads = HeadOptions(epochs=5, kernel="rbf")
    pipeline = Pipeline(head=heads)
    assert require_applicable(pipeline, {"data.seed": 1, "head.metric": "accuracy"}) is pipeline
    assert require_applicable(pipeline, {"head.hidden": "256,0.3,128"}) is pipeline  # as it is without it
    both = Pipeline(head=heads, compare=CompareOptions(clf=("logreg", "dense")))
    assert require_applicable(both, {"head.epochs": 5}) is both
    with pytest.raises(UsageError, match="--epochs 5"):
        require_applicable(pipeline, {"head.epochs": 5})
