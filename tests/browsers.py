"""A browser for the tests of pages: Chromium of this machine, driven by playwright; without either they are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_FOUND = [
    found for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (found := shutil.which(name))
]

needs_chromium = pytest.mark.skipif(not _FOUND, reason="there is no Chromium here")


@contextmanager
def open_browser() -> Iterator[Any]:
    """Chromium, until the end of the context."""
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_FOUND[0], args=["--no-sandbox"])
        yield browser
        browser.close()
