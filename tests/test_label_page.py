"""The page of featx label in a browser, by keyboard alone: accept, choose, undo, order, classes, a phone's width."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsers import needs_chromium, open_browser
from fitted import Lab

from featx.active.label import LabelPlan, open_desk
from featx.config import DataOptions
from featx.io.context import Context
from featx.serve.label_server import label_server
from featx.serve.server import listen, url
from featx.store.cache import Cache

NAMELESS = """found => found.filter(one => one.offsetParent && one.tagName !== "IMG").filter(
    one => !(one.getAttribute("aria-label") || one.innerText || (one.labels || [])[0]?.innerText || "").trim()
).map(one => one.outerHTML)"""

pytestmark = [
    pytest.mark.slow,
    needs_chromium,
]


@contextmanager
def opened(plan: LabelPlan, **view: Any) -> Iterator[Any]:
    """The page in a browser, which has not complained at the end."""
    with Cache(plan.pipeline.features.cache) as cache, listen("127.0.0.1", 0) as listener:
        desk = open_desk(plan, cache, Context())
        server = label_server(desk, "token")
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            with open_browser() as browser:
                page = browser.new_page(**view)
                page.set_default_timeout(30_000)
                complaints: list[str] = []
                page.on("pageerror", lambda error: complaints.append(str(error)))
                page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
                page.goto(f"{url('127.0.0.1', listener)}/token/")
                yield page
                assert complaints == []
        finally:
            server.should_exit = True
            thread.join()
            desk.close()


def test_the_keyboard_labels_on_a_phones_width(lab: Lab, tmp_path: Path) -> None:
    bundle = lab.bundle("logreg")
    listed = tmp_path / "list.csv"
    listed.write_text("path,label\n" + "".join(f"{name},\n" for name in lab.pictures[:6]))
    out = tmp_path / "labels.csv"
    plan = LabelPlan(replace(lab.pipeline, data=DataOptions(path=str(listed))), bundle, out)
    with opened(plan, viewport={"width": 390, "height": 800}, color_scheme="dark") as page:
        suggestion = page.locator("#classes .suggested").get_attribute("aria-label").partition(",")[0]
        page.keyboard.press("Enter")
        page.get_by_text("1 labelled here").wait_for()
        page.keyboard.press("2")
        page.get_by_text("2 labelled here").wait_for()
        page.keyboard.press("u")
        page.get_by_text("Taken back").wait_for()
        page.keyboard.press("n")
        page.keyboard.type("teal")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="teal, key 4").wait_for()
        page.keyboard.press("4")
        page.get_by_text("2 labelled here").wait_for()
        page.get_by_role("img", name="Image to label").wait_for()
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert out.read_text().splitlines()[1:] == [
        f"{lab.pictures[0]},{suggestion},accepted,yes",
        f"{lab.pictures[1]},teal,labelled,yes",
    ]


def test_likely_wrong_labels_and_many_classes_by_keyboard(lab: Lab, tmp_path: Path) -> None:
    """Everything by the keyboard: the order, a class that is found by its name; and every control has a name."""
    listed, out = tmp_path / "list.csv", tmp_path / "labels.csv"
    given = ["green", "blue", "blue"]  # all of these are blue
    listed.write_text("path,label\n" + "".join(map("{},{}\n".format, lab.pictures[:3], given)))
    classes = ("blue", "green", "red", *(f"shade {number}" for number in range(40)))
    report = replace(lab.pipeline.report, runs=str(tmp_path / "runs"))
    pipeline = replace(lab.pipeline, data=DataOptions(path=str(listed), classes=classes), report=report)
    with opened(LabelPlan(pipeline, lab.bundle("logreg"), out)) as page:
        page.get_by_text("3 with a label of the data").wait_for()
        page.locator("summary").focus()
        page.keyboard.press("Enter")
        page.get_by_label("Order").focus()
        page.keyboard.type("likely")
        page.get_by_text("in the data: green").wait_for()
        nameless = page.locator("button, input, select, img[alt]").evaluate_all(NAMELESS)
        assert nameless == []
        page.locator("#skip").focus()
        page.keyboard.press("/")
        page.keyboard.type("e 17")
        assert page.get_by_role("button", name="shade 17, key").count() == page.locator("#classes button").count() == 1
        page.keyboard.press("Enter")
        page.get_by_text("1 labelled here").wait_for()
    assert f"{lab.pictures[0]},shade 17,labelled,yes" in out.read_text().splitlines()
