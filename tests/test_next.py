"""Which images to label next: typical, different and uncertain ones, against plain references and on planted images."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fitted import Lab, call, write_pictures, write_squares
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

import featx
from featx.active.answers import doubt
from featx.active.coverage import Population, choose
from featx.active.next import choose_next
from featx.active.ranking import _POPULATION, Doubts, _population, rank
from featx.active.space import Space
from featx.bundle.bundle import pack
from featx.config import DataOptions, HeadOptions, NextOptions, ReportOptions
from featx.errors import DataError, HeadError, UsageError
from featx.features import ArrayFeatures
from featx.store.cache import Cache


def blobs(n: int = 300, kinds: int = 8, d: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows about far apart centres, of very unequal numbers, and the centre of each."""
    random = np.random.default_rng(seed)
    kind = np.concatenate([np.arange(kinds), random.choice(kinds, n - kinds, p=np.arange(1, kinds + 1) / 36)])
    centres = random.normal(size=(kinds, d)) * 6
    return (centres[kind] + random.normal(size=(n, d))).astype(np.float32), kind


# --- the greedy choice -------------------------------------------------------------------------------------------


def test_the_choice_is_that_of_a_plain_greedy_search() -> None:
    x, _ = blobs(60)
    z = Space.about(ArrayFeatures(x), 0).directions(x)
    worth = np.random.default_rng(1).random(60)
    start = np.exp((z @ z[7] - 1) / 0.3)
    found = choose(z, Population(z, worth, start.astype(np.float32), 0.3), 10, same=2)
    covered, chosen, gains = start, [], []
    for _ in range(10):
        values = [
            np.inf * -1
            if row in chosen
            else sum(worth[i] * max(0.0, np.exp((z[row] @ z[i] - 1) / 0.3) - covered[i]) for i in range(60))
            for row in range(60)
        ]
        best = int(np.argmax(values))
        chosen.append(best)
        gains.append(values[best] / worth.sum())
        covered = np.maximum(covered, np.exp((z @ z[best] - 1) / 0.3))
    assert found.rows.tolist() == chosen
    assert found.gain == pytest.approx(gains, rel=1e-4)


def test_from_nothing_every_kind_is_met_before_any_is_met_again() -> None:
    x, kind = blobs()
    found = rank(ArrayFeatures(x), None, None, 8, same=0.999)
    assert sorted(kind[found.rows]) == list(range(8))
    assert found.stands_for.sum() == len(x)
    nearest = cosine_similarity(x - x.mean(axis=0), x[found.rows] - x.mean(axis=0)).argmax(axis=1)
    assert np.abs(np.bincount(nearest, minlength=8) - found.stands_for).max() <= 2  # unit length before the mean


def test_kinds_that_have_labels_come_last() -> None:
    x, kind = blobs()
    labelled = ArrayFeatures(x[kind < 6][:150])
    found = rank(ArrayFeatures(x[150:]), None, labelled, 2, same=0.999)
    assert set(kind[150:][found.rows]) == {6, 7}


def test_what_a_model_is_unsure_of_comes_first_once_it_knows_enough() -> None:
    x, kind = blobs()
    unsure = np.where(kind == 2, 0.9, 0.01)
    assert kind[rank(ArrayFeatures(x), Doubts.of(unsure, 1000, 8), None, 1, 0.999).rows].tolist() == [2]
    assert kind[rank(ArrayFeatures(x), None, None, 4, 0.999).rows].tolist().count(2) == 0  # it is a rare kind
    early = rank(ArrayFeatures(x), Doubts.of(unsure, 0, 8), None, 8, 0.999)
    assert early.rows.tolist() == rank(ArrayFeatures(x), None, None, 8, 0.999).rows.tolist()


def test_a_model_is_trusted_with_its_labels_and_as_far_as_it_is_sure() -> None:
    def trust(doubt: float, labelled: int) -> float:
        return Doubts.of(np.full(5, doubt), labelled, 10).trust

    assert trust(0.36, 100) == trust(0.36, 1000) == pytest.approx(0.8)
    assert trust(0.36, 50) == pytest.approx(0.8 / 4)
    assert trust(0.36, 20) < 0.05
    assert trust(1.0, 1000) == trust(0.0, 0) == 0
    reaches = [Doubts.of(np.zeros(5), labelled, 10).reach for labelled in (100, 200, 400, 2000)]
    assert reaches == pytest.approx([0.5, 0.5, 0.25, 0.1])


