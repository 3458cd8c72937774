"""Features in two dimensions: placement against scikit-learn, what the page holds, and the page in a browser."""

from __future__ import annotations

import base64
import csv
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import needs_chromium, open_browser
from fitted import Lab, call, write_pictures, write_squares
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

import featx
from featx.active.comparison import Side
from featx.bundle.bundle import load_bundle
from featx.errors import HeadError, UsageError
from featx.features import ArrayFeatures
from featx.metrics.placement import place
from featx.report.map import Colouring, MapText, write_map


def clusters(n: int = 300, kinds: int = 5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    kind = np.arange(n) % kinds
    return (random.normal(size=(kinds, 12))[kind] * 5 + random.normal(size=(n, 12))).astype(np.float32), kind


def test_pca_is_that_of_directions() -> None:
    x, _ = clusters()
    found = place(ArrayFeatures(x), "pca", 1000, 0)
    assert place(ArrayFeatures(x), "pca", 50, 0).sampled == found.sampled == 300  # none goes where others are
    wanted = PCA(2).fit_transform(x / np.linalg.norm(x, axis=1, keepdims=True))
    shifted = found.places - found.places.mean(axis=0)
    assert np.abs(np.diag(np.corrcoef(shifted.T, wanted.T)[:2, 2:])) == pytest.approx([1, 1], abs=1e-3)
    assert shifted[:, 0].std() / shifted[:, 1].std() == pytest.approx(wanted[:, 0].std() / wanted[:, 1].std(), rel=1e-3)
    assert np.abs(found.places).max() == pytest.approx(1)
    reduced = PCA(11).fit_transform(x / np.linalg.norm(x, axis=1, keepdims=True))
    assert found.trustworthiness == pytest.approx(trustworthiness(reduced, wanted, n_neighbors=10), abs=0.02)


def test_what_was_not_sampled_goes_among_its_like() -> None:
    x, kind = clusters()
    found = place(ArrayFeatures(x.astype(np.float16)), "tsne", 60, 0)
    assert found.sampled == 60
    middle = np.stack([found.places[kind == one].mean(axis=0) for one in range(5)])
    nearest = ((found.places[:, None] - middle) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == kind).mean() > 0.97
    assert 0.5 < found.trustworthiness <= 1


def test_what_cannot_be_placed_is_refused() -> None:
    x, _ = clusters(20)
    with pytest.raises(HeadError, match="at least 4 images; 3 can be read"):
        place(ArrayFeatures(x[:3]), "pca", 100, 0)
    x[2] = np.nan
    with pytest.raises(HeadError, match="NaN or infinity"):
        place(ArrayFeatures(x), "pca", 100, 0)


def test_umap_says_how_it_is_installed() -> None:
    try:
        import umap  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match=r"pip install 'featx\[umap\]'"):
            place(ArrayFeatures(clusters()[0]), "umap", 50, 0)
    else:
        assert place(ArrayFeatures(clusters()[0]), "umap", 50, 0).trustworthiness > 0.5


# --- the page ----------------------------------------------------------------------------------------------------


def held(page: Path) -> dict[str, Any]:
    """What a page holds of its points."""
    text = page.read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(re.findall(r'id="data">(.*?)</script>', text, flags=re.DOTALL)[0])
    return found


def codes(one: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(one["values"]), "<u2")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The lab's pictures on a map by one of its bundles: what the command printed."""
    from fitted import make_lab

    lab, folder = make_lab(tmp_path_factory.getbasetemp() / "lab"), tmp_path_factory.mktemp("map")
    bundle = lab.bundle("logreg")
    options = ("--cache", str(lab.root / "cache"), "--method", "pca", "--pictures", "10", "--json")
    model = ("--model", str(bundle.path), "--runs", str(folder / "runs"))
    return {**call("map", lab.root / "pictures", *model, *options, cwd=folder).json, "lab": lab}


