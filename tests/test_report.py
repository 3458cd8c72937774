"""The report: its numbers are scikit-learn's, its page needs nothing else, its figures hold all of their text."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from fitted import Lab, Outcome, call, make_lab
from manifests import changed, manifest_of
from PIL import Image
from sklearn import metrics

import featx.report
from featx.bundle.records import CandidateRecord
from featx.config.pipeline import as_yaml
from featx.io.csvtext import read_rows
from featx.metrics.measures import measure
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.table import forms_of, metric_label, shown_keys
from featx.report import gallery, plots
from featx.report.curves import precision_recall_curves, roc_curves
from featx.report.figure_folder import FigureFolder
from featx.report.figures import kept_epoch, strength_lines
from featx.report.occasions import history_of
from featx.report.plot_style import style
from featx.report.report import Content, write_report
from featx.report.scores import score_part
from featx.runs.origin import count_classes

ODD = ("<script>alert(1)</script>", "$a_b^2$", "größe & 'maß'", "a very long name of a class that goes on for ever")


def draw(
    classes: int, n: int, seed: int = 0, paths: tuple[str, ...] | None = None, part: str = "test"
) -> LabelledPredictions:
    """LabelledPredictions images of a model that is mostly right."""
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), generator.integers(classes, size=n - classes)])
    chances = np.exp(generator.normal(size=(n, classes)) * 1.5 + 3 * np.eye(classes)[labels])
    names = tuple((*ODD, *(f"class {i}" for i in range(classes)))[:classes])
    paths = paths or tuple(f"{i}.png" for i in range(n))
    return LabelledPredictions(labels, chances / chances.sum(axis=1, keepdims=True), names, part=part, paths=paths)


def draw_multilabel(classes: int = 4, n: int = 60) -> LabelledPredictions:
    generator = np.random.default_rng(5)
    labels = generator.random((n, classes)) < 0.4
    chances = 1 / (1 + np.exp(-(generator.normal(size=(n, classes)) + 2 * labels - 1)))
    thresholds = np.linspace(0.3, 0.6, classes)
    return LabelledPredictions(labels, chances, ODD[:classes], thresholds, "test", ("x.png",) * n)


def content_of(*judged: LabelledPredictions, **more: Any) -> Content:
    counts = {"train": dict.fromkeys(judged[-1].classes, 7)} if judged else {}
    return Content("a title", more.pop("manifest", manifest_of()), judged, counts, **more)


@dataclass
class Page(HTMLParser):
    """What a browser would make of a page: tags with attributes, the rows of tables, all text."""

    html: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    text: str = ""
    in_cell: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th"}:
            self.in_cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.in_cell:
            self.rows[-1][-1] += data.strip()

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def part(self, name: str) -> dict[str, str]:
        """The column of a part in the table of metrics."""
        start = next(i for i, row in enumerate(self.rows) if row[:1] == ["metric"])
        head, following = self.rows[start], self.rows[start + 1 :]
        names = {"images", *map(metric_label, (*shown_keys("class"), *shown_keys("labels")))}
        rows = list(takewhile(lambda row: row[0] in names, following))
        return {row[0]: row[head.index(name)] for row in rows}

    def row(self, first: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == first)


def open_page(index: Path) -> Page:
    return Page(index.read_text(encoding="utf-8"))


# --- numbers -----------------------------------------------------------------------------------------------------


def test_areas_are_those_of_scikit_learn() -> None:
    judged = draw(5, 200)
    found = score_part(judged)
    truth = np.eye(5)[judged.labels]
    for code, row in enumerate(found.classes):
        chances = judged.probabilities[:, code]
        assert row["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth[:, code], chances))
        assert row["average_precision"] == pytest.approx(metrics.average_precision_score(truth[:, code], chances))
    for average in ("micro", "macro"):
        areas = metrics.roc_auc_score(truth, judged.probabilities, average=average)
        precisions = metrics.average_precision_score(truth, judged.probabilities, average=average)
        assert found.roc is not None
        assert found.precision_recall is not None
        assert getattr(found.roc, average).area == pytest.approx(areas)
        assert getattr(found.precision_recall, average).area == pytest.approx(precisions)
    assert [curve.area for curve in found.roc.worst(2)] == sorted(row["roc_auc"] for row in found.classes)[:2]


def test_the_numbers_of_a_part_are_those_of_measure() -> None:
    judged = draw(5, 200)
    found, told = score_part(judged), measure(judged).as_json()
    assert found.metrics == {name: told[name] for name in found.metrics}
    assert found.intervals == {name: tuple(both) for name, both in told["intervals"].items()}
    assert found.confusion is not None
    assert found.confusion.tolist() == told["confusion"]


def test_curves_of_too_many_probabilities_are_drawn_from_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = draw(5, 2000)
    whole = score_part(judged)
    monkeypatch.setattr("featx.report.scores._MOST_VALUES", 5 * 1000)
    some = score_part(judged)
    assert (whole.sampled, some.sampled) == (2000, 1000)
    assert some.metrics == whole.metrics
    assert whole.roc is not None
    assert some.roc is not None
    assert some.roc.macro.area == pytest.approx(whole.roc.macro.area, abs=0.02)


def test_an_area_that_is_not_defined_is_none() -> None:
    truth = np.array([[True, False, True], [True, False, False]])  # all, none, some
    chances = np.array([[0.9, 0.1, 0.8], [0.2, 0.3, 0.4]])
    found = roc_curves(truth, chances, ["all", "none", "some"])
    assert found is not None
    assert found.areas() == {"some": 1.0}
    assert precision_recall_curves(truth[:, :2], chances[:, :2], ["all", "none"]) is None


def test_multilabel_numbers_are_those_of_scikit_learn() -> None:
    judged = draw_multilabel()
    found = score_part(judged)
    said = judged.probabilities >= judged.thresholds
    assert found.metrics == {
        "hamming_loss": pytest.approx(metrics.hamming_loss(judged.labels, said)),
        "exact_match": pytest.approx(metrics.accuracy_score(judged.labels, said)),
        "f1_samples": pytest.approx(metrics.f1_score(judged.labels, said, average="samples", zero_division=1.0)),
        "f1_micro": pytest.approx(metrics.f1_score(judged.labels, said, average="micro")),
        "f1_macro": pytest.approx(metrics.f1_score(judged.labels, said, average="macro")),
        "roc_auc_macro": pytest.approx(metrics.roc_auc_score(judged.labels, judged.probabilities)),
        "average_precision_macro": pytest.approx(metrics.average_precision_score(judged.labels, judged.probabilities)),
        "log_loss": pytest.approx(metrics.log_loss(judged.labels.ravel(), judged.probabilities.ravel())),
        "expected_calibration_error": found.reliability.expected_calibration_error,
    }
    assert set(found.intervals) == {one.key for one in forms_of("labels") if one.shares or one.resampling}
    assert all(low < found.metrics[name] < high for name, (low, high) in found.intervals.items())
    assert [row["f1"] for row in found.classes] == pytest.approx(metrics.f1_score(judged.labels, said, average=None))
    assert [row["threshold"] for row in found.classes] == pytest.approx([0.3, 0.4, 0.5, 0.6])
    assert found.confusion is None
    assert found.tables is not None
    np.testing.assert_array_equal(found.tables, metrics.multilabel_confusion_matrix(judged.labels, said))


# --- which images ------------------------------------------------------------------------------------------------


def test_mistakes_come_by_confidence_and_hits_by_doubt() -> None:
    chances = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3], [0.45, 0.55]])
    judged = LabelledPredictions(
        np.array([0, 0, 0, 2, 1]), chances, ("cat", "dog", "unknown"), part="test", paths=tuple("abcde")
    )
    mistakes = gallery.confident_mistakes(judged)
    assert [(one.path, one.caption, one.good) for one in mistakes] == [
        ("c", ("c", "labelled cat", "predicted dog", "80%"), False),
        ("d", ("d", "labelled unknown", "predicted cat", "70%"), False),
        ("b", ("b", "labelled cat", "predicted dog", "60%"), False),
    ]
    assert [(one.path, one.good) for one in gallery.doubtful_hits(judged)] == [("e", True), ("a", True)]


def test_the_worst_images_of_a_multilabel_set_come_by_their_loss() -> None:
    chances = np.array([[0.9, 0.2], [0.1, 0.1], [0.6, 0.9]])
    judged = LabelledPredictions(
        np.array([[1, 0], [1, 1], [1, 0]], bool), chances, ("cat", "dog"), part="test", paths=("a", "b", "c")
    )
    worst = gallery.worst_images(judged)
    assert [one.path for one in worst] == ["b", "c", "a"]
    assert worst[0].caption == ("b", "labelled cat, dog", "predicted nothing", f"log loss {-np.log(0.1):.3f}")
    assert [one.good for one in worst] == [False, False, True]


# --- the page ----------------------------------------------------------------------------------------------------


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "some <b>image.png"
    Image.new("RGB", (20, 30), (10, 200, 30)).save(path)
    return str(path)


def test_the_page_holds_everything_and_loads_nothing(tmp_path: Path, picture: str) -> None:
    judged = draw(4, 40, paths=(picture,) * 40)
    index = write_report(tmp_path / "report", content_of(judged, history={"loss": [2, 1], "val_loss": [2, 3]}))
    page = open_page(index)
    names = {"sizes", "metrics", "confusion", "roc", "precision-recall", "reliability", "learning", "mistakes", "hits"}
    files = {path.stem: path for path in index.parent.glob("*.png")}
    assert set(files) == names
    images = page.all("img")
    carried = [base64.b64decode(str(one["src"]).removeprefix("data:image/png;base64,")) for one in images]
    assert sorted(carried) == sorted(path.read_bytes() for path in files.values())
    assert all(one["alt"] for one in images)
    boxes = [str(one["class"]) for one in page.all("div") if "picture" in str(one.get("class"))]
    assert sum("drawn" in one for one in boxes) == len(boxes) - 2  # which turn dark; mistakes and hits are photographs
    assert all(str(one["href"]).startswith("#") for one in page.all("a"))
    assert not {"link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    targets = {attributes.get("id") for _, attributes in page.tags}
    assert {str(one["href"])[1:] for one in page.all("a")} <= targets
    assert "url(" not in page.html
    assert "http" not in re.sub(r"http-equiv", "", re.sub(r'src="data:[^"]*"', "", page.html))


def test_names_and_paths_are_text_and_one_script_may_run(tmp_path: Path, picture: str) -> None:
    judged = draw(4, 40, paths=(picture,) * 40)
    manifest = changed(manifest_of(notes=["<img src=x onerror=alert(2)>"]), head={"clf": "<i>"})
    bad = [{"path": "</table><script>alert(3)</script>", "reason": "<b>"}]
    content = content_of(judged, manifest=manifest, bad=bad, command="featx '</code>'", pipeline="data: {path: </pre>}")
    page = open_page(write_report(tmp_path, content))
    assert len(page.all("script")) == 1
    assert {"b", "i"}.isdisjoint(tag for tag, _ in page.tags)
    assert not [one for one in page.all("img") if "onerror" in one]
    for text in (*ODD, *manifest.notes, bad[0]["path"], "featx '</code>'", "data: {path: </pre>}"):
        assert text in page.text
    script = page.html.split("<script>")[-1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


_BOUNDED = ("precision", "recall")  # of a class


def outward(low: float, high: float) -> str:
    """An interval with two decimals, which holds all of the exact one."""
    return f"{math.floor(100 * low) / 100:.2f} – {math.ceil(100 * high) / 100:.2f}"


def test_the_tables_tell_what_was_measured(tmp_path: Path) -> None:
    val, test = draw(5, 80, seed=1, part="val"), draw(5, 120, seed=2)
    content = content_of(val, test, duplicates=1234, timings={"extract": 12.345}, command="featx run", pipeline="a: b")
    page = open_page(write_report(tmp_path, content))
    found = measure(test).as_json()
    assert page.part("val")["images"] == "80"
    assert page.part("test")["accuracy"] == f"{found['accuracy']:.2f}{outward(*found['intervals']['accuracy'])}"
    for one in found["per_class"]:
        row = page.row(one["label"])
        shown = [f"{one[name]:.2f}{outward(*one['intervals'][name])}" for name in _BOUNDED]
        assert row[1:5] == [str(one["images"]), *shown, f"{one['f1']:.2f}"]
    wrong = np.array(found["confusion"]) * ~np.eye(5, dtype=bool)
    actual, predicted = divmod(int(wrong.argmax()), 5)
    (first,) = [i + 1 for i, row in enumerate(page.rows) if row[:2] == ["actual", "predicted"]]
    assert page.rows[first][:3] == [test.classes[actual], test.classes[predicted], str(wrong.max())]
    assert page.row("extract") == ["extract", "12.35"]
    assert "1,234 images are copies" in page.text
    assert "Every image could be read." in page.text


def test_a_class_without_images_and_one_that_the_model_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featx.report.figures._draw_part", lambda *_: None)
    chances = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    judged = LabelledPredictions(
        np.array([0, 3, 1]), chances, ("ape", "bee", "cow", "zebra"), part="test", paths=("a", "b", "c")
    )
    page = open_page(write_report(tmp_path, content_of(judged)))
    assert page.row("cow")[1:] == ["0", "–", "–", "–", "–", "–"]
    assert page.row("zebra")[1:] == ["1", "–", "0.000.00 – 0.80", "0.00", "–", "–"]  # 1.96² / (1 + 1.96²)


def test_a_multilabel_report_has_thresholds_intervals_and_a_table_of_each_label(tmp_path: Path) -> None:
    judged = draw_multilabel()
    index = write_report(tmp_path, content_of(judged))
    page = open_page(index)
    found = score_part(judged)
    ends = outward(*found.intervals["f1_samples"])
    assert f"{found.metrics['f1_samples']:.2f}{ends}" in page.part("test").values()
    given = judged.probabilities >= judged.thresholds
    there = [row[1:] for row in page.rows if row and row[0] == "has it"]
    missing = [row[1:] for row in page.rows if row and row[0] == "has it not"]
    for code, label in enumerate(judged.classes):
        truth, said = judged.labels[:, code], given[:, code]
        assert there[code] == [str((truth & said).sum()), str((truth & ~said).sum())], label
        assert missing[code] == [str((~truth & said).sum()), str((~truth & ~said).sum())], label
    assert len(page.all("caption")) == len(judged.classes)
    assert "threshold" in next(row for row in page.rows if "class" in row)
    assert page.row(ODD[1])[-1] == "0.4000"
    names = {path.stem for path in tmp_path.glob("*.png")}
    assert names == {"sizes", "metrics", "roc", "precision-recall", "reliability", "mistakes"}


def test_without_measured_images_the_page_tells_the_rest(tmp_path: Path) -> None:
    empty = LabelledPredictions(np.empty(0, np.int64), np.empty((0, 2)), ("a", "b"), part="val")
    told = {"images": 9, "accuracy": 0.5, "log_loss": None, "intervals": {"accuracy": [0.25, 0.75], "log_loss": None}}
    manifest = manifest_of(metrics={"val": {"images": 0, "accuracy": None, "intervals": None}, "test": told})
    page = open_page(write_report(tmp_path, content_of(empty, manifest=manifest, command="featx fit-head")))
    assert page.part("test (when it was made)") == {"images": "9", "accuracy": "0.500.25 – 0.75"}
    assert "featx fit-head" in page.text
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "sizes.png"}


def test_a_second_report_replaces_the_first_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"mine")
    write_report(tmp_path, content_of(draw(2, 8), history={"loss": [1.0, 0.5]}))
    assert (tmp_path / "learning.png").exists()
    index = write_report(tmp_path, content_of(draw_multilabel(2, 8)))
    assert not (tmp_path / "learning.png").exists()
    assert not (tmp_path / "confusion.png").exists()
    assert (tmp_path / "mine.png").read_bytes() == b"mine"
    assert len(open_page(index).all("img")) == len(list(tmp_path.glob("*.png"))) - 1


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser")
def test_the_headings_sort_in_a_browser(tmp_path: Path) -> None:
    script = (Path(featx.report.__file__).parent / "page.js").read_text()
    cells = [("b10", "0.5"), ("b9", ""), ("a", "0.25"), ("c", "1")]
    rows = "".join(f"<tr><th>{name}</th><td data-value='{value}'>x</td></tr>" for name, value in cells)
    table = (
        f"<table class=sortable><thead><tr><th>n</th><th class=number>v</th></tr></thead><tbody>{rows}</tbody></table>"
    )
    tell = """
      const order = () => [...document.querySelectorAll("tbody th")].map((one) => one.textContent).join(" ");
      const [name, value] = document.querySelectorAll("button");
      const told = [name, name, value, value].map((one) => (one.click(), order()));
      document.title = told.join(" | ") + " | " + value.parentElement.getAttribute("aria-sort");
    """
    (tmp_path / "page.html").write_text(f"<title></title>{table}<script>{script}</script><script>{tell}</script>")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{tmp_path}/page.html"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.findall(r"<title>(.*?)</title>", done.stdout)
    assert found == ["a b9 b10 c | c b10 b9 a | a b10 c b9 | c b10 a b9 | descending"]


# --- the figures -------------------------------------------------------------------------------------------------


def figures(classes: int) -> dict[str, Any]:
    judged = draw(classes, 10 * classes)
    found = score_part(judged)
    assert found.confusion is not None
    assert found.roc is not None
    assert found.precision_recall is not None
    history = {"loss": [3, 2, 1], "val_loss": [3, 2, 2.5], "accuracy": [0.1, 0.5, 0.9], "val_accuracy": [0.1, 0.4, 0.5]}
    lines = {f"svm on {name}": [(1e-5, 0.1), (1e-3, 0.5 + i / 100)] for i, name in enumerate(judged.classes)}
    epochs = {
        "learning": plots.draw_learning(history, 2),
        "one epoch": plots.draw_learning({name: values[:1] for name, values in history.items()}, 1),
    }
    return {
        "sizes": plots.draw_sizes({part: dict.fromkeys(judged.classes, 123) for part in ("train", "val", "test")}),
        "many images": plots.draw_sizes({"train": dict.fromkeys(judged.classes, 1_234_567)}),
        "metrics": plots.draw_metrics([replace(found, part="val"), found]),
        "confusion": plots.draw_confusion(found.confusion, judged.classes),
        "roc": plots.draw_roc(found.roc),
        "precision-recall": plots.draw_precision_recall(found.precision_recall),
        "reliability": plots.draw_reliability(found.reliability),
        "strengths": plots.draw_strengths(lines, "C", "accuracy"),
    } | (epochs if classes == 2 else {})  # which show no class


def drawn_labels(axis: Any) -> list[Any]:
    """Tick labels within the limits: those outside exist, and are not drawn."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    labels = [label for tick in ticks for label in (tick.label1, tick.label2)]
    return [label for label in labels if label.get_visible() and label.get_text()]


