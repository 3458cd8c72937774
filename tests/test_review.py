"""From suspicion to correction by the command line: check --features, --relabel, similar."""

from __future__ import annotations

import base64
import csv
import html
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import Lab, Outcome, call, write_pictures
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

import featx
from featx.bundle.records import OriginRecord
from featx.bundle.split import read_split
from featx.config import DataOptions
from featx.config.pipeline import as_yaml
from featx.dataset import read_images
from featx.errors import BundleError, DataError
from featx.features import ArrayFeatures
from featx.quality.label_errors import out_of_fold_probabilities
from featx.quality.outliers import find_outliers
from featx.quality.similar import search_with_bundle
from featx.store.cache import Cache


@pytest.fixture
def work(lab: Lab, tmp_path: Path) -> Callable[..., Outcome]:
    """Runs commands in `tmp_path` on lab.yaml and a copy of the pictures, in which two red ones lie among the blue."""
    assert lab.prepared.extraction.readable.all()
    shutil.copytree(lab.root / "pictures", tmp_path / "pictures")
    for name in ("0-05.png", "0-13.png"):
        (tmp_path / "pictures" / "red" / name).rename(tmp_path / "pictures" / "blue" / f"wrong-{name}")
    pipeline = lab.pipeline
    pipeline = replace(
        pipeline,
        data=replace(pipeline.data, path="pictures"),
        head=replace(pipeline.head, strength=0.01),
        report=replace(pipeline.report, runs="runs"),
    )
    (tmp_path / "lab.yaml").write_text(as_yaml(pipeline))
    return lambda *arguments: call(*arguments, cwd=tmp_path)


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def parts_of(file: Path) -> dict[bytes, int]:
    digests, codes = read_split(file)
    return dict(zip(digests.tolist(), codes.tolist(), strict=True))


def ok(outcome: Outcome) -> dict[str, Any]:
    assert outcome.status == 0, outcome.err
    assert outcome.out.count("\n") == 1
    return outcome.json


def uncalibrated(bundle: Path) -> np.ndarray:
    """The kernel without the temperature, which depends on the folds and so on the order of the files."""
    with np.load(bundle / "head.npz") as held:
        return np.asarray(held["kernel"] * json.loads((bundle / "bundle.json").read_text())["head"]["temperature"])


# --- check --features --------------------------------------------------------------------------------------------


def test_what_is_suspicious_is_listed_and_drawn(lab: Lab, work: Callable[..., Outcome], tmp_path: Path) -> None:
    found = ok(work("check", "-p", "lab.yaml", "--features", "--near", "0.9999", "--json"))
    assert (found["images"], found["computed"], found["bad"], found["output"]) == (60, 0, [], "last@avg")
    assert Path(found["out"]) == Path("runs/lab/check")
    for kind in ("label_errors", "near_duplicates", "outliers"):
        rows = table(tmp_path / found[kind]["csv"])
        assert len(rows) == found[kind]["found"]
        assert (found[kind]["grid"] is None) == (not rows)
        if rows:
            with Image.open(tmp_path / found[kind]["grid"]) as grid:
                assert grid.width > 100

    rows = table(tmp_path / found["label_errors"]["csv"])
    errors = {row["path"]: row for row in rows}
    assert list(rows[0]) == ["path", "label", "suggested", "confidence", "label_confidence", "split", "right"]
    assert {"blue/wrong-0-05.png", "blue/wrong-0-13.png"} <= errors.keys()
    assert {errors[f"blue/wrong-0-{i}.png"]["suggested"] for i in ("05", "13")} == {"red"}
    given = [float(row["label_confidence"]) for row in rows]
    assert given == sorted(given)

    # The same figures from the features by hand.
    sample, extraction = lab.prepared.sample, lab.prepared.extraction
    features = extraction.features(extraction.outputs[0], sample.rows)
    names = [
        f"{Path(sample.images.paths[row]).parent.name}/{Path(sample.images.paths[row]).name}" for row in sample.rows
    ]
    wrong = np.isin(names, ["red/0-05.png", "red/0-13.png"])
    y = np.where(wrong, 0, sample.y)
    in_copy = ["blue/wrong-" + Path(name).name if moved else name for name, moved in zip(names, wrong, strict=True)]
    order = np.argsort(in_copy)
    chances = out_of_fold_probabilities(features.take(order), y[order])
    for place, name in enumerate(np.array(in_copy)[order].tolist()):
        if name in errors:
            assert float(errors[name]["label_confidence"]) == pytest.approx(chances[place, y[order][place]], abs=2e-4)
    expected = {np.array(in_copy)[order][row] for row in find_outliers(features.take(order), y[order]).rows}
    assert {row["path"] for row in table(tmp_path / found["outliers"]["csv"])} == expected

    cosine = cosine_similarity(features.take(order).asarray().astype(np.float64))
    close = np.argwhere(np.triu(cosine >= 0.9999, 1))
    pairs = table(tmp_path / found["near_duplicates"]["csv"])
    listed = {frozenset((row["path"], row["path_2"])) for row in pairs}
    assert listed == {frozenset(np.array(in_copy)[order][pair].tolist()) for pair in close}
    across = [row["across_parts"] for row in pairs]
    assert across == sorted(across, reverse=True)  # yes before no
    assert across.count("yes") == found["near_duplicates"]["across"]
    assert all((row["split"] != row["split_2"]) == (row["across_parts"] == "yes") for row in pairs)


