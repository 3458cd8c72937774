"""Every kind of page that featx writes or serves, in a real browser: axe-core finds no violation, nothing is cut off.

The rules are axe-core's, which is not part of featx: `npm pack axe-core`, unpacked anywhere, and its `axe.min.js` named
by the variable AXE. Without it, Chromium or Playwright these are skipped.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsers import needs_chromium, open_browser
from conftest import write_images
from fitted import Lab, call
from serving import served

from featx.active.label import LabelPlan, open_desk
from featx.config import DataOptions
from featx.io.context import Context
from featx.serve.label_server import label_server
from featx.serve.server import listen, url
from featx.serve.service import Terms
from featx.store.cache import Cache

RULES = Path(os.environ.get("AXE", "axe.min.js"))
RUN = """
axe.run(document, {resultTypes: ["violations"]}).then(
  found => found.violations.map(one => [one.id, one.nodes.map(node => node.html)])
)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not RULES.is_file(), reason="AXE names no axe.min.js"),
    needs_chromium,
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as started:
        yield started


def require_sound(browser: Any, url: str) -> None:
    """No violation and nothing wider than the screen, on a desk and a phone, in light and dark."""
    for width in (1200, 390):
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": width, "height": 850}, color_scheme=scheme)
            page.set_default_timeout(60_000)
            page.goto(url)
            page.wait_for_timeout(300)  # what a script draws
            page.evaluate(RULES.read_text(encoding="utf-8"))
            assert page.evaluate(RUN) == [], (url, width, scheme)
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (url, width, scheme)
            page.close()


def test_pages_that_commands_write(browser: Any, lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "pictures").symlink_to(lab.root / "pictures")
    write_images(tmp_path / "new", 24, size=(32, 32))
    network = ["--backbone", str(lab.root / "tiny.keras"), "--cache", str(lab.root / "cache")]
    split = ["--split", "0.5,0.25,0.25"]
    commands = (
        ["fit-head", "pictures", *network, *split],
        ["check", "pictures", "--features", *network],
        ["look", "pictures", "--no-advice", *network],
        ["map", "pictures", *network, "--method", "pca"],
        ["enough", "pictures", *network, "--repeats", "2"],
        ["next", "pictures", "--count", "5", "--name", "more", *network],
        ["drift", "new", "--model", "runs/pictures", *network[2:]],
        ["evaluate", "--model", "runs/pictures", "--mistakes", "mistakes"],
        ["compare", "pictures", *network[:2], "--clf", "logreg,ridge", "--stage", "head"],
    )
    for command in commands:
        outcome = call(*command, cwd=tmp_path)
        assert outcome.status == 0, outcome.err
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) >= len(commands)
    for page in pages:
        require_sound(browser, page.as_uri())


def test_pages_that_are_served(browser: Any, lab: Lab) -> None:
    with served(lab.bundle("logreg"), Terms()) as client:
        for place in ("/", "/docs"):
            require_sound(browser, f"{client.base_url}{place}")


def test_the_page_to_label_on(browser: Any, lab: Lab, tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text("path,label\n" + "".join(f"{name},\n" for name in lab.pictures[:6]))
    plan = LabelPlan(
        replace(lab.pipeline, data=DataOptions(path=str(listed))), lab.bundle("logreg"), tmp_path / "labels.csv"
    )
    with Cache(plan.pipeline.features.cache) as cache, listen("127.0.0.1", 0) as listener:
        desk = open_desk(plan, cache, Context())
        server = label_server(desk, "token")
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            require_sound(browser, f"{url('127.0.0.1', listener)}/token/")
        finally:
            server.should_exit = True
            thread.join()
            desk.close()
