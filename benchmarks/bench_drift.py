"""How often `featx drift` raises a false alarm, and what it sees: Fashion-MNIST, altered step by step.

    python benchmarks/bench_drift.py --out DIR [--fashion-mnist DIR] [--resamples 200] [--altered 20]

A logistic regression on EfficientNetLite0 at 64 x 64 pixels knows nine classes, fitted on 3,000 images. Every resample
draws 500 images that it was not fitted on to compare with, and 200 others as the new ones: as they are (false alarms),
blurred (Gauss, by its radius in pixels of 64), as JPEG (by quality), with a colour cast (red more and blue less by a
share), with some of a tenth class, or with one class more frequent by a factor. A comparison is all four tests, by
Holm, at the level 0.05. Features are kept in DIR, so that a second run takes seconds.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import harness
import numpy as np
from PIL import Image, ImageFilter

UNKNOWN = 8  # "Bag", which the model does not know
COUNT, HELD, NEW = 600, 500, 200
Alter = Callable[[Image.Image], Image.Image]


def _blur(radius: float) -> Alter:
    return lambda image: image.filter(ImageFilter.GaussianBlur(radius))


def _jpeg(quality: int) -> Alter:
    def alter(image: Image.Image) -> Image.Image:
        written = io.BytesIO()
        image.save(written, "JPEG", quality=quality)
        return Image.open(io.BytesIO(written.getvalue())).convert("RGB")

    return alter


def _cast(share: float) -> Alter:
    factor = np.array([1 + share, 1, 1 - share])
    return lambda image: Image.fromarray(np.clip(np.asarray(image) * factor, 0, 255).astype(np.uint8))


ALTERED: dict[str, Alter] = {
    **{f"blur {radius}": _blur(radius) for radius in (0.5, 0.75, 1.0)},
    **{f"jpeg {quality}": _jpeg(quality) for quality in (90, 70, 50)},
    **{f"cast {share}": _cast(share) for share in (0.02, 0.05, 0.1)},
}
ADDED = {"new class 5 %": 0.05, "new class 10 %": 0.1, "new class 20 %": 0.2}
MIXED = {"mix x 2": 2.0, "mix x 3": 3.0, "mix x 5": 5.0}


def write(folder: Path, pixels: np.ndarray, rows: np.ndarray, names: Sequence[str] | None, alter: Alter | None) -> None:
    """Write images as PNG files of 64 x 64 pixels, in a folder of their class where names are given."""
    for number, row in enumerate(rows.tolist()):
        image = Image.fromarray(pixels[row]).convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)
        place = folder if names is None else folder / names[number]
        place.mkdir(parents=True, exist_ok=True)
        (alter(image) if alter else image).save(place / f"{row:05d}.png", compress_level=1)


def prepare(out: Path, source: Path) -> tuple[Any, dict[str, np.ndarray], np.ndarray]:
    """The model, the features of every set, and the labels of the clean one, whose first 600 were altered."""
    import featx
    from featx.dataset.fashion_mnist import FASHION_CLASSES, read_fashion_mnist

    pixels, y = read_fashion_mnist(source)["train"]
    known = np.flatnonzero(y != UNKNOWN)
    train, clean = known[:3000], known[3000:6000]
    sets: dict[str, tuple[np.ndarray, Alter | None]] = {
        "clean": (clean, None),
        "unknown": (np.flatnonzero(y == UNKNOWN)[:COUNT], None),
        **{name: (clean[:COUNT], alter) for name, alter in ALTERED.items()},
    }
    keys: dict[str, Any] = {"backbone": "EfficientNetLite0", "input_size": 64, "cache": str(out / "cache")}
    if not (out / "train").exists():
        write(out / "train", pixels, train, [FASHION_CLASSES[code] for code in y[train].tolist()], None)
    model = featx.fit_head(out / "train", strength=0.1, html=False, runs=str(out / "runs"), **keys)
    found = {}
    for name, (rows, alter) in sets.items():
        if not (out / name).exists():
            write(out / name, pixels, rows, None, alter)
        done = featx.extract(out / name, **keys)
        found[name] = done.features(done.outputs[0], np.arange(len(rows))).asarray()
    return model.bundle, found, y[clean]


def take(side: Any, rows: np.ndarray) -> Any:
    """Some rows of a side."""
    return type(side)(*(getattr(side, one.name)[rows] for one in fields(side)))


def join(first: Any, second: Any) -> Any:
    """The rows of two sides."""
    return type(first)(
        *(np.concatenate([getattr(first, one.name), getattr(second, one.name)]) for one in fields(first))
    )


@dataclass
class World:
    """Everything that new images are drawn from."""

    sides: dict[str, Any]
    labels: np.ndarray

    def new(self, name: str, generator: np.random.Generator) -> Any:
        """200 new images, of the first 600."""
        rows = generator.permutation(COUNT)[:NEW]
        if name in ADDED:
            count = round(NEW * ADDED[name])
            return join(take(self.sides["clean"], rows[count:]), take(self.sides["unknown"], rows[:count]))
        if name in MIXED:
            weight = np.where(self.labels[:COUNT] == 0, MIXED[name], 1.0)
            rows = generator.choice(COUNT, NEW, replace=False, p=weight / weight.sum())
        return take(self.sides[name if name in ALTERED else "clean"], rows)


def measure(world: World, name: str, resamples: int) -> dict[str, float]:
    """The share of resamples in which each test alone, and the comparison as a whole, raises an alarm."""
    from featx.active.comparison import compare_sides

    alarms: dict[str, float] = {}
    for seed in range(resamples):
        generator = np.random.default_rng(seed)
        held = COUNT + generator.permutation(len(world.labels) - COUNT)[:HELD]
        found = compare_sides(world.new(name, generator), take(world.sides["clean"], held), answers=True, seed=seed)
        hits = {test: one.p <= 0.05 for test, one in found.items()}
        hits["all"] = min(one.adjusted for one in found.values()) <= 0.05
        for test, hit in hits.items():
            alarms[test] = alarms.get(test, 0) + hit / resamples
    return {test: round(share, 3) for test, share in alarms.items()}


def main() -> None:
    """Measure everything and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fashion-mnist", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--altered", type=int, default=20)
    arguments = parser.parse_args()
    from featx.active.comparison import Side

    begun = time.perf_counter()
    bundle, features, labels = prepare(arguments.out, arguments.fashion_mnist)
    reference = bundle.reference()
    world = World({name: Side.of(bundle, rows, reference) for name, rows in features.items()}, labels)
    found = {"unchanged": measure(world, "unchanged", arguments.resamples)}
    for name in (*ALTERED, *ADDED, *MIXED):
        print(*list(found.items())[-1], file=sys.stderr, flush=True)
        found[name] = measure(world, name, arguments.altered)
    goals = {"false alarms": (16 / 200, found["unchanged"]["all"], "max")}
    harness.report("Drift", found, goals, {"seconds": round(time.perf_counter() - begun, 1)})


if __name__ == "__main__":
    main()