def test_near_duplicates_are_chosen_once_and_counted() -> None:
    x, _ = blobs(100)
    copies = x[:30] + 0.01 * np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
    found = rank(ArrayFeatures(np.concatenate([x, copies, copies[:10] * 1.001])), None, None, 140, same=0.9995)
    assert len(found) == 100
    assert len(set((found.rows % 100 % 30).tolist())) <= 100
    assert found.copies.sum() == 40
    origin = np.concatenate([np.arange(100), np.arange(30), np.arange(10)])[found.rows]
    assert len(set(origin.tolist())) == 100


def test_blocks_and_samples_change_little_of_a_large_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    x, kind = blobs(3000)
    monkeypatch.setattr("featx.active.ranking._POPULATION", 200)
    monkeypatch.setattr("featx.active.ranking._CANDIDATES", 400)
    doubts = np.random.default_rng(0).random(3000)
    for some in (None, Doubts.of(doubts, 30, 8)):
        found = rank(ArrayFeatures(x.astype(np.float16)), some, None, 20, same=0.9999)
        assert len(set(found.rows.tolist())) == 20
        assert set(kind[found.rows]) == set(range(8))
        assert found.stands_for.sum() == 3000


def test_the_sample_stands_for_the_whole_pool() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(10_000, 4)).astype(np.float32)
    worth = random.random(10_000) ** 4 + 0.01
    space = Space.about(ArrayFeatures(x), 0)
    drawn = _population(ArrayFeatures(x), space, worth, np.random.default_rng(1))
    assert abs(len(drawn.worth) - _POPULATION) <= 1
    assert drawn.worth.sum() == pytest.approx(worth.sum(), rel=0.01)
    left = space.directions(x)[:, 0] > 0
    assert drawn.worth[drawn.directions[:, 0] > 0].sum() == pytest.approx(worth[left].sum(), rel=0.1)


def test_wide_rows_are_sketched_and_keep_their_similarities() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 6000)).astype(np.float32) + 3 * random.normal(size=(8, 6000)).repeat(5, axis=0) + 5
    rows = x / np.linalg.norm(x, axis=1, keepdims=True)
    exact = cosine_similarity(rows - rows.mean(axis=0))
    z = Space.about(ArrayFeatures(x), 0).directions(x)
    assert z.shape == (40, 2048)
    assert np.abs(z @ z.T - exact).max() < 0.12
    assert np.abs(z @ z.T - exact).mean() < 0.03


def test_doubt_is_margin_and_entropy() -> None:
    p = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.7, 0.2, 0.1]])
    margin, entropy = doubt(p)
    assert margin == pytest.approx([1, 0, 1, 0.5])
    logs = [np.log(2) / np.log(3), 0, 1, -sum(q * np.log(q) for q in p[3]) / np.log(3)]
    assert entropy == pytest.approx(logs)


@pytest.mark.parametrize("where", ["pool", "labelled"])
def test_features_that_are_not_finite_are_refused(where: str) -> None:
    x, _ = blobs(50)
    bad = x.copy()
    bad[3] = np.nan
    if where == "pool":
        with pytest.raises(HeadError, match="NaN or infinity"):
            rank(ArrayFeatures(bad), None, None, 3, 0.99)
    else:
        with pytest.raises(HeadError, match="NaN or infinity"):
            rank(ArrayFeatures(x), None, ArrayFeatures(bad), 3, 0.99)


