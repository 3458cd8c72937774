"""How true the forecasts of `featx enough` are: the largest sizes of a curve are hidden and forecast from the others.

    python benchmarks/bench_enough.py [--fashion-mnist DIR] [--photographs DIR ...] [--weights FILE] [--first 6]
        [--seeds 6] [--sets digits ...]

The sets are those of `bench_next.py`. Of each so many images are drawn that a curve of nine sizes ends at three
quarters of them; the last one, two or three sizes (up to 6 times as many images) are hidden. A trial is one hidden
size: whether the accuracy that was measured there lies in the band of 90 %, and the gain since the last size that was
seen in its own; how wide the first is, and whether the forecast is closer than the accuracy at that last size (flat).
The two constants of the forecast were chosen on the draws 0 to 5, so the draws from --first on are reported. Curves are
kept in --work, so that a second run takes a minute.

`hands, by person` is the folder of photographs `hands` (the Sign Language Digits Dataset), all images of a person on
one side: cameras number the images, and every person showed the digits in their order.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import harness
import numpy as np
from bench_next import World, digits, network, photographs, pixels

USUAL = (800, 1500, 3000)  # of photographs; of fewer all
SIZES = {"digits": (500, 1000, 1797), "pixels": (800, 2000, 5000), "network": (800, 2000, 5000)}


PARTED = "hands, by person"


@dataclass(frozen=True)
class Trial:
    """One hidden size. inside, gain_inside : of the bands; width : of the first; error, flat : how far the forecasts
    are off
    """

    inside: bool
    gain_inside: bool
    width: float
    error: float
    flat: float


def trials(world: World, groups: np.ndarray | None, seeds: Iterable[int], work: Path) -> Iterator[Trial]:
    """All of a set. groups : int64 (n,), rows that stay on one side"""
    from featx.quality.powerlaw import PowerLaws

    rows = len(world.y) + len(world.test_y)
    for count in SIZES.get(world.name, tuple(dict.fromkeys(min(size, rows) for size in USUAL))):
        for seed in seeds:
            sizes, errors = curve_of(world, groups, count, seed, work / "curves")
            for hidden in (1, 2, 3):
                seen = len(sizes) - hidden
                laws = PowerLaws.fit(sizes[:seen], errors[:, :seen])
                last = float(errors[:, seen - 1].mean())
                for place in range(seen, len(sizes)):
                    forecast, true = laws.forecast(int(sizes[place])), float(errors[:, place].mean())
                    _, least, most = laws.gain(int(sizes[seen - 1]), int(sizes[place]))
                    low, high = forecast.interval
                    inside, gained = low <= true <= high, least <= last - true <= most
                    yield Trial(inside, gained, high - low, abs(forecast.error - true), abs(last - true))
        print(world.name, count, file=sys.stderr, flush=True)


def curve_of(
    world: World, groups: np.ndarray | None, count: int, seed: int, kept: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and errors (repeats, sizes) of so many images, drawn by the seed; kept in a folder."""
    from featx.features import ArrayFeatures
    from featx.io.progress import no_progress
    from featx.quality.curve import measure_curve

    path = kept / f"{world.name}{'-parted' if groups is not None else ''}-{count}-{seed}.npz"
    if not path.exists():
        x, y = np.concatenate([world.pool, world.test]), np.concatenate([world.y, world.test_y])
        rows = np.random.default_rng(50 + seed).permutation(len(y))[:count]
        some = None if groups is None else groups[rows]
        curve = measure_curve(ArrayFeatures(x[rows], x.shape[1:]), y[rows], some, 8, seed, no_progress)
        kept.mkdir(parents=True, exist_ok=True)
        np.savez(path, sizes=curve.sizes, errors=1 - curve.right)
    with np.load(path) as found:
        return found["sizes"], found["errors"]


def people(world: World) -> np.ndarray:
    """The person of each photograph of hands, int64 (n,): the next one begins where the digits do."""
    shown = sorted((int(Path(path).stem.rpartition("_")[2]), int(Path(path).parent.name)) for path in world.paths)
    person, number = 0, dict[int, int]()
    for (image, digit), (_, before) in zip(shown, [(0, 10), *shown], strict=False):
        person += digit < before
        number[image] = person
    return np.array([number[int(Path(path).stem.rpartition("_")[2])] for path in world.paths])


def summarize(found: list[Trial]) -> dict[str, float]:
    """What all trials say."""
    return {
        "trials": len(found),
        "inside": round(float(np.mean([one.inside for one in found])), 3),
        "gain_inside": round(float(np.mean([one.gain_inside for one in found])), 3),
        "median_width": round(float(np.median([one.width for one in found])), 4),
        "closer_than_flat": round(float(np.mean([one.error < one.flat for one in found])), 3),
        "mean_error": round(float(np.mean([one.error for one in found])), 4),
        "mean_error_flat": round(float(np.mean([one.flat for one in found])), 4),
    }


def worlds(arguments: argparse.Namespace) -> Iterator[tuple[str, World, np.ndarray | None]]:
    """Name, images and groups of every set whose files were named."""
    for name in arguments.sets:
        if name == "digits":
            yield name, digits(), None
        elif name == "pixels" and arguments.fashion_mnist:
            yield name, pixels(arguments.fashion_mnist), None
        elif name == "network" and arguments.fashion_mnist and arguments.weights:
            yield name, network(arguments.fashion_mnist, arguments.weights, arguments.work), None
        elif name == "photographs" and arguments.weights:
            for folder in arguments.photographs:
                world = photographs(folder, arguments.weights, arguments.work)
                yield folder.name, world, None
                if folder.name == "hands":
                    yield PARTED, world, people(world)


def main() -> None:
    """Parse, simulate, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fashion-mnist", type=Path, help="Folder of the four published files.")
    parser.add_argument("--photographs", type=Path, nargs="+", default=[], help="Folders of folders of photographs.")
    parser.add_argument("--weights", type=Path, help="Weights of InceptionV3.")
    parser.add_argument("--work", type=Path, default=Path("bench-next"), help="Folder for images and features.")
    parser.add_argument("--first", type=int, default=6, help="The first draw.")
    parser.add_argument("--seeds", type=int, default=6, help="The number of draws.")
    parser.add_argument("--sets", nargs="+", default=["digits", "pixels", "network", "photographs"])
    arguments = parser.parse_args()
    draws = range(arguments.first, arguments.first + arguments.seeds)
    found = {name: list(trials(world, groups, draws, arguments.work)) for name, world, groups in worlds(arguments)}
    results = {name: summarize(some) for name, some in found.items()}
    results["all"] = summarize([one for some in found.values() for one in some])
    least = min(results, key=lambda name: results[name]["inside"])
    goals: dict[str, tuple[float, float, str]] = {
        "inside the band, worst set": (0.85, results[least]["inside"], "min"),
        "median width of the band": (0.04, results["all"]["median_width"], "max"),
        "closer than flat, worst set": (
            0.5,
            min(one["closer_than_flat"] for one in results.values()),
            "min",
        ),
    }
    harness.report("Forecasts of featx enough", results, goals)


if __name__ == "__main__":
    main()
