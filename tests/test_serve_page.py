"""The page of featx serve in a real browser: an image, its answer, its map, what goes wrong; nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsers import needs_chromium, open_browser
from fitted import Lab, make_lab
from serving import served, several_labels

from featx.bundle.bundle import Bundle
from featx.inference.predict import AnswerOptions, predict
from featx.serve.service import Terms

SECONDS = 60_000  # for what a slow machine takes, in milliseconds

pytestmark = [
    pytest.mark.slow,
    needs_chromium,
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_lab(tmp_path_factory.getbasetemp() / "lab").bundle("logreg")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as started:
        yield started


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page whose complaints and requests are remembered."""
    opened = browser.new_page()
    opened.set_default_timeout(SECONDS)
    opened.complaints, opened.asked = [], []
    opened.on("console", lambda said: opened.complaints.append(said.text) if said.type == "error" else None)
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.on("request", lambda request: opened.asked.append(request.url))
    yield opened
    opened.close()


def test_an_image_is_answered_and_explained(page: Any, bundle: Bundle, lab: Lab) -> None:
    (wanted,) = predict(bundle, lab.pictures[:1], AnswerOptions(top=3))
    with served(bundle) as client:
        page.goto(str(client.base_url))
        page.get_by_text("3 classes").wait_for()
        page.locator("#files").set_input_files(lab.pictures[0])
        card = page.locator(".card")
        card.locator(".bars li").first.wait_for()
        assert wanted.label in card.locator(".label").inner_text()
        assert f"{100 * wanted.confidence:.0f} %" in card.locator(".label").inner_text()
        assert card.locator(".name").all_inner_texts() == [choice.label for choice in wanted.top]
        page.get_by_role("button", name=wanted.label, exact=True).wait_for()  # the map comes by itself
        assert card.locator("img").get_attribute("src").startswith("data:image/jpeg")
        assert wanted.label in card.locator("img").get_attribute("alt")
        page.get_by_role("button", name="The image").click()
        assert card.locator("img").get_attribute("src").startswith("blob:")
        page.get_by_role("button", name="Remove all").click()
        assert page.locator(".card").count() == 0
        assert page.complaints == []
        own = str(client.base_url)
        assert all(url.startswith((own, "blob:", "data:")) for url in page.asked)


def test_the_set_of_classes_is_on_the_page(page: Any, bundle: Bundle, lab: Lab) -> None:
    (wanted,) = predict(bundle, lab.pictures[:1], AnswerOptions(coverage=0.8))
    with served(bundle, Terms(maps=False, coverage=0.8)) as client:
        page.goto(str(client.base_url))
        page.get_by_text("3 classes").wait_for()
        page.locator("#files").set_input_files(lab.pictures[0])
        page.locator(".card[aria-busy=false]").wait_for()
        assert wanted.set
        assert page.locator(".card .set").inner_text() == f"Set for 80 % of images: {', '.join(wanted.set)}"
        assert page.complaints == []


def test_many_images_a_broken_one_and_the_keyboard(page: Any, bundle: Bundle, lab: Lab, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("This is not an image.\n" * 9)
    with served(bundle, Terms(min_confidence=1.0)) as client:
        page.goto(str(client.base_url))
        page.get_by_text("3 classes").wait_for()
        page.locator("#files").set_input_files([*lab.pictures[:5], str(text)])
        page.locator(".card[aria-busy=false]").nth(5).wait_for()
        assert page.get_by_role("alert").all_inner_texts() == [
            "The image cannot be read: text.png: text, not an image."
        ]
        assert page.get_by_role("button", name="Try again").count() == 0  # it would be the same again
        assert page.locator(".label:visible").all_inner_texts() == ["unsure⚠ low confidence"] * 5
        assert "less than the required 100.0 %" in page.locator(".note:visible").first.inner_text()
        assert page.get_by_role("button", name="Where did it look?").count() == 5  # six at once: only when asked
        page.get_by_role("button", name="Where did it look?").first.focus()
        page.keyboard.press("Enter")
        page.get_by_role("button", name="The image").wait_for()
        page.locator("#files").focus()
        assert page.evaluate("document.activeElement.id") == "files"


def test_a_server_that_has_ended_is_told_and_can_be_asked_again(page: Any, bundle: Bundle, lab: Lab) -> None:
    with served(bundle, Terms(maps=False)) as client:
        page.goto(str(client.base_url))
        page.get_by_text("3 classes").wait_for()
        port = client.base_url.port
    page.locator("#files").set_input_files(lab.pictures[0])
    page.get_by_role("button", name="Try again").wait_for()
    assert "Is featx serve still running?" in page.get_by_role("alert").first.inner_text()
    with served(bundle, Terms(maps=False), port=port):
        page.get_by_role("button", name="Try again").click()
        page.locator(".card .bars li").first.wait_for()
        (wanted,) = predict(bundle, lab.pictures[:1])
        assert wanted.label in page.locator(".label:visible").inner_text()


def test_several_labels_the_report_and_a_drop(page: Any, bundle: Bundle, lab: Lab, tmp_path: Path) -> None:
    copy = replace(several_labels(bundle), path=tmp_path)
    copy.__dict__.update(
        engine=bundle.engine, head=bundle.head, transform=bundle.transform, calibration=bundle.calibration
    )
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("<!doctype html><title>R</title><p>All of the report.")
    with served(copy, Terms(maps=False)) as client:
        page.goto(str(client.base_url))
        page.get_by_text("several per image").wait_for()
        content = list(Path(lab.pictures[0]).read_bytes())
        page.evaluate(
            """(bytes) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"}));
                document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
                const paste = new DataTransfer();
                paste.items.add(new File([new Uint8Array(bytes)], "pasted.png", {type: "image/png"}));
                document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: paste, bubbles: true}));
            }""",
            content,
        )
        page.locator(".card[aria-busy=false]").nth(1).wait_for()
        assert page.locator(".card h2").all_inner_texts() == ["pasted.png", "dropped.png"]
        assert page.locator(".card .bar i").count() == 6  # a mark for every threshold
        page.locator("#tab-images").focus()
        page.keyboard.press("ArrowRight")
        page.frame_locator("iframe").get_by_text("All of the report.").wait_for()
        assert page.locator("#images").is_hidden()
        assert page.complaints == []