# --- a pool of pictures ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten new pictures of each class without labels, a copy, a near-copy, a broken file, and three of another kind."""
    folder = tmp_path_factory.mktemp("pool") / "new"
    write_pictures(folder, per_class=10, seed=5)
    first = next(iter(sorted((folder / "red").glob("*.png"))))
    (folder / "copy.png").write_bytes(first.read_bytes())
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(30))
    for number in range(3):
        stripes = np.zeros((24, 32, 3), np.uint8)
        stripes[:: 2 + number] = (255, 255, 0)
        Image.fromarray(stripes).save(folder / f"stripes-{number}.png")
    flat = folder.parent / "flat"
    flat.mkdir()
    for path in folder.rglob("*.png"):
        path.rename(flat / f"{path.parent.name}-{path.name}")
    return flat


def asked(lab: Lab, pool: Path, tmp_path: Path, **options: object) -> tuple[str, ...]:
    """The options of the command that ask of the lab's features."""
    more = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    features = ("--backbone", str(lab.root / "tiny.keras"), "--cache", str(lab.root / "cache"))
    return ("next", str(pool), *features, "--runs", str(tmp_path / "runs"), "--json", *more)


def test_from_nothing(lab: Lab, pool: Path, tmp_path: Path) -> None:
    done = call(*asked(lab, pool, tmp_path, count=6), cwd=tmp_path)
    found = done.json
    assert done.status == 0
    assert found["pool"] == 33
    assert [Path(one["path"]).name for one in found["bad"]] == ["new-broken.png"]
    assert len({one["path"] for one in found["images"]}) == 6
    assert all(one["suggestion"] is None and one["reason"] for one in found["images"])
    scores = [one["score"] for one in found["images"]]
    assert scores == sorted(scores, reverse=True)
    assert 0 < sum(scores) <= 1
    page = Path(found["report"]).read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 1
    assert Path(found["images"][0]["path"]).name in page


def test_with_a_model(lab: Lab, pool: Path, tmp_path: Path) -> None:
    bundle = lab.bundle("logreg")
    found = call(*asked(lab, pool, tmp_path, count=40, model=bundle.path, same=1), cwd=tmp_path).json
    listed = {one["path"]: one for one in [*found["images"], *found["unknown"]]}
    answers = featx.Model(bundle).predict(list(listed), max_distance=1.0)
    unknown = {one.path for one in answers if one.distance is not None and one.distance > 1}
    assert len(listed) == 33
    assert {one["path"] for one in found["unknown"]} == unknown
    assert any("stripes" in path for path in unknown)
    for one, answer in zip(listed.values(), answers, strict=True):
        assert one["suggestion"] == answer.top[0].label
        assert one["confidence"] == pytest.approx(answer.confidence, abs=1e-3)
        assert one["distance"] == pytest.approx(answer.distance, abs=0.02)
    assert "listed apart" in " ".join(found["notes"])


