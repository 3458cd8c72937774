"""Classifiers of one's own, forests and boosting as heads: fitted, kept, loaded, refused, shared."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import Lab, Outcome, call, write_squares
from serving import served
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.preprocessing import StandardScaler
from skops.io import dump

import featx
from featx.bundle.bundle import load_bundle
from featx.config import HeadOptions
from featx.errors import BundleError, HeadError, ModuleError
from featx.features import as_features
from featx.heads import kept
from featx.heads.classifiers import Estimator
from featx.heads.estimators import estimator_logits
from featx.io.modules import named_modules
from featx.selection.heads import choose_head
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings

FOREST = "sklearn.ensemble.RandomForestClassifier"
BOOSTING = "sklearn.ensemble.HistGradientBoostingClassifier"
OWN = '''
import numpy as np
from array import array
from os import system
from sklearn.base import BaseEstimator, ClassifierMixin

class Nearest(ClassifierMixin, BaseEstimator):
    """The class whose mean is nearest, by a power of the distance."""
    def __init__(self, power=2.0):
        self.power = power
    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        weight = np.ones(len(y)) if sample_weight is None else sample_weight
        self.means_ = np.stack([np.average(X[y == c], axis=0, weights=weight[y == c]) for c in self.classes_])
        self.shares_ = np.array([weight[y == c].sum() for c in self.classes_]) / weight.sum()
        return self
    def predict_proba(self, X):
        far = np.linalg.norm(X[:, None] - self.means_, axis=2) ** self.power
        near = self.shares_ * np.exp(far.min(axis=1, keepdims=True) - far)
        return near / near.sum(axis=1, keepdims=True)
    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

class Lambda(Nearest):
    """One that skops cannot write, and a pickle can."""
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.held_ = array("d", [1.0])
        return self

class Held:
    pass

class Mute(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self
    def predict(self, X):
        return np.zeros(len(X))

class Broken(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        raise RuntimeError("out of order")

def factory():
    return Nearest()
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a module `own_heads`, which nothing has named yet."""
    (tmp_path / "own_heads.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    forget(monkeypatch)
    yield tmp_path
    sys.modules.pop("own_heads", None)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be as a process that has just begun: nothing is named, imported or written."""
    monkeypatch.setattr(named_modules(), "names", [])
    monkeypatch.setattr(kept, "_written", set())
    sys.modules.pop("own_heads", None)


def problem(labels: bool = False, rows: int = 150) -> Problem:
    random = np.random.default_rng(0)
    centres = random.normal(size=(3, 6)) * 1.5
    codes = random.integers(0, 3, rows)
    x = (centres[codes] + random.normal(size=(rows, 6))).astype(np.float32)
    y = x[:, :3] > 0.5 if labels else codes
    split = np.repeat([0, 1, 2], [rows - 60, 30, 30]).astype(np.uint8)
    return Problem(as_features(x), y, split, ("bee", "cat", "dog"))


def settings(estimator: str, **options: Any) -> SearchSettings:
    return SearchSettings(HeadOptions(clf="estimator", estimator=estimator, folds=3, **options), 7)


def fit(lab: Lab, *more: str, cwd: Path) -> Outcome:
    place = ("--backbone", lab.root / "tiny.keras", "--cache", lab.root / "cache", "--split", "0.5,0.25,0.25")
    return call("fit-head", lab.root / "pictures", *place, "--clf", "estimator", *more, "--no-html", "--json", cwd=cwd)


# --- what is fitted ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "theirs", "grid"),
    [
        (FOREST, RandomForestClassifier(20, random_state=7), {"n_estimators": [20]}),
        (BOOSTING, HistGradientBoostingClassifier(max_iter=8, random_state=7), {"max_iter": [8]}),
    ],
)
def test_forests_and_boosting_are_scikit_learns_and_need_no_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, theirs: Any, grid: dict[str, object]
) -> None:
    given = problem()
    x, train = given.features.asarray(), given.split == 0
    found = choose_head(given, settings(path, grid=grid))
    scaler = StandardScaler().fit(x[train])
    theirs.fit(scaler.transform(x[train]), given.y[train])
    np.testing.assert_array_equal(
        found.logits(given.features).argmax(axis=1), theirs.predict_proba(scaler.transform(x)).argmax(axis=1)
    )
    forget(monkeypatch)
    made = found.head.keep()
    assert (made.kind, made.imports) == ("estimator", ())
    (tmp_path / "head.skops").write_bytes(made.content)
    again = kept.load_kept(tmp_path / "head.skops")
    np.testing.assert_array_equal(estimator_logits(again, x), found.head.logits(x))


def test_labels_have_a_forest_each_with_weights_and_log_odds() -> None:
    given = problem(labels=True)
    x, y = given.features.asarray(), given.y
    weight = np.linspace(0.5, 2, len(y))
    head = Estimator(FOREST, {"n_estimators": 16}, seed=3, class_weight="balanced", positive_weight=2.0)
    odds = head.fit(x, y, weight).logits(x)
    scaled = StandardScaler().fit_transform(x)
    for label in range(3):
        has = y[:, label]
        half = np.where(has, 2 * len(y) / (2 * has.sum()), len(y) / (2 * (~has).sum()))
        theirs = RandomForestClassifier(16, random_state=3).fit(scaled, has, half * weight)
        share = np.clip(theirs.predict_proba(scaled)[:, 1], 0.5 / 16, 1 - 0.5 / 16)
        np.testing.assert_allclose(odds[:, label], np.log(share / (1 - share)), atol=1e-5)
    y[:, 1] = True  # a label that never differs
    constant = Estimator(FOREST, {"n_estimators": 4}).fit(x, y).logits(x)
    assert (constant[:, 1] > 1.5).all()


def test_a_tree_that_leads_outside_of_itself_is_refused(tmp_path: Path) -> None:
    x = problem().features.asarray()
    head = Estimator(FOREST, {"n_estimators": 3}).fit(x, problem().y)
    for field, value in (("left_child", 10**6), ("left_child", 0), ("feature", 900)):
        again = Estimator(FOREST, {"n_estimators": 3}).fit(x, problem().y).estimator_
        tree = again[-1].estimators_[1].tree_
        state = tree.__getstate__()
        state["nodes"][field][0] = value
        tree.__setstate__(state)
        dump(again, tmp_path / "bad.skops")
        with pytest.raises(ValueError, match="leads outside of itself"):
            kept.load_kept(tmp_path / "bad.skops")
    dump(head.estimator_, tmp_path / "good.skops")
    kept.load_kept(tmp_path / "good.skops")


def test_what_cannot_be_a_head_is_refused_in_one_sentence(own: Path) -> None:
    for path, match in (
        ("os.abort", "it is not a class"),
        ("own_heads.factory", "it is not a class"),
        ("own_heads.Held", "it is not a classifier, which inherits"),
        ("own_heads.Missing", "no attribute 'Missing'"),
        ("__main__.Nearest", "put it into a module"),
        ("own_heads.Broken", "Broken cannot be fitted on .*: out of order"),
        ("own_heads.Mute", "gives no confidences"),
    ):
        with pytest.raises(HeadError, match=match):
            choose_head(problem(), settings(path))
    with pytest.raises(ModuleError, match=r"Cannot import no_such_module \(--estimator no_such_module.Head\)"):
        choose_head(problem(), settings("no_such_module.Head"))


# --- what is kept ------------------------------------------------------------------------------------------------


def test_a_class_of_ones_own_walks_from_fit_to_a_bundle_of_one_file(
    lab: Lab, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = ("--grid", "{power: [1.0, 2.0]}", "--class-weight", "balanced")
    made = fit(lab, "--estimator", "own_heads.Nearest", *grid, cwd=own)
    assert made.status == 0, made.err
    bundle = made.json["bundle"]
    record = json.loads((own / bundle / "bundle.json").read_text())["head"]
    assert (record["kind"], record["imports"]) == ("estimator", ["own_heads"])
    assert made.json["val"]["accuracy"] > 0.5
    assert call("bundle", "pack", bundle, "--out", "own.featx", cwd=own).status == 0

    # nothing of it is imported unasked
    forget(monkeypatch)
    (own / "own_heads.py").write_text("raise SystemExit('imported unasked')")
    ask = ("predict", lab.root / "pictures", "--model", "own.featx", "--json")
    refused = call(*ask, cwd=own)
    assert refused.status == 1
    assert "types that are not trusted (own_heads.Nearest)" in refused.sentence
    assert "--import own_heads" in refused.sentence
    (own / "own_heads.py").unlink()
    missing = call(*ask, "--import", "own_heads", cwd=own)
    assert missing.status == 1
    assert "Cannot import own_heads (--import own_heads): ModuleNotFoundError" in missing.sentence

    (own / "own_heads.py").write_text(OWN)
    answers = call(*ask, "--import", "own_heads", cwd=own).json["predictions"]
    right = np.mean([one["label"] == Path(one["path"]).parent.name for one in answers])
    assert right == pytest.approx(
        call("evaluate", "own.featx", "--data", lab.root / "pictures", "--split", "all", "--json", cwd=own).json[
            "accuracy"
        ]
    )
    shown = call("explain", answers[0]["path"], "--model", "own.featx", "--out", "maps", "--json", cwd=own)
    assert shown.status == 0, shown.err
    assert call("bundle", "verify", "own.featx", "--import", "own_heads", cwd=own).status == 0
    card = call("bundle", "card", "own.featx", cwd=own).out
    assert "a head was fitted on them: own_heads.Nearest" in card.replace("\\_", "_")
    assert "featx predict IMAGE... --model own.featx --import own_heads " in card
    assert "featx.load('own.featx', imports=['own_heads'])" in card

    # its code is a part of what the bundle was made of
    pipeline = ("--estimator", "own_heads.Nearest", *grid)
    forget(monkeypatch)
    (own / "own_heads.py").write_text(OWN.replace("far.min", "1 * far.min"))
    assert fit(lab, *pipeline, cwd=own).json["bundle"] != bundle

    forget(monkeypatch)
    model = featx.load(own / "own.featx", imports="own_heads")
    assert model.predict(answers[0]["path"]).labels[0] == answers[0]["label"]


def test_labels_of_a_forest_are_calibrated_explained_and_served(lab: Lab, tmp_path: Path) -> None:
    index = write_squares(tmp_path / "squares")
    place = ("--backbone", lab.root / "tiny.keras", "--cache", lab.root / "cache", "--split", "0.5,0.25,0.25")
    forest = ("--clf", "estimator", "--estimator", FOREST, "--grid", "{n_estimators: [10, 30]}", "--folds", "2")
    options = ("--label-separator", "$", "--class-weight", "balanced", "--calibrate", "sigmoid", "--no-html", "--json")
    made = call("fit-head", index, *place, *forest, *options, cwd=tmp_path)
    assert made.status == 0, made.err
    bundle = load_bundle(tmp_path / made.json["bundle"])
    assert bundle.manifest.head.kind == "estimator"
    assert made.json["val"]["average_precision_macro"] > 0.5
    images = sorted((tmp_path / "squares" / "images").glob("*.png"))[:3]
    answers = featx.load(bundle.path).predict(images)
    probabilities = featx.load(bundle.path).predict_proba(images)
    assert [one.labels for one in answers] == [
        tuple(name for name, over in zip(bundle.classes, row >= bundle.thresholds, strict=True) if over)
        for row in probabilities
    ]
    explained = featx.load(bundle.path).explain(images[:1])
    assert explained[0].method == "occlusion"
    with served(bundle) as client:
        sent = client.post("/predict", files=[("files", (one.name, one.read_bytes())) for one in images]).json()
    assert [tuple(one["labels"]) for one in sent["predictions"]] == [one.labels for one in answers]


def test_what_a_named_module_has_from_elsewhere_is_not_trusted(own: Path) -> None:
    head = Estimator("own_heads.Nearest", {}).fit(problem().features, problem().y)
    head.estimator_[-1].then_ = sys.modules["own_heads"].factory
    dump(head.estimator_, own / "a.skops")
    with zipfile.ZipFile(own / "a.skops") as before, zipfile.ZipFile(own / "b.skops", "w") as after:
        for name in before.namelist():
            text = before.read(name)
            if name == "schema.json":
                assert b'"factory"' in text
                text = text.replace(b'"factory"', b'"system"')
            after.writestr(name, text)
    with pytest.raises(BundleError, match=r"not trusted \(own_heads.system, which own_heads imports from elsewhere"):
        kept.load_kept(own / "b.skops")


def test_a_pickle_stays_in_its_run(lab: Lab, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fit(lab, "--estimator", "own_heads.Lambda", cwd=own)
    assert made.status == 0, made.err
    folder = own / made.json["bundle"]
    record = json.loads((folder / "bundle.json").read_text())
    assert (record["head"]["kind"], record["head"]["file"]) == ("pickle", "head.joblib")
    assert "cannot pickle 'array' object" in record["head"]["reason"]
    assert any("kept as a pickle" in note for note in record["notes"])
    refused = call("bundle", "pack", folder, "--out", "x.featx", cwd=own)
    assert refused.status == 1
    assert "cannot be shared: its head is a pickle" in refused.err
    assert "cannot pickle 'array' object" in refused.err
    assert not (own / "x.featx").exists()
    ask = ("predict", lab.root / "pictures" / "red", "--model", folder, "--json")
    before = call(*ask, cwd=own).json["predictions"]

    # What is loaded is what was digested, though the file is replaced in between.
    head, digest = folder / "head.joblib", kept.digest_bytes
    sound = head.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(kept, "digest_bytes", lambda content: head.write_bytes(b"another pickle") and digest(content))
        loaded = kept.load_pickled(head, ["own_heads"])
    assert head.read_bytes() == b"another pickle"
    assert loaded.predict(np.zeros((1, loaded.n_features_in_))).shape == (1,)
    head.write_bytes(sound)

    forget(monkeypatch)  # another process
    asked = call(*ask, cwd=own)
    assert asked.status == 1
    assert "is a pickle" in asked.sentence
    assert "--import own_heads --import joblib" in asked.sentence
    again = call(*ask, "--import", "own_heads", "--import", "joblib", cwd=own).json["predictions"]
    assert [one["label"] for one in again] == [one["label"] for one in before]

    with zipfile.ZipFile(own / "by-hand.featx", "w") as archive:
        for name in ("bundle.json", *record["files"]):
            archive.write(folder / name, name)
    with pytest.raises(BundleError, match="holds a pickle"):
        load_bundle(own / "by-hand.featx")
