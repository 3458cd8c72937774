"""featx compare: what is planned, that rows are what single commands give, that nothing is done twice, and the page."""

from __future__ import annotations

import csv
import io
import json
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cached import images_of_part
from conftest import environment, save_backbone
from fitted import Outcome, call, write_backbone, write_pictures
from forked import Forked
from PIL import Image
from test_report import open_page

from featx.backbones import resolve
from featx.backbones.listing import list_depths
from featx.bundle.bundle import load_bundle
from featx.comparing.plan import plan
from featx.comparing.ties import judge_ties
from featx.config import CompareOptions, FeaturesOptions, Pipeline
from featx.config.pipeline import read_pipeline
from featx.errors import UsageError
from featx.inference.judge import judge
from featx.io.index import StatIndex
from featx.metrics.shares import wilson
from featx.report.compared import Place, Row
from featx.report.comparison import headings_and_cells, write_comparison
from featx.report.tradeoffs import pareto_front
from featx.runs.run import Run

PIPELINES = Path(__file__).parent.parent / "pipelines"


@pytest.fixture(autouse=True)
def _op_by_op(op_by_op: None) -> None:
    """No network here is trained for more than some steps."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of pictures and two small networks, which take 32 and 16 pixels."""
    folder = tmp_path_factory.mktemp("compare")
    write_pictures(folder / "warm", per_class=12)
    write_pictures(folder / "cold", per_class=12, seed=1)
    write_backbone(folder / "tiny.keras")
    save_backbone(folder / "other.keras")
    return folder


