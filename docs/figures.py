"""Draw every picture of the documentation anew, from real data: `make docs-figures`, or

    python docs/figures.py                    all of them
    python docs/figures.py explain depth      these

Each is made by the command that a reader would type, then brought below 100 kB by a palette. The digits are those of
scikit-learn and the backbone is the one that comes along, so nothing is downloaded. Run it from the project's folder.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent
PIPELINES = DOCS.parent / "pipelines"
DIGITS = Path("cache/data/digits")
MOST_BYTES = 100_000
# colours of the palette, whether they are dithered, and the size; the first that fits
SMALLER = (
    *((256, True, 1.0), (128, True, 1.0), (256, False, 1.0), (128, False, 1.0)),
    *((128, False, 0.8), (128, False, 0.7), (64, False, 0.7), (64, False, 0.5)),
)
# a test image of every digit, 0 to 9
EXPLAINED = (36, 47, 51, 59, 64, 33, 58, 44, 40, 37)


def featx(*arguments: object) -> None:
    """Run a command as a reader would; its messages stay on the terminal."""
    subprocess.run([sys.executable, "-m", "featx", *map(str, arguments)], check=True)


def draw_augmentation(folder: Path) -> Path:
    """A flower, three views of it, and what each operation does by itself."""
    policy = ("--flip", "horizontal", "--rotation", 20, "--shift", 0.2, "--zoom", 0.2)
    flower = files("sklearn.datasets") / "images" / "flower.jpg"
    featx("augment", flower, *policy, "--count", 3, "--out", folder / "grid.png")
    return folder / "grid.png"


def draw_explain(folder: Path) -> Path:
    """Digits and what speaks for their class, by the demo's SVM."""
    featx("fit-head", "--runs", folder / "runs", "--no-html")
    images = [DIGITS / str(digit) / f"{number:04}.png" for digit, number in enumerate(EXPLAINED)]
    featx("explain", *images, "--model", folder / "runs" / "default", "--out", folder / "maps")
    return folder / "maps" / "grid.png"


def draw_depth(_: Path) -> Path:
    """Accuracy on the digits by depth, on every block of EfficientNetLite0; its bundles are kept in runs/."""
    featx("compare", "-p", PIPELINES / "digits_depth.yaml")
    return Path("runs/digits_depth/depth-digits-EfficientNetLite0-64.png")


PICTURES: dict[str, Callable[[Path], Path]] = {
    "augmentation": draw_augmentation,
    "explain": draw_explain,
    "depth": draw_depth,
}


def shrink(path: Path) -> bytes:
    """A picture as a PNG file below `MOST_BYTES`, with as many colours and as large as fits."""
    with Image.open(path) as picture:
        whole = picture.convert("RGB")
    for colours, dithered, scale in SMALLER:
        size = (round(whole.width * scale), round(whole.height * scale))
        scaled = whole if scale == 1 else whole.resize(size, Image.Resampling.LANCZOS)
        small = scaled.quantize(colours)
        if dithered:
            small = scaled.quantize(palette=small, dither=Image.Dither.FLOYDSTEINBERG)
        content = io.BytesIO()
        small.save(content, "PNG", optimize=True)
        if content.tell() < MOST_BYTES:
            return content.getvalue()
    raise SystemExit(f"{path} takes more than {MOST_BYTES:,} bytes however it is shrunk: draw less.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*PICTURES, []], metavar="NAME", help=", ".join(PICTURES))
    names = parser.parse_args().names or list(PICTURES)
    if not DIGITS.is_dir():
        featx("data", "digits", "--out", DIGITS)
    for name in names:
        with tempfile.TemporaryDirectory(prefix="featx-") as folder:
            content = shrink(PICTURES[name](Path(folder)))
        (DOCS / f"{name}.png").write_bytes(content)
        print(f"docs/{name}.png: {len(content):,} bytes")


if __name__ == "__main__":
    main()