def test_people_read_a_table_and_what_to_do_next(work: Callable[..., Outcome], tmp_path: Path) -> None:
    shown = work("check", "-p", "lab.yaml", "--features", "--near", "1", "--out", "found")
    assert shown.status == 0, shown.err
    assert "likely label errors" in shown.out
    assert "found/label_errors.csv" in shown.out
    assert "featx relabel apply found/label_errors.csv" in shown.out
    assert table(tmp_path / "found" / "near_duplicates.csv") == []
    assert not (tmp_path / "found" / "near_duplicates.png").exists()


def test_the_advice_to_relabel_reads_the_images_as_check_did(work: Callable[..., Outcome], tmp_path: Path) -> None:
    images = sorted((tmp_path / "pictures").rglob("*.png"))
    lines = [f"{image.relative_to(tmp_path)},{image.parent.name}\n" for image in images]
    (tmp_path / "sheet.csv").write_text("".join(["file,the kind\n", *lines]))
    columns = ["--path-column", "file", "--label-column", "the kind"]
    typed = ["check", "sheet.csv", "-p", "lab.yaml", *columns, "--features"]
    shown = work(*typed, "--out", "my list")
    assert shown.status == 0, shown.err
    (advice,) = re.findall(r"Then: featx (relabel apply .*)", shown.out)
    kept = work(*shlex.split(advice), "--confirm-rest", "--json")
    assert kept.status == 0, kept.err
    assert "relabel apply" not in work(*typed, "--out", "other").out  # they are known to be right