def overlaps(figure: Any) -> list[str]:
    """Neighbouring tick labels on one side of an axis that have no gap between them."""
    found = []
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            labels = drawn_labels(axis)
            for side in (0, 1):
                beside = [one for one in labels if one.get_position()[axis is axes.xaxis] == side]
                boxes = [one.get_window_extent().padded(2) for one in beside]
                found += [beside[i].get_text() for i, (one, other) in enumerate(pairwise(boxes)) if one.overlaps(other)]
    return found


def texts_of(figure: Any) -> list[Any]:
    """Everything that is written in a figure and is not empty."""
    found = [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        found += [*axes.texts, axes.xaxis.label, axes.yaxis.label]
        found += [*drawn_labels(axes.xaxis), *drawn_labels(axes.yaxis)]
    return [text for text in found if text.get_text()]


@pytest.mark.parametrize("classes", [2, 4, 40])
def test_no_text_is_cut_off_and_labels_do_not_overlap(classes: int) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with style():
        for name, figure in figures(classes).items():
            FigureCanvasAgg(figure).draw()
            assert not overlaps(figure), name
            assert len(texts_of(figure)) > 4
            for text in texts_of(figure):
                box, page = text.get_window_extent(), figure.bbox
                inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1
                assert inside, f"{name}: {text.get_text()!r} is cut off"


def test_metrics_that_are_close_have_labels_that_are_not() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    found = score_part(draw(4, 40))
    with style():
        for low in (0.9, 0.96, 0.9802, 0.985, 0.9905, 0.999):
            close = replace(found, metrics={"accuracy": 0.9995}, intervals={"accuracy": (low, 1.0)})
            figure = plots.draw_metrics([close])
            FigureCanvasAgg(figure).draw()
            assert not overlaps(figure), low


def test_the_confusion_matrix_says_what_it_was_given() -> None:
    confusion = np.array([[8, 2, 0], [0, 0, 0], [1, 0, 1234]])
    with style():
        figure = plots.draw_confusion(confusion, ["a", "$b$", "c" * 50])
    axis = figure.axes[0]
    written = {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in axis.texts}
    assert written == {(0, 0): "8", (0, 1): "2", (2, 0): "1", (2, 2): "1234"}
    drawn = axis.images[0].get_array()
    np.testing.assert_allclose(drawn, [[0.8, 0.2, 0], [0, 0, 0], [1 / 1235, 0, 1234 / 1235]])
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names[:2] == ["a", "$b$"]
    assert len(names[2]) < 30


def test_past_what_can_be_read_names_and_counts_are_left_out() -> None:
    k = plots.MOST_NAMED + 1
    with style():
        figure = plots.draw_confusion(np.ones((k, k), int), [f"class {i}" for i in range(k)])
        sizes = plots.draw_sizes({"train": {f"class {i}": i for i in range(k)}})
    assert not figure.axes[0].texts
    assert max(figure.get_size_inches()) < 12
    assert sizes.axes[0].lines[0].get_ydata().tolist() == list(range(k))[::-1]
    assert sizes.get_size_inches()[1] < 5


def test_curves_are_at_most_ten_classes_and_two_averages() -> None:
    found = score_part(draw(30, 300))
    assert found.roc is not None
    with style():
        (legend,) = plots.draw_roc(found.roc, found.images).legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert len(texts) == 12
    assert texts[2].startswith(f"AUC {min(row['roc_auc'] for row in found.classes):.3f}")


def test_what_was_searched_becomes_lines() -> None:
    def one(clf: str, score: float, **params: Any) -> CandidateRecord:
        return CandidateRecord(clf, params, score, "log_loss", "cv")

    search = {
        "a@avg": [one("svm", 0.5, C=0.1, max_iter=5), one("svm", 0.4, C=1.0, max_iter=5), one("svm", 0.3, C=2.0)],
        "b@max": [one("knn", 0.2, neighbours=1), one("knn", 0.6, neighbours=9), one("dense", 0.1, hidden="8")],
    }
    assert strength_lines(search) == (
        {"C": {"svm on a@avg": [(0.1, 0.5), (1.0, 0.4)]}, "neighbours": {"knn on b@max": [(1.0, 0.2), (9.0, 0.6)]}},
        "log_loss",
    )
    assert strength_lines({}) == ({}, "")
    with style():
        figure = plots.draw_strengths(strength_lines(search)[0]["neighbours"], "neighbours", "log_loss")
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1", "9"]
    star = figure.axes[0].lines[1]
    assert (star.get_xdata().tolist(), star.get_ydata().tolist()) == ([1.0], [0.2])  # of a loss, less is better


def test_the_epoch_that_was_kept() -> None:
    content = content_of(history={"val_loss": [3.0, 1.0, 2.0]})
    assert kept_epoch(content) == 2
    assert kept_epoch(replace(content, manifest=manifest_of(finetune={"best_epoch": 3}))) == 3
    assert kept_epoch(replace(content, history={"loss": [1.0]})) is None
    epochs = [{"epoch": 1, "loss": 2.0, "val_log_loss": None, "val_accuracy": 0.5, "seconds": 1.0}]
    assert history_of(manifest_of(history=epochs)) == {"loss": [2.0], "val_accuracy": [0.5]}
    assert history_of(manifest_of()) is None


def test_epochs_are_whole_numbers() -> None:
    for epochs in (1, 2, 37):
        with style():
            axis = plots.draw_learning({"loss": [1.0] * epochs}, None).axes[0]
        shown = [tick for tick in axis.get_xticks() if 0.5 <= tick <= epochs + 0.5]
        assert shown
        assert shown == [round(tick) for tick in shown]


def test_images_are_counted_by_part_and_class() -> None:
    y, split = np.array([0, 1, 1, 0, 1]), np.array([0, 0, 2, 3, 0])
    assert count_classes(["a", "b"], y, split) == {"train": {"a": 1, "b": 2}, "test": {"a": 0, "b": 1}}
    several = np.array([[True, True], [False, True]])
    assert count_classes(["a", "b"], several, np.array([1, 1])) == {"val": {"a": 1, "b": 2}}


# --- fits and evaluations ----------------------------------------------------------------------------------------


@pytest.fixture
def work(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Callable[..., Outcome]:
    """Runs commands in `tmp_path`, which has lab.yaml, whose results are reported."""
    lab: Lab = make_lab(tmp_path_factory.getbasetemp() / "lab")
    assert lab.prepared.extraction.readable.all()  # the features of the pictures are there
    pipeline = replace(
        lab.pipeline,
        head=replace(lab.pipeline.head, strength=0.01, epochs=2),
        report=replace(lab.pipeline.report, runs="runs", html=True),
    )
    (tmp_path / "lab.yaml").write_text(as_yaml(pipeline))
    return lambda *arguments: call(*arguments, cwd=tmp_path)


def test_a_fit_reports_and_its_bundle_stays_whole(
    work: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["featx", "fit-head", "-p", str(tmp_path / "lab.yaml"), "--json"])
    done = work("fit-head", "-p", "lab.yaml", "--plots", "svg", "--json")
    assert done.status == 0, done.err
    assert done.json["report"] == f"{done.json['bundle']}/report/index.html"
    verdict = done.json["summary"]
    assert verdict["text"].startswith(f"{verdict['right']} of 15 test images right (")
    assert verdict["right"] == round(15 * done.json["test"]["accuracy"])
    np.testing.assert_allclose(verdict["interval"], done.json["test"]["intervals"]["accuracy"])
    assert f"featx fit-head -p {tmp_path / 'lab.yaml'} --clf auto" in [one["command"] for one in verdict["next"]]
    index = tmp_path / done.json["report"]
    page = open_page(index)
    assert "lab / 1-logreg" in page.text
    assert all(text in page.text for text in (verdict["text"][:25], *(one["text"] for one in verdict["next"])))
    assert page.part("test")["accuracy"].startswith(f"{done.json['test']['accuracy']:.2f}")
    assert page.part("val")["images"] == "15"
    assert "strength: 0.01" in page.text  # of the pipeline
    beside = {path.stem for path in index.parent.glob("*.png")} - {path.stem for path in index.parent.glob("*.svg")}
    assert beside <= {"mistakes", "hits"}
    sizes = [one["alt"] for one in page.all("img") if str(one["alt"]).startswith("Images per class")]
    assert sizes == ["Images per class: 30 in train, 15 in val, 15 in test."]
    monkeypatch.setattr("featx.report.report.draw_figures", lambda *_: {})  # the pages that follow are read

    assert work("bundle", "verify", "-p", "lab.yaml").status == 0
    assert work("bundle", "pack", "-p", "lab.yaml", "--out", "m.featx").status == 0
    with zipfile.ZipFile(tmp_path / "m.featx") as packed:
        assert not [name for name in packed.namelist() if name.startswith("report")]

    told = work("evaluate", "-p", "lab.yaml", "--split", "val")
    report, _, verdict, following = told.out.splitlines()[-4:]
    assert report == "report: runs/lab/1-logreg/report/index.html"
    assert " of 15 validation images right (" in verdict
    assert "there is no test image" not in verdict
    assert following.startswith("Next: ")
    page = open_page(index)
    assert page.part("val")["images"] == "15"
    assert page.part("test (when it was made)")["images"] == "15"

    index.unlink()
    assert work("evaluate", "-p", "lab.yaml", "--no-html", "--json").json["report"] is None
    assert work("evaluate", "m.featx", "-p", "lab.yaml", "--json").json["report"] is None
    assert work("evaluate", "-p", "lab.yaml", "--data", make_pictures(work, tmp_path), "--json").json["report"] is None
    assert not index.exists()
    there = work("evaluate", "m.featx", "-p", "lab.yaml", "--report", "there", "--json").json
    assert there["report"] == "there/index.html"
    assert "intervals" in there
    page = open_page(tmp_path / "there" / "index.html")
    assert page.part("test")["images"] == "15"
    assert "m.featx on test" in page.text


def make_pictures(work: Callable[..., Outcome], tmp_path: Path) -> Path:
    from fitted import write_pictures

    return write_pictures(tmp_path / "others", 2, seed=9)


def test_without_html_there_is_no_report(work: Callable[..., Outcome], tmp_path: Path) -> None:
    done = work("fit-head", "-p", "lab.yaml", "--no-html", "--json")
    assert done.json["report"] is None
    assert not (tmp_path / done.json["bundle"] / "report").exists()
    assert "report" not in work("fit-head", "-p", "lab.yaml", "--no-html").out


def test_a_fit_does_not_fail_with_its_report(
    work: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: Any) -> None:
        raise RuntimeError("no ink left")

    monkeypatch.setattr("featx.report.plots.draw_metrics", refuse)
    done = work("fit-head", "-p", "lab.yaml", "--json")
    assert done.status == 0
    assert done.json["report"] is None
    assert "The report could not be written" in caplog.text
    assert "no ink left" in caplog.text


def test_what_is_trained_by_epochs_has_learning_curves(
    work: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featx.report.figures._draw_part", lambda *_: None)
    dense = work("fit-head", "-p", "lab.yaml", "--clf", "dense", "--hidden", "4", "--json")
    assert dense.status == 0, dense.err
    assert (tmp_path / dense.json["report"]).with_name("learning.png").exists()
    tuned = work("finetune", "-p", "lab.yaml", "--from", dense.json["bundle"], "--epochs", "1", "--json")
    assert tuned.status == 0, tuned.err
    page = open_page(tmp_path / tuned.json["report"])
    assert (tmp_path / tuned.json["report"]).with_name("learning.png").exists()
    assert tuned.json["verdict"] in page.text
    assert "Against 1-dense" in page.text
    found = tuned.json["comparison"]["test"]
    row = next(row for row in page.rows if row[0] == "test" and len(row) == 8)
    assert row[1:4] == [str(found["images"]), f"{found['accuracy'][1]:.2f}", f"{found['accuracy'][0]:.2f}"]
    assert page.row("fine-tuned from")[1] == "1-dense"


# --- files of plots, shapes, columns -----------------------------------------------------------------------------


def test_plots_are_written_as_svg_or_pdf_beside_the_png_and_older_ones_go(tmp_path: Path) -> None:
    def draw_into(plots_beside: Any) -> None:
        with style():
            figure = plots.draw_sizes({"train": {"a": 3, "b": 4}})
            FigureFolder(tmp_path, plots_beside).draw("sizes", figure, "sizes")

    draw_into("svg")
    first = (tmp_path / "sizes.svg").read_bytes()
    root = ElementTree.fromstring(first)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    draw_into("svg")
    assert (tmp_path / "sizes.svg").read_bytes() == first  # nothing in it is a date or drawn by chance
    draw_into("pdf")
    assert {path.name for path in tmp_path.iterdir()} == {"sizes.png", "sizes.pdf"}
    assert (tmp_path / "sizes.pdf").read_bytes().startswith(b"%PDF")
    FigureFolder(tmp_path).remove_others(["sizes"])
    assert not list(tmp_path.iterdir())


def test_classes_differ_by_more_than_colour() -> None:
    found = score_part(draw(30, 300))
    assert found.roc is not None
    with style():
        lines = plots.draw_roc(found.roc).axes[0].lines[3:]
        bars = plots.draw_sizes({part: {"a": 3, "b": 4} for part in ("train", "val", "test")}).axes[0].patches
    assert len({line.get_marker() for line in lines}) == len(lines) == 10
    assert len({bar.get_hatch() for bar in bars}) == 3


def test_what_is_the_same_in_all_rows_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.report.figures._draw_part", lambda *_: None)
    even = LabelledPredictions(np.array([0, 1, 2]), np.eye(3), ("a", "b", "c"), part="test", paths=("x",) * 3)
    tried = [CandidateRecord("svm", {"C": float(c)}, c / 10, "accuracy", "cv").as_json() for c in (1, 2)]
    manifest = manifest_of(search={"conv5_block3_preact_bn@avg + conv4_out@max": tried})
    page = open_page(write_report(tmp_path, content_of(even, manifest=manifest)))
    assert next(row for row in page.rows if row[0] == "class")[:2] == ["class", "precision"]
    assert "images: 1 throughout" in page.text
    assert ["parameters", "score"] in page.rows
    features = "conv5_block3_preact_bn@avg + conv4_out@max"
    assert f"The same for all: head svm (rbf); features {features}; metric accuracy; where cv." in page.text


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser")
def test_nothing_but_what_says_so_is_wider_than_a_phone(tmp_path: Path) -> None:
    index = write_report(tmp_path, content_of(draw(12, 60, part="val"), draw(12, 60)))
    tell = """<script>addEventListener("load", () => {
      const boxes = [...document.querySelectorAll(".scroll")];
      const silent = boxes.filter((one) => one.scrollWidth > one.clientWidth + 1 && one.previousElementSibling.hidden);
      const hinted = boxes.filter((one) => !one.previousElementSibling.hidden).length;
      const root = document.documentElement;
      document.title = [Math.max(0, root.scrollWidth - innerWidth), silent.length, hinted > 0].join(" ");
    })</script>"""
    html = re.sub(r"<meta http-equiv=.Content-Security-Policy[^>]*>", "", index.read_text())
    (tmp_path / "inner.html").write_text(html.replace("</body>", tell + "</body>"))
    outer = """<title></title><iframe src="inner.html" width="390" height="800" style="border:0"></iframe>
      <script>setInterval(() => { document.title = frames[0].document.title }, 50)</script>"""
    (tmp_path / "outer.html").write_text(outer)
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += ["--virtual-time-budget=3000", "--dump-dom", f"file://{tmp_path}/outer.html"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert re.findall(r"<title>(.*?)</title>", done.stdout) == ["0 0 true"]  # wider by nothing, none that is silent


# --- mistakes by name ----------------------------------------------------------------------------------------------


def test_every_mistake_is_a_line_that_no_spreadsheet_runs_and_that_leads_to_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("featx.report.report.draw_figures", lambda *_: {})
    Path("in here").mkdir()
    for name in ("=1+1.png", "b.png", "right.png"):
        Image.new("RGB", (4, 4)).save(Path("in here") / name)
    paths = ("in here/b.png", "in here/=1+1.png", "in here/right.png", "/home/ada/secret/z.png")
    chances = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    judged = LabelledPredictions(np.array([1, 1, 1, 1]), chances, ("@cat", "dog"), part="test", paths=paths)
    page = open_page(write_report(tmp_path / "r", replace(content_of(judged), linked=True)))
    text = (tmp_path / "r" / "mistakes.csv").read_text()
    rows = [cells for _, cells in read_rows(text, ",")]
    assert rows == [
        ["path", "actual", "predicted", "confidence"],
        ["in here/=1+1.png", "dog", "@cat", "0.9000"],
        ["secret/z.png", "dog", "@cat", "0.7000"],
        ["in here/b.png", "dog", "@cat", "0.6000"],
    ]
    assert ",'@cat," in text
    links = [str(one["href"]) for one in page.all("a") if not str(one["href"]).startswith("#")]
    assert [(tmp_path / "r" / unquote(link)).resolve().name for link in links] == ["=1+1.png", "b.png"]
    assert page.row("in here/b.png") == ["in here/b.png", "dog", "@cat", "60.0%"]
    assert "ada" not in page.text
    kept = open_page(write_report(tmp_path / "r", replace(content_of(judged), keep_paths=True)))
    assert "/home/ada/secret/z.png" in kept.text
    write_report(tmp_path / "r", content_of())
    assert not (tmp_path / "r" / "mistakes.csv").exists()


def test_mistakes_of_several_labels_name_what_is_there_and_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featx.report.report.draw_figures", lambda *_: {})
    chances = np.array([[0.9, 0.2], [0.1, 0.1], [0.6, 0.9]])
    truth = np.array([[1, 0], [1, 1], [1, 0]], bool)
    judged = LabelledPredictions(truth, chances, ("cat", "dog"), None, "test", ("a", "b", "c"))
    write_report(tmp_path, content_of(judged))
    loss = metrics.log_loss([0, 1], [0.9, 0.6], labels=[0, 1])  # of c: cat at 0.6, and dog at 0.9, which is not there
    assert (tmp_path / "mistakes.csv").read_text().splitlines() == [
        "path,actual,predicted,log_loss",
        f'b,"cat, dog",nothing,{-np.log(0.1):.4f}',
        f'c,cat,"cat, dog",{loss:.4f}',
    ]