@pytest.mark.parametrize("command", ["next", "map"])
def test_an_empty_folder_changes_nothing(lab: Lab, tmp_path: Path, command: str) -> None:
    classes = write_pictures(tmp_path / "classes", per_class=2, seed=6)
    (classes / "purple").mkdir()
    flat = tmp_path / "flat"
    (flat / "later").mkdir(parents=True)
    for path in classes.rglob("*.png"):
        (flat / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    for folder in (classes, flat):
        _, _, *options = asked(lab, folder, tmp_path, model=lab.bundle("logreg").path)
        done = call(command, folder, *options, cwd=tmp_path)
        assert done.status == 0, done.err
        assert done.json["pool" if command == "next" else "images"] == 6


def test_labelled_images_are_left_out_by_their_content(lab: Lab, pool: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for number, path in enumerate([*sorted(pool.glob("*.png"))[:12], *map(Path, lab.pictures[:9])]):
        (mixed / f"{number}.png").write_bytes(path.read_bytes())
    found = featx.Model(lab.bundle("logreg")).next(
        mixed, out=tmp_path / "out", cache=str(lab.root / "cache"), runs=str(tmp_path / "runs"), count=50, far=100.0
    )
    assert found.known == 9
    assert not {int(Path(one.path).stem) for one in found.images} & set(range(12, 21))
    with pytest.raises(DataError, match="have a label in the model already"):
        featx.Model(lab.bundle("logreg")).next(
            lab.root / "pictures", out=tmp_path / "out", cache=str(lab.root / "cache"), runs=str(tmp_path / "runs")
        )


def test_the_list_is_filled_in_and_fitted_on(lab: Lab, pool: Path, tmp_path: Path) -> None:
    found = call(*asked(lab, pool, tmp_path, count=20), cwd=tmp_path).json
    with open(found["csv"], newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:3] == ["path", "label", "suggestion"]
    assert not any(row["label"] for row in rows)
    for row in rows[:-2]:
        row["label"] = Path(row["path"]).name.split("-")[0]
    with open(tmp_path / "labels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    images = featx.extract(
        tmp_path / "labels.csv", backbone=str(lab.root / "tiny.keras"), cache=str(lab.root / "cache")
    ).images
    assert images.labels is not None
    assert (images.labels >= 0).sum() == 18


def test_a_packed_bundle_needs_no_cache(lab: Lab, pool: Path, tmp_path: Path) -> None:
    pack(lab.bundle("logreg"), tmp_path / "lab.featx")
    model = featx.load(tmp_path / "lab.featx")
    common = {"runs": str(tmp_path / "runs"), "count": 5, "far": 3.0}
    found = model.next(pool, out=tmp_path / "a", cache=str(tmp_path / "other"), **common)  # type: ignore[arg-type]
    assert len(found.images) == 5
    assert [Path(one.path).name for one in found.unread] == ["new-broken.png"]
    answers = model.predict([one.path for one in found.images])
    assert [one.suggestion for one in found.images] == list(answers.labels)


def test_several_labels(lab: Lab, tmp_path: Path) -> None:
    table = write_squares(tmp_path)
    features = {"backbone": str(lab.root / "tiny.keras"), "cache": str(tmp_path / "cache")}
    model = featx.fit_head(table, label_separator="$", runs=str(tmp_path / "runs"), html=False, **features)  # type: ignore[arg-type]
    random = np.random.default_rng(3)
    (tmp_path / "more").mkdir()
    for number in range(12):
        pixels = random.integers(100, 150, (32, 32, 3), dtype=np.uint8)
        pixels[:12, : 2 * number] = (200, 40, 40)
        Image.fromarray(pixels).save(tmp_path / "more" / f"{number}.png")
    for measure in ("margin", "entropy", "none"):
        found = model.next(
            tmp_path / "more", out=tmp_path / "out", doubt=measure, far=1000.0, count=4, cache=features["cache"]
        )
        answers = model.predict([one.path for one in found.images])
        assert [one.suggestion for one in found.images] == ["|".join(one.labels or ()) for one in answers]


def test_a_pipeline_file_holds_the_options(lab: Lab, pool: Path, tmp_path: Path) -> None:
    pipeline = replace(
        lab.pipeline,
        data=DataOptions(path=str(pool)),
        next=NextOptions(count=3, doubt="entropy"),
        report=ReportOptions(runs=str(tmp_path / "runs"), html=False),
        head=HeadOptions(),
    )
    with Cache(pipeline.features.cache) as cache:
        found = choose_next(pipeline, lab.bundle("logreg"), cache)
    assert len(found.images) == 3
    assert found.report is None
    assert not (found.csv.parent / "index.html").exists()
    (tmp_path / "p.yaml").write_text(
        f"data: {{path: {pool}}}\nfeatures: {{backbone: {lab.root / 'tiny.keras'}, cache: {lab.root / 'cache'}}}\n"
        f"next: {{count: 3, doubt: entropy}}\nreport: {{runs: {tmp_path / 'runs2'}}}\n"
    )
    same = call("next", "-p", "p.yaml", "--model", str(lab.bundle("logreg").path), "--json", cwd=tmp_path).json
    assert [one["path"] for one in same["images"]] == [one.path for one in found.images]


def test_what_cannot_be_compared_is_refused(lab: Lab, pool: Path, tmp_path: Path) -> None:
    keys = {"backbone": str(lab.root / "tiny.keras"), "cache": str(lab.root / "cache"), "runs": str(tmp_path)}
    with pytest.raises(UsageError, match="one layer and pooling"):
        featx.next(pool, layer=("body", "last"), **keys)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"next\.count must be at least 1, got 0"):
        featx.next(pool, count=0, **keys)  # type: ignore[arg-type]
