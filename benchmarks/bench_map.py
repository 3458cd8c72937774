"""How fluid the page of `featx map` is: frames per second while it is moved and zoomed, by the number of points.

    python benchmarks/bench_map.py [--points 10000 100000] [--seconds 4]     # needs playwright and Chromium

The pages hold made-up points in ten groups. In Chromium without a window, which draws by the processor, a script on the
page presses an arrow key, or + and -, before every frame and counts frames a second by requestAnimationFrame; 60 is the
most.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import report

MOVE = """async ([seconds, keys]) => {
  const canvas = document.getElementById("points");
  canvas.focus();
  const frame = () => new Promise(requestAnimationFrame);
  for (let k = 0; k < 5; k++) await frame();
  const start = performance.now();
  let frames = 0, longest = 0, last = start;
  while (performance.now() - start < 1000 * seconds) {
    const key = keys[Math.floor(frames / 20) % keys.length];
    canvas.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    await frame();
    frames++;
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }
  return { frames: frames / ((performance.now() - start) / 1000), longest_frame_ms: longest };
}"""
KEYS = {"moved": ["ArrowLeft", "ArrowRight"], "zoomed": ["+", "-"]}
GOAL = 30.0  # frames per second, from which on a motion is seen as one


def write_page(folder: Path, points: int) -> Path:
    """A map of points without pictures."""
    from featx.report.map import Colouring, MapText, write_map

    random = np.random.default_rng(0)
    code = random.integers(0, 10, points)
    angle = 2 * np.pi * code / 10
    places = 0.6 * np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.1 * random.standard_normal((points, 2))
    places = np.clip(places, -1, 1).astype(np.float32)
    colouring = Colouring("class", code, tuple(f"class {number}" for number in range(10)))
    paths = [f"photos/{row:08d}.jpg" for row in range(points)]
    text = MapText(f"{points:,} points", (), "featx map", 0)
    return write_map(folder / f"{points}.html", paths, places, [colouring], np.empty(0, np.int64), text)


def measure(page: Path, seconds: float) -> dict[str, dict[str, Any]]:
    """Frames per second of a page."""
    api: Any = importlib.import_module("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1200, "height": 850})
        opened.goto(page.as_uri())
        found = {how: opened.evaluate(MOVE, [seconds, keys]) for how, keys in KEYS.items()}
        browser.close()
    return found


def main() -> None:
    """Parse, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for points in arguments.points:
            page = write_page(Path(folder), points)
            for how, found in measure(page, arguments.seconds).items():
                results[f"{points:,} points, {how}"] = found
    slowest = min(results, key=lambda name: float(results[name]["frames"]))
    goals: dict[str, tuple[float, float, str]] = {
        f"fewest frames per second ({slowest})": (GOAL, results[slowest]["frames"], "min")
    }
    report("The page of featx map is fluid", results, goals)


if __name__ == "__main__":
    main()