def test_without_the_flag_check_is_what_it_was(work: Callable[..., Outcome], tmp_path: Path) -> None:
    assert ok(work("check", "pictures", "--json"))["classes"] == {"blue": 22, "green": 20, "red": 18}
    assert not (tmp_path / "runs").exists()
    refused = work("check", "pictures", "--near", "0.9")
    assert refused.status == 2
    assert "--features" in refused.sentence
    code = "from featx.cli import main\nimport sys\ntry:\n main(['check', 'pictures'])\nexcept SystemExit: pass\n"
    code += "print({'tensorflow', 'keras', 'sklearn', 'openvino', 'matplotlib', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_several_labels_per_image_have_no_label_errors_and_all_else(
    lab: Lab, work: Callable[..., Outcome], tmp_path: Path
) -> None:
    names = [(name, i) for name in ("red", "blue") for i in range(20) if not (name == "red" and i in {5, 13})]
    label = {f"pictures/{name}/0-{i:02}.png": f"{name}$small" if i % 2 else name for name, i in names}
    Image.fromarray(np.full((32, 32, 3), 255, np.uint8)).save(tmp_path / "pictures" / "white.png")
    label["pictures/white.png"] = "red$small"
    (tmp_path / "several.csv").write_text("path,label\n" + "\n".join(map(",".join, label.items())))
    asked = ("check", "several.csv", "-p", "lab.yaml", "--features", "--label-separator", "$", "--near", "0.9")
    found = ok(work(*asked, "--json"))
    assert found["label_errors"] is None
    assert "several labels" in found["notes"][0]
    assert not (tmp_path / found["out"] / "label_errors.csv").exists()
    outliers = table(tmp_path / found["outliers"]["csv"])
    assert "pictures/white.png" in {row["path"] for row in outliers}
    assert all(row["label"] == label[row["path"]] for row in outliers)
    pairs = table(tmp_path / found["near_duplicates"]["csv"])
    assert len(pairs) == found["near_duplicates"]["found"] > 0
    assert all((row["label"], row["label_2"]) == (label[row["path"]], label[row["path_2"]]) for row in pairs)
    shown = work(*asked)
    assert shown.status == 0, shown.err
    assert "Label errors were not looked for" in shown.out
    assert "relabel apply" not in shown.out


def test_a_class_without_images_is_named_and_the_others_are_compared(
    work: Callable[..., Outcome], tmp_path: Path
) -> None:
    before = ok(work("check", "-p", "lab.yaml", "--features", "--no-html", "--json"))
    (tmp_path / "pictures" / "later").mkdir()
    found = ok(work("check", "-p", "lab.yaml", "--features", "--no-html", "--json"))
    assert found["notes"] == ["No readable image of later. Fitting a head needs images of every class."]
    for kind in ("label_errors", "near_duplicates", "outliers"):
        assert found[kind]["found"] == before[kind]["found"]
    (tmp_path / "one" / "later").mkdir(parents=True)
    shutil.copytree(tmp_path / "pictures" / "red", tmp_path / "one" / "red")
    lone = ok(work("check", "one", "-p", "lab.yaml", "--features", "--no-html", "--json"))
    assert lone["label_errors"] is None
    assert lone["notes"][0] == "No readable image of later. Fitting a head needs images of every class."
    assert lone["notes"][1] == "Label errors were not looked for: these images have labels of one class."