def write_pipeline(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def planned(tmp_path: Path, text: str) -> Any:
    return plan(read_pipeline(write_pipeline(tmp_path / "some.yaml", text)))


# --- what is planned ---------------------------------------------------------------------------------------------


def test_every_combination_has_its_options(tmp_path: Path) -> None:
    passes = planned(
        tmp_path,
        """
        data: {seed: 3}
        features: {pooling: max}
        head: {clf: svm, strength: 2}
        finetune: {epochs: 7}
        compare:
          data: [one, two/leaves.csv]
          backbone: [VGG16, InceptionV3]
          input_size: [96, 128]
          layer: [blocks, last@grid:2]
          clf: [logreg, estimator]
          stage: [head, from-cache, finetuned]
          override:
            leaves: {data.label_column: species, features.resize: crop}
            InceptionV3: {features.layer: mixed7, finetune.from_cache: mixed5}
            VGG16: {finetune.from_cache: block4_pool}
            estimator: {head.estimator: sklearn.naive_bayes.GaussianNB, head.strength: null}
            finetuned: {finetune.epochs: 9}
        """,
    )
    assert len(passes) == 2 * 2 * 2
    first, last = passes[0], passes[-1]
    assert [one.data for one in passes] == ["one"] * 4 + ["leaves"] * 4
    assert (first.pipeline.features.backbone, first.pipeline.features.input_size) == ("VGG16", 96)
    assert first.pipeline.features.layer == ("blocks", "last@grid:2")
    assert first.pipeline.features.pooling == ("max",)
    assert (first.pipeline.data.label_column, first.pipeline.data.seed) == ("label", 3)
    assert first.pipeline.report.name == "some/one"
    assert last.pipeline.features.layer == ("mixed7",)
    assert (last.pipeline.data.label_column, last.pipeline.features.resize) == ("species", "crop")
    assert last.pipeline.data.path == "two/leaves.csv"
    combinations = {(one.clf, one.stage): one.pipeline for one in last.combinations}
    assert list(combinations) == [
        (clf, stage) for clf in ("logreg", "estimator") for stage in ("head", "from-cache", "finetuned")
    ]
    assert combinations["logreg", "head"].head.strength == 2
    assert combinations["estimator", "head"].head.estimator == "sklearn.naive_bayes.GaussianNB"
    assert combinations["logreg", "from-cache"].finetune.from_cache == "mixed5"
    assert combinations["logreg", "from-cache"].finetune.epochs == 7
    assert combinations["logreg", "finetuned"].finetune.from_cache is None
    assert combinations["logreg", "finetuned"].finetune.epochs == 9


def test_without_a_section_there_is_one_combination(tmp_path: Path) -> None:
    (only,) = planned(tmp_path, "data: {path: x}\nfeatures: {layer: mixed7}\nhead: {clf: ridge}")
    assert [(one.clf, one.stage) for one in only.combinations] == [("ridge", "head")]
    assert (only.data, only.pipeline.features.layer) == ("x", ("mixed7",))


def test_the_five_data_sets_are_forty_models() -> None:
    passes = plan(read_pipeline(PIPELINES / "five_datasets.yaml"))
    assert sum(len(one.combinations) for one in passes) == 40
    unfrozen = {one.pipeline.features.backbone: one.combinations[1].pipeline.finetune.unfreeze for one in passes}
    assert unfrozen == {"VGG16": "all", "VGG19": "all", "InceptionV3": "217", "Xception": "38"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("compare: {data: [a/x, b/x]}", "a/x and b/x are both called 'x'. Give one of them another name"),
        (
            "compare: {backbone: [Xception], override: {Xceptoin: {}}}",
            "'Xceptoin' is not something.*Did you mean 'Xception'",
        ),
        ("compare: {override: {svm: {head.clf: knn}}, clf: [svm]}", "head.clf cannot differ by clf"),
        ("compare: {override: {svm: {data.seed: 1}}, clf: [svm]}", "data.seed cannot differ by clf"),
        ("compare: {override: {VGG16: {data.split: 1}}, backbone: [VGG16]}", "data.split cannot differ by backbone"),
        ("compare: {override: {head: {epochs: 1}}}", "compare.override of head takes keys like features.layer"),
        ("compare: {override: {head: {tune.epochs: 1}}}", "No section 'tune'.*Did you mean 'finetune'"),
        ("compare: {override: {head: {finetune.epoch: 1}}}", "unknown key 'finetune.epoch'. Did you mean 'epochs'"),
        (
            "compare: {data: [svm], clf: [svm], override: {svm: {}}}",
            "'svm' could be clf svm or data svm. Write it in full",
        ),
        ("compare: {stage: [from-cache]}", "stage from-cache trains above a layer of EfficientNetLite0, and none"),
    ],
)
def test_what_cannot_be_planned_is_said_before_anything_is_done(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        planned(tmp_path, f"data: {{path: photos}}\n{text}")


def test_no_images_and_overrides_of_what_is_not_compared_now() -> None:
    with pytest.raises(UsageError, match="No images"):
        plan(Pipeline())
    options = CompareOptions(data=("x",), backbone=("VGG16",), override={"Xception": {"finetune.unfreeze": 38}})
    (only,) = plan(Pipeline(compare=options))
    assert only.combinations[0].pipeline.finetune.unfreeze == "all"


# --- depth -------------------------------------------------------------------------------------------------------


def test_where_a_residual_network_is_cut(tmp_path: Path) -> None:
    import keras
    from keras import layers

    inputs = keras.Input((16, 16, 3))
    x = layers.ZeroPadding2D(1, name="pad")(inputs)
    x = layers.Conv2D(4, 3, 2, name="block1_conv")(x)
    x = first = layers.ReLU(name="block1_relu")(x)
    x = layers.Conv2D(4, 3, padding="same", name="block2_conv")(x)
    x = layers.Add(name="block2_add")([x, first])
    x = layers.Conv2D(6, 3, 2, name="block3_conv")(x)
    x = layers.ReLU(name="block3_relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    keras.Model(inputs, layers.Dense(2, name="logits")(x)).save(tmp_path / "net.keras")
    spec = resolve(FeaturesOptions(backbone=str(tmp_path / "net.keras")))
    with StatIndex(tmp_path / "index.sqlite") as index:
        found = list_depths(spec, index)
        again = list_depths(spec, index)
    # block2_conv is passed by, pad computes nothing, pool and logits are the classifier
    assert [one.name for one in found] == ["block1_conv", "block1_relu", "block2_add", "block3_conv", "block3_relu"]
    assert [one.name for one in found if one.ends] == ["block1_relu", "block2_add", "block3_relu"]
    costs = np.cumsum([8 * 8 * 9 * 3 * 4, 8 * 8 * 9 * 4 * 4, 3 * 3 * 9 * 4 * 6])
    shares = costs / (costs[-1] + 6 * 2)
    assert [one.share for one in found] == pytest.approx([shares[0], shares[0], shares[1], shares[2], shares[2]])
    assert again == found  # as it was remembered


# --- tables and pictures -----------------------------------------------------------------------------------------


def test_the_front_is_what_nothing_beats() -> None:
    random = np.random.default_rng(0)
    costs, values = random.integers(0, 12, 60).tolist(), random.integers(0, 12, 60).tolist()
    front = pareto_front(costs, values)
    beaten = [
        any(
            c <= costs[i] and v >= values[i] and (c, v) != (costs[i], values[i])
            for c, v in zip(costs, values, strict=True)
        )
        for i in range(60)
    ]
    assert {(costs[i], values[i]) for i in front} == {(costs[i], values[i]) for i in range(60) if not beaten[i]}
    assert [costs[i] for i in front] == sorted({costs[i] for i in front})


def rows_of(layers: int = 5) -> list[Row]:
    """Rows as a comparison makes them, with names that are no names of files."""
    rows = []
    for number in range(layers):
        for pooling in ("avg", "max"):
            place = Place("a|b <i>", "net $x$", "64", f"block{number}@{pooling}", "svm", "head")
            rows.append(
                Row(
                    place,
                    metric="accuracy",
                    score=0.5 + number / 10,
                    where="val",
                    val_accuracy=0.5 + number / 10,
                    test_accuracy=0.45 + number / 10,
                    low=0.4 + number / 10,
                    high=0.5 + number / 10,
                    test_images=40,
                    extract_seconds=12.3,
                    fit_seconds=0.25,
                    features=1280 * (number + 1),
                    bytes=12_340_000,
                    images_per_second=1500.0 / (number + 1),
                    share=number / layers,
                    best=(number, pooling) == (layers - 1, "avg"),
                )
            )
    tuned = replace(rows[-1], place=replace(rows[-1].place, stage="finetuned"), gain=-0.1, helped=False)
    failed = Row(replace(rows[0].place, backbone="gone"), reason="Cannot download | the weights.")
    return [*rows, tuned, failed]


def test_the_files_of_a_table_name_no_folder_of_this_machine(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "lab"
    bundle = folder / "pictures" / "1-svm"
    bundle.mkdir(parents=True)
    kept, failed, *_ = rows_of(1)
    rows = [
        replace(kept, bundle=str(bundle), digest="d"),
        replace(failed, reason=f"Cannot load {bundle}/backbone.keras: damaged."),
    ]
    write_comparison(folder, "a title", rows, plots=None)
    with open(folder / "table.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["bundle"] for line in lines] == ["pictures/1-svm", ""]
    assert lines[1]["reason"] == "Cannot load backbone.keras: damaged."
    assert all(str(tmp_path) not in (folder / name).read_text() for name in ("table.csv", "table.md"))


def test_the_table_in_every_form(tmp_path: Path) -> None:
    rows = rows_of()
    files = write_comparison(tmp_path, "a title", rows, "featx compare", "data: {}")
    assert files == {
        name: str(tmp_path / path)
        for name, path in {"csv": "table.csv", "markdown": "table.md", "report": "index.html"}.items()
    }
    with open(tmp_path / "table.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["layer"] for line in lines] == [row.place.layer for row in rows]
    assert [line["test_accuracy"] for line in lines[:2]] == ["0.45", "0.45"]
    assert (lines[-1]["test_accuracy"], lines[-1]["reason"]) == ("", "Cannot download | the weights.")
    assert (lines[-2]["gain"], lines[-2]["helped"], lines[-2]["stage"]) == ("-0.1", "False", "finetuned")
    markdown = (tmp_path / "table.md").read_text().splitlines()
    assert len(markdown) == len(rows) + 2
    assert len({line.replace("\\|", "").count("|") for line in markdown}) == 1
    assert "0.40 - 0.50" in markdown[2]
    page = open_page(tmp_path / "index.html")
    table = [row for row in page.rows if len(row) > 5]
    headings, cells = headings_and_cells(rows)
    same = [place for place, column in enumerate(zip(*cells, strict=True)) if len(set(column)) == 1]
    assert {headings[place] for place in same} >= {"data", "head"}
    said = [f"{headings[place]} {cells[0][place]}" for place in same if headings[place] in {"data", "size", "head"}]
    assert "The same in all rows: " in page.text
    assert all(text in page.text for text in said)
    below = headings.index("95 % interval")  # is below the test accuracy on the page
    kept = [place for place, heading in enumerate(headings) if f"{heading} {cells[0][place]}" not in said]
    expected = [[row[place] for place in kept if place != below] for row in [headings, *cells]]
    accuracy, note = (expected[0].index(name) for name in ("test accuracy", "note"))
    for line, row, texts in zip(expected[1:], rows, cells, strict=True):
        line[accuracy] += texts[below] if texts[below] != "-" else ""
        line[note] = row.fault  # that a row is within noise of the best is marked in its first column
    assert table == expected
    assert dict(zip(headings, cells[-2], strict=True))["note"] == "fine-tuning did not help"
    assert dict(zip(headings, cells[-2], strict=True))["gain"] == "-0.10"
    assert [row[0] for row in cells].count("*") == 1
    # one file that loads nothing: scripts, pictures and styles are in it
    assert all(str(one["src"]).startswith("data:image/png") for one in page.all("img"))
    assert not page.all("link")
    assert not [one for one in page.all("script") if one.get("src")]
    assert len(page.all("img")) == 2  # cost and depth
    assert "<i>" not in page.html


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_what_val_cannot_tell_apart_is_a_tie(metric: str) -> None:
    """Thirty val images: 27 right against 26 is nothing, against 10 is something."""
    from manifests import manifest_of

    lower = metric == "log_loss"
    rows, manifests = [], []
    for number, right in enumerate((27, 26, 10, 27)):
        value, interval = right / 30, wilson(right / 30, 30, 1.96)
        if lower:
            value, interval = 1 - value, (1 - interval[1], 1 - interval[0])
        score = {"metric": metric, "value": value, "where": "val"}
        metrics = {"val": {"images": 30, "accuracy": value, metric: value, "intervals": {metric: list(interval)}}}
        manifests.append(manifest_of(score=score, metrics=metrics))
        place = Place("data" if number < 3 else "other", "net", "64", f"block{number}", "svm", "head")
        rows.append(Row(place, best=number in {0, 3}, metric=metric, score=value, where="val"))
    found = judge_ties(rows, manifests)
    assert [row.tie for row in found] == [True, True, False, True]
    assert found[1].note == "within noise of the best"
    low, high = found[2].behind_low, found[2].behind_high
    # Newcombe's square-and-add interval of 27 of 30 less 10 of 30
    one, other = wilson(0.9, 30, 1.96), wilson(1 / 3, 30, 1.96)
    lead = 0.9 - 1 / 3
    assert low == pytest.approx(lead - ((0.9 - one[0]) ** 2 + (other[1] - 1 / 3) ** 2) ** 0.5)
    assert high == pytest.approx(lead + ((one[1] - 0.9) ** 2 + (1 / 3 - other[0]) ** 2) ** 0.5)
    headings, cells = headings_and_cells(found)
    assert [line[headings.index("best")] for line in cells] == ["*", "=", "", "*"]
    assert judge_ties(rows, [None] * 4) == rows


def test_pictures_go_with_what_they_showed(tmp_path: Path) -> None:
    rows = rows_of()
    write_comparison(tmp_path, "all", rows)
    drawn = sorted(path.name for path in tmp_path.glob("*.png"))
    assert [name.partition("-")[0] for name in drawn] == ["cost", "depth"]
    for name in drawn:
        with Image.open(tmp_path / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 5  # something is drawn
    write_comparison(tmp_path, "two layers", rows[:4])
    assert sorted(path.name for path in tmp_path.glob("*.png")) == drawn[:1]  # too few layers for a line
    write_comparison(tmp_path, "no page", rows, plots=None)
    assert not (tmp_path / "index.html").exists()
    assert not list(tmp_path.glob("*.png"))


# --- from the command line ---------------------------------------------------------------------------------------

BLOCKS = """
data: {{path: {root}/warm, split: [0.5, 0.25, 0.25]}}
features: {{cache: {root}/cache, storage: float32}}
head: {{strength: 1}}
finetune: {{epochs: 1, batch_size: 9, from_cache: stem_relu}}
compare:
  backbone: [{root}/tiny.keras, {root}/other.keras, Atlantis]
  layer: [blocks, attic]
  clf: [logreg, knn]
  override:
    {root}/other.keras: {{features.layer: [low, high]}}
    knn: {{head.strength: 3}}
"""


@pytest.fixture(scope="module")
def blocks(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A comparison with what can fail in it, and the folder that it ran in."""
    folder = tmp_path_factory.mktemp("blocks")
    write_pipeline(folder / "blocks.yaml", BLOCKS.format(root=root))
    return folder, call("compare", "-p", "blocks.yaml", "--json", cwd=folder)


def test_what_fails_is_a_line_with_its_reason(blocks: tuple[Path, Outcome], root: Path) -> None:
    folder, done = blocks
    assert done.status == 1
    assert done.sentence == "featx: 6 of 16 combinations failed; the table says why."
    found = done.json
    assert found["failed"] == 6
    rows = found["rows"]
    reasons = {(row["backbone"], row["layer"], row["clf"]): row["reason"] for row in rows if row["reason"]}
    assert len(reasons) == 6
    for clf in ("logreg", "knn"):
        assert "No backbone 'Atlantis'" in reasons["Atlantis", "blocks", clf]
        assert "No layer 'attic' in tiny" in reasons["tiny", "attic@avg", clf]
    good = [row for row in rows if not row["reason"]]
    assert [(row["backbone"], row["layer"]) for row in good[::2]] == [
        ("tiny", "stem_relu@avg"),
        ("tiny", "body@avg"),
        ("tiny", "last@avg"),
        ("other", "low@avg"),
        ("other", "high@avg"),
    ]
    assert found["computed"] == {"images": 2 * 36, "heads": 10, "trainings": 0, "speeds": 10}  # each backbone once
    assert [row["features"] for row in good[::2]] == [8, 16, 16, 6, 8]
    assert {row["input_size"] for row in good} == {"32", "16"}
    shares = [row["share"] for row in good if row["backbone"] == "tiny"][::2]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    for row in good:
        assert row["images_per_second"] > 0
        assert row["extract_seconds"] > 0
        assert row["fit_seconds"] > 0
        bundle = folder / row["bundle"]
        files = load_bundle(bundle).manifest.files
        assert row["bytes"] == sum((bundle / name).stat().st_size for name in files)


def test_the_best_is_that_of_validation(blocks: tuple[Path, Outcome]) -> None:
    folder, done = blocks
    rows = [row for row in done.json["rows"] if not row["reason"]]
    best = max(rows, key=lambda row: row["val_accuracy"])
    assert [row["bundle"] for row in rows if row["best"]] == [best["bundle"]] == [done.json["best"]["warm"]]
    page = open_page(folder / "runs" / "blocks" / "index.html")
    assert f"The best of warm by its score: {best['backbone']}, {best['layer']}" in page.text
    assert len(page.all("img")) == 2  # three layers of tiny by depth, two of other are too few; what they cost


def test_a_row_is_what_a_single_command_gives(blocks: tuple[Path, Outcome], root: Path, tmp_path: Path) -> None:
    _, done = blocks
    row = next(one for one in done.json["rows"] if (one["layer"], one["clf"]) == ("body@avg", "logreg"))
    options = ["--backbone", root / "tiny.keras", "--layer", "body", "--storage", "float32", "--cache", root / "cache"]
    options += ["--split", "0.5,0.25,0.25", "--strength", "1", "--no-html", "--json"]
    alone = call("fit-head", root / "warm", *options, cwd=tmp_path).json
    for part in ("val", "test"):
        assert row[f"{part}_accuracy"] == alone[part]["accuracy"]
    assert [row["low"], row["high"]] == alone["test"]["intervals"]["accuracy"]
    assert row["test_images"] == alone["test"]["images"]


def test_again_with_training_only_the_training_is_new(blocks: tuple[Path, Outcome], root: Path) -> None:
    folder, first = blocks
    more = ["--backbone", str(root / "tiny.keras"), "--layer", "body", "--stage", "head,from-cache", "--no-html"]
    done = call("compare", "-p", "blocks.yaml", *more, "--json", cwd=folder)
    assert done.status == 1
    found = done.json
    assert found["computed"] == {"images": 0, "heads": 0, "trainings": 1, "speeds": 1}
    rows = {(row["clf"], row["stage"]): row for row in found["rows"]}
    assert "is not a network" in rows["knn", "from-cache"]["reason"]
    before = {row["digest"]: row for row in first.json["rows"] if row["digest"]}
    head, tuned = rows["logreg", "head"], rows["logreg", "from-cache"]
    known = before[head["digest"]]
    assert {**head, "best": None} == {**known, "best": None}
    manifest = load_bundle(folder / tuned["bundle"]).manifest
    assert manifest.origin.digest == head["digest"]
    assert manifest.finetune.options["from_cache"] == "stem_relu"
    assert tuned["gain"] == pytest.approx(tuned["test_accuracy"] - head["test_accuracy"])
    assert tuned["helped"] == (tuned["val_accuracy"] > head["val_accuracy"])


def test_wrong_usage_computes_nothing(root: Path, tmp_path: Path) -> None:
    write_pipeline(tmp_path / "wrong.yaml", BLOCKS.format(root=root).replace("knn: {", "knnn: {"))
    done = call("compare", "-p", "wrong.yaml", cwd=tmp_path)
    assert done.status == 2
    assert "'knnn' is not something that is compared. Did you mean 'knn'?" in done.sentence
    assert not (tmp_path / "runs").exists()
    assert call("compare", "--clf", "forest", root / "warm", cwd=tmp_path).status == 2


# --- five data sets in small -------------------------------------------------------------------------------------

MODELS = 2 * 2 * 2 * 2  # data sets, networks, heads, stages; `blocks` has several layers of a network


@pytest.fixture
def five(root: Path, tmp_path: Path) -> list[str]:
    """The command for the published comparison with two folders, two small networks and two heads."""
    override = {
        str(root / "tiny.keras"): {"features.layer": ["body"]},
        str(root / "other.keras"): {"features.layer": ["high"], "finetune.unfreeze": "1"},
        "ridge": {"head.strength": 1.0},
    }
    settings = [
        f"compare.backbone=[{root / 'tiny.keras'}, {root / 'other.keras'}]",
        "compare.clf=[dense, ridge]",
        f"compare.override={json.dumps(override)}",
        "features.weights=auto",
        "features.storage=float32",
        f"features.cache={tmp_path / 'cache'}",
        "data.split=[0.5, 0.25, 0.25]",
        "head.hidden=8",
        "head.epochs=2",
        "finetune.epochs=1",
        "report.html=false",
    ]
    return [
        *("compare", str(root / "warm"), str(root / "cold"), "-p", str(PIPELINES / "five_datasets.yaml")),
        *(part for setting in settings for part in ("--set", setting)),
        "--json",
    ]


def bundles_of(folder: Path) -> dict[Path, int]:
    """When each bundle was written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("runs/five_datasets/*/[0-9]*/bundle.json")}


def wait_until(done: Callable[[], bool], process: Forked) -> None:
    give_up = time.monotonic() + 150
    while process.poll() is None and not done():
        assert time.monotonic() < give_up
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_five_data_sets_in_small_killed_and_resumed(five: list[str], root: Path, tmp_path: Path) -> None:
    process = Forked(five, tmp_path, environment())
    wait_until(lambda: len(bundles_of(tmp_path)) >= 5, process)
    process.kill()
    process.communicate()
    kept = bundles_of(tmp_path)
    assert 5 <= len(kept) < MODELS
    done = call(*five, cwd=tmp_path)
    assert done.status == 0, done.err
    found = done.json
    assert found["computed"]["heads"] + found["computed"]["trainings"] == MODELS - len(kept)
    made = bundles_of(tmp_path)
    assert kept.items() <= made.items()  # not one was made again
    assert len(made) == MODELS
    assert {(row["data"], row["backbone"], row["layer"], row["clf"], row["stage"]) for row in found["rows"]} == {
        (data, backbone, f"{layer}@avg", clf, stage)
        for data in ("warm", "cold")
        for backbone, layer in (("tiny", "body"), ("other", "high"))
        for clf in ("dense", "ridge")
        for stage in ("head", "finetuned")
    }
    for row in found["rows"]:
        check_row(row, root, tmp_path)
    for data in ("warm", "cold"):
        rows = [row for row in found["rows"] if row["data"] == data]
        assert found["best"][data] == max(rows, key=lambda row: row["val_accuracy"])["bundle"]
    again = call(*five, cwd=tmp_path).json
    assert again.pop("computed") == dict.fromkeys(("images", "heads", "trainings", "speeds"), 0)
    assert again == {name: value for name, value in found.items() if name != "computed"}
    assert bundles_of(tmp_path) == made


def check_row(row: dict[str, Any], root: Path, folder: Path) -> None:
    """A row against its bundle, which predicts the images of each part anew."""
    bundle = load_bundle(folder / row["bundle"])
    pipeline = Pipeline(features=FeaturesOptions(cache=str(folder / "cache")))
    pipeline = replace(pipeline, data=replace(pipeline.data, path=str(root / row["data"])))
    for part in ("val", "test"):
        images, _ = images_of_part(pipeline, bundle, part)
        judged, bad = judge(bundle, images, part)
        assert not bad
        accuracy = np.mean(judged.probabilities.argmax(axis=1) == judged.labels)
        assert row[f"{part}_accuracy"] == pytest.approx(accuracy), (row["bundle"], part)
    assert row["low"] <= row["test_accuracy"] <= row["high"]
    assert row["test_images"] == len(images)
    assert row["fit_seconds"] == bundle.manifest.seconds
    if row["stage"] == "finetuned":
        beside = [one.manifest for one in Run(bundle.path.parent).bundles()]
        origin = next(one for one in beside if one.digest == bundle.manifest.origin.digest)
        assert row["gain"] == pytest.approx(row["test_accuracy"] - origin.metrics_on("test").get("accuracy"))
        assert row["helped"] == (row["val_accuracy"] > origin.metrics_on("val").get("accuracy"))


def test_the_text_of_a_finished_comparison(blocks: tuple[Path, Outcome], root: Path) -> None:
    folder, first = blocks
    done = call("compare", "-p", "blocks.yaml", "--no-html", cwd=folder)
    assert done.status == 1
    rows = first.json["rows"]
    lines = done.out.splitlines()
    assert len([line for line in lines if " svm " in line or " logreg " in line or " knn " in line]) == len(rows)
    assert "score: accuracy on val; * marks the best of each data set by it, = what is within noise of it" in lines
    assert f"best of warm: {first.json['best']['warm']}" in lines
    table = list(csv.DictReader(io.StringIO((folder / "runs" / "blocks" / "table.csv").read_text())))
    assert [line["digest"] for line in table] == [row["digest"] or "" for row in rows]
