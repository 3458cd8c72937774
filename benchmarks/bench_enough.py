"""How true the forecasts of `featx enough` are: the largest sizes of a curve are hidden and forecast from the others.

    python benchmarks/bench_enough.py [--fashion-mnist DIR] [--photographs DIR ...] [--weights FILE] [--seeds 5]
        [--sets digits ...]

The sets are those of `bench_next.py`. Of each so many images are drawn that a curve of nine sizes ends at three
quarters of them; the last one, two or three sizes (up to 6 times as many images) are hidden. A trial is one hidden
size: whether the accuracy that was measured there lies in the band of 90 %, how wide that is, and whether the forecast
is closer than the accuracy at the last size that was seen (flat).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import harness
import numpy as np
from bench_next import World, digits, network, photographs, pixels

USUAL = (800, 1500, 3000)  # of photographs; of fewer all
SIZES = {"digits": (500, 1000, 1797), "pixels": (800, 2000, 5000), "network": (800, 2000, 5000)}


@dataclass(frozen=True)
class Trial:
    """One hidden size. inside : the band; width : of it; error, flat : how far the forecasts are off"""

    inside: bool
    width: float
    error: float
    flat: float


def trials(world: World, seeds: int) -> Iterator[Trial]:
    """All of a set."""
    from featx.features import ArrayFeatures
    from featx.io.progress import no_progress
    from featx.quality.curve import measure_curve
    from featx.quality.powerlaw import PowerLaws

    x, y = np.concatenate([world.pool, world.test]), np.concatenate([world.y, world.test_y])
    for count in SIZES.get(world.name, tuple(min(size, len(y)) for size in USUAL)):
        for seed in range(seeds):
            rows = np.random.default_rng(50 + seed).permutation(len(y))[:count]
            curve = measure_curve(ArrayFeatures(x[rows]), y[rows], None, 8, seed, no_progress)
            errors, sizes = 1 - curve.right, curve.sizes
            for hidden in (1, 2, 3):
                seen = len(sizes) - hidden
                laws = PowerLaws.fit(sizes[:seen], errors[:, :seen])
                for place in range(seen, len(sizes)):
                    forecast, true = laws.forecast(int(sizes[place])), float(errors[:, place].mean())
                    low, high = forecast.interval
                    flat = abs(float(errors[:, seen - 1].mean()) - true)
                    yield Trial(low <= true <= high, high - low, abs(forecast.error - true), flat)
        print(world.name, count, file=sys.stderr, flush=True)


def summarize(found: list[Trial]) -> dict[str, float]:
    """What all trials say."""
    return {
        "trials": len(found),
        "inside": round(float(np.mean([one.inside for one in found])), 3),
        "median width": round(float(np.median([one.width for one in found])), 4),
        "closer than flat": round(float(np.mean([one.error < one.flat for one in found])), 3),
        "mean error": round(float(np.mean([one.error for one in found])), 4),
        "mean error, flat": round(float(np.mean([one.flat for one in found])), 4),
    }


def main() -> None:
    """Parse, simulate, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fashion-mnist", type=Path, help="Folder of the four published files.")
    parser.add_argument("--photographs", type=Path, nargs="+", default=[], help="Folders of folders of photographs.")
    parser.add_argument("--weights", type=Path, help="Weights of InceptionV3.")
    parser.add_argument("--work", type=Path, default=Path("bench-next"), help="Folder for images and features.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=["digits", "pixels", "network", "photographs"])
    arguments = parser.parse_args()
    found: dict[str, list[Trial]] = {}
    for name in arguments.sets:
        if name == "digits":
            found[name] = list(trials(digits(), arguments.seeds))
        elif name == "pixels" and arguments.fashion_mnist:
            found[name] = list(trials(pixels(arguments.fashion_mnist), arguments.seeds))
        elif name == "network" and arguments.fashion_mnist and arguments.weights:
            world = network(arguments.fashion_mnist, arguments.weights, arguments.work)
            found[name] = list(trials(world, arguments.seeds))
        elif name == "photographs" and arguments.weights:
            for folder in arguments.photographs:
                world = photographs(folder, arguments.weights, arguments.work)
                found[folder.name] = list(trials(world, arguments.seeds))
    every = summarize([one for some in found.values() for one in some])
    goals: dict[str, tuple[float, float, str]] = {
        "inside the band of 90 %": (0.85, every["inside"], "min"),
        "median width of the band": (0.04, every["median width"], "max"),
        "closer than a flat forecast": (0.5, every["closer than flat"], "min"),
        "mean error against that of a flat forecast": (1.0, every["mean error"] / every["mean error, flat"], "max"),
    }
    harness.report("featx enough forecasts", {name: summarize(some) for name, some in found.items()}, goals)


if __name__ == "__main__":
    main()