@pytest.mark.parametrize("kind", ["none", "one", "declared"])
def test_images_without_labels_of_two_classes_are_compared(
    work: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    files = sorted((tmp_path / "pictures" / "red").glob("*.png"))
    brighter = tmp_path / "pictures" / "red" / "copy.png"
    Image.fromarray(np.asarray(Image.open(files[0])) // 16 * 16).save(brighter)
    heads = {"none": "path", "one": "path,label", "declared": "path,split"}
    ends = {"none": [""], "one": [",cat", ","], "declared": [",train", ",test"]}[kind]
    rows = [f"{path}{ends[row % len(ends)]}" for row, path in enumerate([*files, brighter])]
    (tmp_path / "some.csv").write_text("\n".join([heads[kind], *rows]))
    found = ok(work("check", "some.csv", "-p", "lab.yaml", "--features", "--near", "0.9", "--json"))
    assert found["images"] == len(rows)
    assert found["label_errors"] is None
    why = "labels of one class" if kind == "one" else "no labels"
    assert found["notes"] == [f"Label errors were not looked for: these images have {why}."]
    pairs = table(tmp_path / found["near_duplicates"]["csv"])
    assert any({Path(one["path"]).name, Path(one["path_2"]).name} == {files[0].name, "copy.png"} for one in pairs)
    assert {one["split"] for one in pairs} <= ({"train", "test"} if kind == "declared" else {""})
    assert {one["across_parts"] for one in pairs} >= ({"no", "yes"} if kind == "declared" else {"no"})
    shown = work("check", "some.csv", "-p", "lab.yaml", "--features", "--html")
    assert "Label errors were not looked for" in shown.out, shown.err
    monkeypatch.chdir(tmp_path)
    again = featx.check("some.csv", features=True, pipeline="lab.yaml", html=False)
    assert again.quality.errors is None
    assert repr(again).startswith(f"<featx Review: {len(rows)} images compared by ")


def test_an_outlier_of_several_labels_is_one_of_each_of_them() -> None:
    random = np.random.default_rng(0)
    centre = np.eye(3)[[0] * 20 + [1] * 20 + [2] * 20] * 5
    x = (centre + random.normal(0, 0.3, centre.shape)).astype(np.float32)
    y = np.zeros((60, 2), bool)
    y[:20, 0], y[20:40, 1] = True, True  # the last twenty have no label
    x[0] = [0, 5, 0]  # among those of the second label
    x[20], x[40] = [-5, 0, -5], [-5, -5, 0]
    features = ArrayFeatures(x)
    assert set(find_outliers(features, y).rows.tolist()) == {0, 20, 40}
    y[0, 1] = True  # which it now has
    assert set(find_outliers(features, y).rows.tolist()) == {20, 40}
    one = find_outliers(features, np.repeat([0, 1, 2], 20))
    same = find_outliers(features, np.repeat(np.eye(3, dtype=bool), 20, axis=0))
    np.testing.assert_array_equal(one.rows, same.rows)
    np.testing.assert_array_equal(one.score, same.score)


def test_what_is_suspicious_is_one_page(work: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "pictures" / "red" / "0-07.png").rename(tmp_path / "pictures" / "blue" / "<b>wrong.png")
    found = ok(work("check", "-p", "lab.yaml", "--features", "--html", "--near", "0.9999", "--json"))
    assert found["report"] == f"{found['out']}/index.html"
    page = (tmp_path / found["report"]).read_text()
    for kind in ("label_errors", "near_duplicates", "outliers"):
        rows = table(tmp_path / found[kind]["csv"])
        picture = found[kind]["grid"] and (tmp_path / found[kind]["grid"]).read_bytes()
        assert (picture is not None) == bool(rows)
        if picture:
            assert base64.b64encode(picture).decode() in page
        for row in rows[:200]:
            assert all(html.escape(cell) in page for cell in row.values())
    assert "&lt;b&gt;wrong.png" in page
    assert "<b>" not in page
    assert "relabel apply" in page
    assert "url(" not in page
    assert "http" not in re.sub(r"http-equiv", "", re.sub(r'src="data:[^"]*"', "", page))
    again = ok(work("check", "-p", "lab.yaml", "--features", "--no-html", "--json"))
    assert again["report"] is None
    assert not (tmp_path / found["report"]).exists()


# --- relabel -----------------------------------------------------------------------------------------------------


def test_corrected_labels_cost_no_extraction_and_move_no_image(work: Callable[..., Outcome], tmp_path: Path) -> None:
    copy = tmp_path / "pictures" / "blue" / "wrong-copy.png"  # of the same bytes as a wrong one
    shutil.copy(tmp_path / "pictures" / "blue" / "wrong-0-05.png", copy)
    ok(work("check", "-p", "lab.yaml", "--features", "--json"))
    split = parts_of(tmp_path / "runs" / "lab" / "split" / "split.npz")
    rows = table(tmp_path / "runs" / "lab" / "check" / "label_errors.csv")
    corrected = [row | {"label": row["suggested"]} for row in rows if "wrong-" in row["path"]]
    assert sorted(row["path"] for row in corrected) == [f"blue/wrong-{end}.png" for end in ("0-05", "0-13", "copy")]
    write(tmp_path / "fixed.csv", corrected)

    extracted = work("extract", "-p", "lab.yaml", "--relabel", "fixed.csv", "--json")
    assert ok(extracted)["computed"] == 0
    assert "fixed.csv: 3 of 61 labels changed, 0 as they were" in extracted.err
    fitted = work("fit-head", "-p", "lab.yaml", "--relabel", "fixed.csv", "--json")
    assert "3 of 61 labels changed" in fitted.err
    bundle = tmp_path / ok(fitted)["bundle"]
    assert parts_of(bundle / "split.npz") == split
    assert len(split) == 60  # none is left out as a conflict
    assert parts_of(tmp_path / "runs" / "lab" / "split" / "split.npz") == split

    # The same labels from the folders give the same head.
    shutil.move(tmp_path / "pictures" / "blue" / "wrong-0-05.png", tmp_path / "pictures" / "red" / "0-05.png")
    shutil.move(tmp_path / "pictures" / "blue" / "wrong-0-13.png", tmp_path / "pictures" / "red" / "0-13.png")
    copy.unlink()
    moved = tmp_path / ok(work("fit-head", "-p", "lab.yaml", "--json"))["bundle"]
    np.testing.assert_allclose(uncalibrated(bundle), uncalibrated(moved), atol=1e-2)  # where the solver stops
    ok(work("run", "-p", "lab.yaml", "--set", "data.relabel=", "--set", "finetune.enabled=false", "--json"))


def test_paths_are_absolute_or_relative_to_the_data(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "pictures", per_class=2)
    plain = read_images(str(root), DataOptions())
    rows = [("red/0-00.png", "blue"), (str(root / "green" / "0-01.png"), "red"), ("blue/0-00.png", "blue")]
    (tmp_path / "new.csv").write_text("path,label\n" + "\n".join(map(",".join, rows)))
    images = read_images(str(root), DataOptions(relabel=str(tmp_path / "new.csv")))
    assert [images.label_names(row)[0] for row in range(6)] == ["blue", "blue", "green", "red", "blue", "red"]
    assert images.paths == plain.paths
    assert images.notes[-1] == f"{tmp_path / 'new.csv'}: 2 of 6 labels changed, 1 as they were"
    assert read_images(str(root), DataOptions()).label_names(3) == ("green",)

    (tmp_path / "index.csv").write_text("path,label\npictures/red/0-00.png,red\npictures/blue/0-00.png,blue\n")
    (tmp_path / "new.csv").write_text("label;path\nblue;pictures/red/0-00.png\n")
    images = read_images(str(tmp_path / "index.csv"), DataOptions(relabel=str(tmp_path / "new.csv")))
    assert images.labels is not None
    assert images.labels.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\nred/gone.png,red", ["line 2: red/gone.png", "not among the 6 images", "relative to"]),
        ("path,label\nred/0-00.png,gren", ["line 2: 'gren'", "Did you mean 'green'?"]),
        ("path,label\nred/0-00.png,", ["line 2: ''", "blue, green, red", "Delete the row"]),
        ("path,label\nred/0-00.png,red\nred/0-00.png,blue", ["lines 2 and 3", "two labels"]),
        ("path,class\nred/0-00.png,red", ["No column 'label'"]),
        ("file,label\nred/0-00.png,red", ["No column 'path'"]),
        (None, ["No file", "featx check --features"]),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, text: str | None, words: list[str]) -> None:
    root = write_pictures(tmp_path / "pictures", per_class=2)
    if text is not None:
        (tmp_path / "new.csv").write_text(text)
    with pytest.raises(DataError) as error:
        read_images(str(root), DataOptions(relabel=str(tmp_path / "new.csv")))
    for word in words:
        assert word in str(error.value)


def test_sets_without_one_label_per_image_are_refused(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "pictures", per_class=2)
    (tmp_path / "new.csv").write_text("path,label\nred/0-00.png,red\n")
    options = DataOptions(relabel=str(tmp_path / "new.csv"))
    with pytest.raises(DataError, match="has no labels"):
        read_images([str(root / "red"), str(root / "blue")], options)
    (tmp_path / "index.csv").write_text("path,label\npictures/red/0-00.png,red$blue\n")
    with pytest.raises(DataError, match="several labels per image"):
        read_images(str(tmp_path / "index.csv"), replace(options, label_separator="$"))


# --- similar -----------------------------------------------------------------------------------------------------


def test_an_image_is_most_like_itself_and_then_what_brute_force_says(
    lab: Lab, work: Callable[..., Outcome], tmp_path: Path
) -> None:
    sample, extraction = lab.prepared.sample, lab.prepared.extraction
    features = extraction.features(extraction.outputs[0], sample.rows).asarray().astype(np.float64)
    names = [Path(sample.images.paths[row]) for row in sample.rows]
    asked = names[25]
    order = np.argsort(-cosine_similarity(features[25:26], features)[0])[:4]
    expected = [(names[i].name, names[i].parent.name) for i in order]
    common = (asked, "-p", "lab.yaml", "--data", lab.root / "pictures", "--top", "4", "--json")
    by_cache = ok(work("similar", *common, "--out", "grid.png"))
    by_model = ok(work("similar", *common, "--model", lab.bundle("logreg").path))
    for found in (by_cache, by_model):
        (one,) = found["images"]
        assert one["path"] == str(asked)
        assert [(Path(near["path"]).name, near["label"]) for near in one["similar"]] == expected
        assert one["similar"][0]["path"] == str(asked)
        assert one["similar"][0]["similarity"] == pytest.approx(1, abs=1e-6)
        similarity = [near["similarity"] for near in one["similar"]]
        np.testing.assert_allclose(
            similarity, np.sort(cosine_similarity(features[25:26], features)[0])[::-1][:4], atol=1e-4
        )
    with Image.open(tmp_path / by_cache["out"]) as grid:
        assert grid.width > grid.height


def test_new_images_and_bad_ones(work: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("text")
    Image.new("RGB", (40, 30), (170, 80, 70)).save(tmp_path / "new.png")
    shutil.copy(tmp_path / "pictures" / "red" / "0-07.png", tmp_path / "pictures" / "red" / "copy.png")
    found = ok(work("similar", "bad.png", "new.png", "-p", "lab.yaml", "--top", "100", "--json"))
    assert [one["path"] for one in found["bad"]] == [str(tmp_path / "bad.png")]
    (one,) = found["images"]
    assert len(one["similar"]) == 60  # images of the same bytes once
    shown = work("similar", "new.png", "-p", "lab.yaml", "--top", "2")
    assert shown.out.splitlines()[0].split() == ["image", "similar", "class", "similarity"]
    assert len(shown.out.splitlines()) == 3
    assert work("similar", "bad.png", "-p", "lab.yaml").status == 1
    unlabelled = ok(work("similar", "new.png", "-p", "lab.yaml", "--data", "pictures/red", "--top", "1", "--json"))
    assert unlabelled["images"][0]["similar"][0]["label"] is None


def test_a_bundle_needs_its_own_features_in_the_cache(lab: Lab, tmp_path: Path) -> None:
    bundle, pictures = lab.bundle("logreg"), lab.prepared.sample.images
    cache = Cache(lab.root / "cache")
    with pytest.raises(BundleError, match=r"holds no features of the network.*featx extract"):
        search_with_bundle(lab.pictures[:1], pictures, bundle, Cache(tmp_path / "empty"), 1)
    more = read_images([str(write_pictures(tmp_path / "more", 2, seed=5) / "red")], DataOptions())
    with pytest.raises(BundleError, match=r"None of the 2 images.*Run featx extract"):
        search_with_bundle(lab.pictures[:1], more, bundle, cache, 1)
    both = read_images([*lab.pictures[:3], *more.paths], DataOptions())
    done = search_with_bundle(lab.pictures[:1], both, bundle, cache, 9)
    assert len(done.found[0].similar) == 3
    assert done.notes[0].startswith("2 images have no such features")
    tuned = replace(bundle, manifest=replace(bundle.manifest, origin=OriginRecord("1-logreg")))
    with pytest.raises(BundleError, match=r"is fine-tuned.*1-logreg"):
        search_with_bundle(lab.pictures[:1], pictures, tuned, cache, 1)
    cache.close()