def test_the_page_holds_places_colours_and_pictures(drawn: dict[str, Any]) -> None:
    lab: Lab = drawn["lab"]
    found = held(Path(drawn["page"]))
    assert drawn["points"] == len(found["paths"]) == 60
    assert sorted(found["paths"]) == lab.pictures
    by = {one["title"]: one for one in found["colourings"]}
    assert list(by) == ["class", "part of the model", "prediction", "confidence", "error", "label-error score"]
    labels = [by["class"]["names"][code] for code in codes(by["class"])]
    assert labels == [Path(path).parent.name for path in found["paths"]]
    answers = featx.Model(lab.bundle("logreg")).predict(found["paths"])
    predicted = [by["prediction"]["names"][code] for code in codes(by["prediction"])]
    assert predicted == [one.top[0].label for one in answers]
    assert codes(by["confidence"]) / 65534 == pytest.approx([one.top[0].confidence for one in answers], abs=2e-3)
    assert codes(by["error"]).tolist() == [int(a != b) for a, b in zip(labels, predicted, strict=True)]
    assert np.bincount(codes(by["part of the model"])).tolist() == [30, 15, 15]
    assert len(found["pictured"]) == 10
    assert len(found["sheets"]) == 1
    assert found["sheets"][0].startswith("data:image/jpeg;base64,")
    places = np.frombuffer(base64.b64decode(found["places"]), "<u2").reshape(-1, 2)
    assert places.min() == 0 or places.max() == 65535


def test_a_model_of_weighed_classes_is_shown_by_what_it_answers(lab: Lab, tmp_path: Path) -> None:
    """Its answer is not always the likeliest class; drift counts the answers as well."""
    options = {"cache": str(tmp_path / "cache"), "runs": str(tmp_path / "runs"), "html": False}
    backbone = str(lab.root / "tiny.keras")
    weights = {"class_weight": "red=30", "calibrate": "temperature", "strength": 0.01}
    model = featx.fit_head(lab.root / "pictures", backbone=backbone, clf="logreg", **weights, **options)  # type: ignore[arg-type]
    typed = ("--model", str(model.path), "--cache", options["cache"], "--runs", options["runs"], "--method", "pca")
    found = held(Path(call("map", lab.root / "pictures", *typed, "--json", cwd=tmp_path).json["page"]))
    answers = model.predict(found["paths"])
    assert any(one.label != one.top[0].label for one in answers)
    by = {one["title"]: one for one in found["colourings"]}
    assert [by["prediction"]["names"][code] for code in codes(by["prediction"])] == [one.label for one in answers]
    wrong = [int(one.label != Path(path).parent.name) for one, path in zip(answers, found["paths"], strict=True)]
    assert codes(by["error"]).tolist() == wrong
    bundle = load_bundle(model.path)
    rows = featx.read_features(lab.root / "pictures", backbone=backbone, cache=options["cache"])
    side = Side.of(bundle, rows.X, None)
    assert [bundle.classes[code] for code in side.votes.argmax(axis=1)] == [
        one.label for one in model.predict(rows.paths)
    ]


def test_of_more_images_than_asked_for_some_are_shown(drawn: dict[str, Any], tmp_path: Path) -> None:
    lab: Lab = drawn["lab"]
    options = ("--cache", str(lab.root / "cache"), "--method", "pca", "--points", "20", "--pictures", "5", "--json")
    model = ("--model", str(lab.bundle("logreg").path), "--runs", str(tmp_path / "runs"))
    some = call("map", lab.root / "pictures", *model, *options, cwd=tmp_path).json
    assert (some["images"], some["points"], drawn["images"]) == (60, 20, 60)
    assert "20 of 60 images are shown" in some["notes"][0]
    found, whole = held(Path(some["page"])), held(Path(drawn["page"]))
    assert set(found["paths"]) < set(whole["paths"])
    assert len(found["paths"]) == 20
    for one, of_all in zip(found["colourings"], whole["colourings"], strict=True):
        wanted = dict(zip(whole["paths"], codes(of_all).tolist(), strict=True))
        assert codes(one).tolist() == [wanted[path] for path in found["paths"]]


