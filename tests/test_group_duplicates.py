"""Near-duplicates are kept on one side of a split by option, where no column can name them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from fitted import Lab, call, write_pictures
from PIL import Image

from featx.bundle.bundle import load_bundle
from featx.comparing.plan import plan
from featx.config import CompareOptions, DataOptions, Pipeline
from featx.dataset import ImageSet
from featx.errors import DataError, UsageError
from featx.features import ArrayFeatures
from featx.metrics.similarity import unit_rows
from featx.quality.grouping import group_near_duplicates

LEVEL = "0.9995"


def by_hand(x: np.ndarray, threshold: float, names: tuple[str, ...]) -> set[frozenset[int]]:
    """The groups of rows by flooding, of brute-force similarities and of equal names; without those of one row."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    named = np.array(names)
    near = (unit @ unit.T >= threshold) | ((named[:, None] == named) & (named != ""))
    left, found = set(range(len(x))), set()
    while left:
        group, edge = set(), {left.pop()}
        while edge:
            group |= edge
            edge = {int(other) for row in edge for other in np.flatnonzero(near[row])} - group
        left -= group
        found.add(frozenset(group))
    return {group for group in found if len(group) > 1}


@pytest.mark.parametrize("named", [False, True])
def test_groups_are_what_is_linked_by_similarity_and_by_the_groups_there_are(named: bool) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(90, 6)).astype(np.float32)
    x[40:60] = x[:20] + random.normal(scale=0.02, size=(20, 6))  # pairs
    x[60:70] = x[40:50] + random.normal(scale=0.02, size=(10, 6))  # chains of three
    names = tuple(f"g{row % 7}" if named and row % 3 == 0 and row < 40 else "" for row in range(90))
    images = ImageSet("x", "x", tuple(map(str, range(90))), np.zeros(90, int), ("a",), groups=names if named else None)
    grouped, note = group_near_duplicates(images, np.arange(90), ArrayFeatures(unit_rows(x)), 0.995)
    assert grouped.groups is not None
    names_now = np.array(grouped.groups)
    found = {frozenset(np.flatnonzero(names_now == name).tolist()) for name in set(grouped.groups) - {""}}
    assert {group for group in found if len(group) > 1} == by_hand(x, 0.995, names)
    assert "of 90 images are in" in note
    assert "by --group-duplicates 0.995" in note


def test_a_set_whose_images_are_all_alike_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.quality.grouping._MOST_PAIRS", 100)
    images = ImageSet("x", "x", tuple(map(str, range(30))), np.zeros(30, int), ("a",))
    alike = ArrayFeatures(np.ones((30, 2), np.float32))
    with pytest.raises(DataError, match=r"More than 100 pairs .* Raise --group-duplicates"):
        group_near_duplicates(images, np.arange(30), alike, 0.9)


def write_shots(root: Path) -> Path:
    """A folder of twenty objects of each class, twice each: the second shot differs by next to nothing."""
    write_pictures(root, 20)
    for path in sorted(root.rglob("*.png")):
        pixels = np.asarray(Image.open(path)).copy()
        pixels[:2, :2] ^= 3
        Image.fromarray(pixels).save(path.with_name(f"{path.stem}-again.png"))
    return root


def crossing(out: Path) -> int:
    """Pairs of near-duplicates in two parts of the split, as the list of them has it."""
    with (out / "near_duplicates.csv").open(newline="") as lines:
        return sum(row["split"] != row["split_2"] for row in csv.DictReader(lines))


def test_a_folder_gets_a_split_that_no_pair_of_near_duplicates_crosses(lab: Lab, tmp_path: Path) -> None:
    write_shots(tmp_path / "shots")
    common = ("--backbone", lab.root / "tiny.keras", "--no-html", "--set", "data.split=[0.5,0.25,0.25]")
    check = ("check", "shots", "--features", "--near", LEVEL, "--json", *common)
    before = call(*check, cwd=tmp_path)
    assert before.status == 0, before.err
    assert crossing(tmp_path / "runs" / "shots" / "check") == before.json["near_duplicates"]["across"] >= 7
    grouped = ("--group-duplicates", LEVEL)
    after = call(*check, *grouped, cwd=tmp_path)  # the split that was kept is mended
    assert after.json["near_duplicates"]["across"] == crossing(tmp_path / "runs" / "shots" / "check") == 0
    assert after.json["near_duplicates"]["found"] == before.json["near_duplicates"]["found"]
    fitted = call("fit-head", "shots", *common, *grouped, "--name", "new", "--json", cwd=tmp_path)
    assert fitted.status == 0, fitted.err
    assert any("groups of near-duplicates" in note for note in fitted.json["notes"])
    review = call(*check, "--name", "new", cwd=tmp_path)
    assert review.json["near_duplicates"]["across"] == 0
    parts = np.array(list(load_bundle(tmp_path / fitted.json["bundle"]).split().values()))
    np.testing.assert_allclose(np.bincount(parts, minlength=3) / 120, [0.5, 0.25, 0.25], atol=0.07)


def test_it_is_refused_where_there_are_no_features(lab: Lab, tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 3)
    for command in (("check", "p"), ("split", "p", "--out", "x.csv"), ("look", "p"), ("baseline", "p")):
        refused = call(*command, "--group-duplicates", "0.9", cwd=tmp_path)
        assert (refused.status, refused.sentence[:29]) == (2, "featx: --group-duplicates 0.9"), refused.sentence
        assert "--group-column" in refused.sentence
    assert not (tmp_path / "x.csv").exists()


def test_a_comparison_of_several_backbones_would_have_several_splits(tmp_path: Path) -> None:
    data = DataOptions(path=str(tmp_path), group_duplicates=0.9)
    one = CompareOptions(backbone=("EfficientNetLite0",), clf=("logreg", "knn"))
    assert len(plan(Pipeline(data=data, compare=one))) == 1
    for more in ({"backbone": ("EfficientNetLite0", "MobileNetV2")}, {"input_size": (128, 224)}):
        with pytest.raises(UsageError, match=r"^data.group_duplicates .* differ among these 2"):
            plan(Pipeline(data=data, compare=CompareOptions(**more)))