def test_names_cannot_leave_the_data(lab: Lab, tmp_path: Path) -> None:
    name = "</script><script>alert(1)"
    pictures = write_pictures(tmp_path / "pictures", per_class=3)
    rows = [f'"{path}","{name}"' for path in sorted(map(str, pictures.rglob("*.png")))]
    (tmp_path / "index.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    keys = {"backbone": str(lab.root / "tiny.keras"), "cache": str(tmp_path / "cache")}
    found = featx.map(tmp_path / "index.csv", out=tmp_path / "map.html", **keys)  # type: ignore[arg-type]
    assert found.points == 9
    assert held(found.page)["colourings"][0]["names"] == [name]
    assert "<script>alert" not in html.unescape(found.page.read_text(encoding="utf-8").split('id="data"')[1])


def test_several_labels_and_none(lab: Lab, tmp_path: Path) -> None:
    keys = {"backbone": str(lab.root / "tiny.keras"), "cache": str(tmp_path / "cache"), "method": "pca"}
    table = write_squares(tmp_path, 12)
    found = held(featx.map(table, label_separator="$", out=tmp_path / "a.html", **keys).page)  # type: ignore[arg-type]
    assert set(found["colourings"][0]["names"]) >= {"blue", "no label"}
    plain = held(featx.map(tmp_path / "images", out=tmp_path / "b.html", pictures=0, **keys).page)  # type: ignore[arg-type]
    assert [one["title"] for one in plain["colourings"]] == ["images"]
    assert plain["sheets"] == []


def test_a_model_whose_features_are_not_cached_is_refused(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="The cache has no features of the network"):
        featx.map(lab.root / "pictures", model=featx.Model(lab.bundle("logreg")), cache=str(tmp_path / "none"))


@pytest.mark.slow
@needs_chromium
def test_the_map_in_a_browser(drawn: dict[str, Any], tmp_path: Path) -> None:
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 800}, accept_downloads=True)
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(Path(drawn["page"]).as_uri())
        assert page.locator("#legend button").all_inner_texts() == ["blue (20)", "green (20)", "red (20)"]
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator("#points").focus()
        page.keyboard.press("n")
        said = page.get_by_role("status").inner_text()
        page.keyboard.press("Space")
        assert page.get_by_role("status").inner_text() == "1 of 60 images selected."
        with page.expect_download() as download:
            page.get_by_role("button", name="Save selection").click()
        download.value.save_as(tmp_path / "one.csv")
        rows = list(csv.DictReader((tmp_path / "one.csv").read_text().splitlines()))
        assert [Path(row["path"]).name for row in rows] == [said.split(",")[0]]
        assert rows[0]["label"] == Path(rows[0]["path"]).parent.name
        page.get_by_role("button", name="Lasso").click()
        box = page.locator("#points").bounding_box()
        corners = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)]
        for number, (x, y) in enumerate(corners):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
            if not number:
                page.mouse.down()
        page.mouse.up()
        assert page.get_by_role("status").inner_text() == "60 of 60 images selected."
        page.get_by_label("Colour by").select_option(label="confidence")
        assert page.locator("#legend .ramp").count() == 1
        page.get_by_role("button", name="Zoom in").click()
        assert complaints == []


@pytest.mark.slow
@needs_chromium
def test_many_points_are_drawn_where_they_lie(tmp_path: Path) -> None:
    """Pixels that the page sets itself: each half of 4,000 points has its colour, and hidden ones have none."""
    generator = np.random.default_rng(0)
    places = generator.uniform(-1, 1, (4000, 2)).astype(np.float32)
    colouring = Colouring("side", (places[:, 0] > 0).astype(np.int64), ("left", "right"))
    names = [f"{row}.png" for row in range(4000)]
    page_file = write_map(
        tmp_path / "map.html", names, places, [colouring], np.empty(0, np.int64), MapText("4,000 points", (), "", 0)
    )
    count = """side => {
      const canvas = document.getElementById("points"), half = canvas.width / 2;
      const { data, width } = canvas.getContext("2d").getImageData(side * half, 0, half, canvas.height);
      const found = {};
      for (let k = 0; k < data.length; k += 4) if (data[k + 3]) found[[data[k], data[k + 1], data[k + 2]]] = 1;
      return Object.keys(found);
    }"""
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 900, "height": 800})
        page.goto(page_file.as_uri())
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        blue, orange = "0,114,178", "230,159,0"  # a mark at the middle reaches over it
        assert blue in page.evaluate(count, 0)
        assert orange in page.evaluate(count, 1)
        page.get_by_role("button", name="left (").click()
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert blue not in [*page.evaluate(count, 0), *page.evaluate(count, 1)]


@pytest.mark.slow
@needs_chromium
def test_no_class_covers_the_others(tmp_path: Path) -> None:
    """Of classes that lie in one place, each shows by as many pixels as the others, whatever their order."""
    places = np.random.default_rng(0).uniform(-1, 1, (40_000, 2)).astype(np.float32)
    colouring = Colouring("class", np.arange(40_000) // 20_000, ("first", "last"))
    names = [f"{row}.png" for row in range(40_000)]
    text = MapText("40,000 points", (), "", 0)
    page_file = write_map(tmp_path / "map.html", names, places, [colouring], np.empty(0, np.int64), text)
    count = """() => {
      const canvas = document.getElementById("points"), found = {};
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      for (let k = 0; k < data.length; k += 4) if (data[k + 3]) found[data[k]] = (found[data[k]] || 0) + 1;
      return [found[0], found[230]];
    }"""
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 600, "height": 600})
        page.goto(page_file.as_uri())
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        blue, orange = page.evaluate(count)
    assert 0.5 < blue / orange < 2
