"""How many labels `featx next` saves: simulated labelling of digits and Fashion-MNIST with an oracle.

    python benchmarks/bench_next.py [--fashion-mnist DIR] [--photographs DIR ...] [--weights FILE] [--seeds 10]
        [--first-seed 0] [--sets digits ...]

Sets: `digits` (scikit-learn's, the pixels), `pixels` (6,000 images of Fashion-MNIST, halved to 14 x 14 pixels; 2,000
of its test images), and with --weights `network`, the same 6,000 and 2,000 by `mixed7` of InceptionV3, averaged, at
96 x 96 pixels, and `photographs`: of every folder that is named so, with a subfolder for each class, at most 3,000
photographs by the same layer at 100 x 100 pixels, both in bfloat16; a third of these is measured on. Every seed draws
anew which images are the pool and which are measured on (and which 3,000), the same for all strategies. A model is
featx's logistic regression with the temperature of five folds. Every strategy labels 10, 20, 50, 100, 200, 400, 700 and
1,000 images, from nothing; `margin` begins with 10 at random.

The figure is labels that random choice needs for the same accuracy / labels that the strategy needs: where the mean
accuracy of the strategy lies on the mean accuracy of random choice, with the 95 % interval of resampled seeds. Random
choice is run three times for every seed up to the whole pool, and kept in --work; more than that: "all".
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import harness
import numpy as np

SCHEDULE = (10, 20, 50, 100, 200, 400, 700, 1000)
POINTS = (50, 200, 1000)
SIZES = (10, 15, 20, 30, 40, 50, 70, 100, 140, 200, 280, 400, 550, 700, 1000, 1400, 2000, 3000, 6000)
Strategy = Callable[["World", np.ndarray, int, Any, int], np.ndarray]
MOST_PHOTOGRAPHS = 3000
STRENGTHS = {"digits": 1.0, "pixels": 0.1, "network": 0.1}  # C, which was best for 50 to 1,000 random labels


@dataclass(frozen=True)
class World:
    """A pool whose labels an oracle knows, and images to measure on. paths : of photographs, the pool's first"""

    name: str
    pool: np.ndarray
    y: np.ndarray
    test: np.ndarray
    test_y: np.ndarray
    paths: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pool)


class Model:
    """A logistic regression with a temperature, as `featx fit-head` makes one."""

    def __init__(self, world: World, labelled: np.ndarray) -> None:
        """Fit on labelled rows of the pool."""
        x, y = world.pool[labelled], world.y[labelled]
        self.classes = np.unique(y)
        if len(self.classes) < 2:
            return

        self.x, self.y, self.strength = x, y, STRENGTHS.get(world.name, 0.1)
        self.head = self._fit(np.arange(len(y)))

    def _fit(self, rows: np.ndarray) -> Any:
        from featx.features import ArrayFeatures
        from featx.heads.linear import LogisticRegression

        x = ArrayFeatures(self.x[rows], outputs=self.x.shape[1:])
        return LogisticRegression(C=self.strength).fit(x, self.y[rows])

    @cached_property
    def temperature(self) -> float:
        """Of the logits of five folds; 1 where a class has too few images to be left out."""
        from featx.features import ArrayFeatures
        from featx.heads.calibration import fit_calibration
        from featx.selection.folds import make_folds

        folds, left, truth = make_folds(self.y, None, 5, 0), [], []
        for fold in range(folds.max() + 1):
            rows, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            if len(rows) and len(np.unique(self.y[others])) == len(self.classes):
                left.append(self._fit(others).logits(ArrayFeatures(self.x[rows])))
                truth.append(np.searchsorted(self.classes, self.y[rows]))
        if not left:
            return 1.0
        return float(fit_calibration("temperature", np.concatenate(left), np.concatenate(truth)).temperature)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Of every class that it knows, (n, classes)."""
        from featx.features import ArrayFeatures

        return np.ones((len(x), 1)) if len(self.classes) < 2 else self.head.logits(ArrayFeatures(x))

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Calibrated ones."""
        from featx.metrics.probabilities import softmax

        return softmax(self.logits(x) / (1.0 if len(self.classes) < 2 else self.temperature))

    def accuracy(self, world: World) -> float:
        """On the images to measure on."""
        return float((self.classes[self.logits(world.test).argmax(axis=1)] == world.test_y).mean())


def random_choice(world: World, labelled: np.ndarray, count: int, model: Any, seed: int) -> np.ndarray:  # noqa: ARG001
    """Any images."""
    rest = np.setdiff1d(np.arange(len(world)), labelled)
    return np.random.default_rng(seed * 1000 + len(labelled)).permutation(rest)[:count]


def margin_choice(world: World, labelled: np.ndarray, count: int, model: Model | None, seed: int) -> np.ndarray:
    """Those that the model is least sure of."""
    from featx.active.answers import doubt

    if model is None:
        return random_choice(world, labelled, count, model, seed)
    rest = np.setdiff1d(np.arange(len(world)), labelled)
    return rest[np.argsort(-doubt(model.probabilities(world.pool[rest]))[0], kind="stable")[:count]]


def next_choice(world: World, labelled: np.ndarray, count: int, model: Model | None, seed: int) -> np.ndarray:
    """Those of `featx next`, which follow each other from nothing."""
    from featx.active.answers import doubt
    from featx.active.ranking import Doubts, rank
    from featx.features import ArrayFeatures

    rest = np.setdiff1d(np.arange(len(world)), labelled)
    doubts = None
    if model is not None:
        doubts = Doubts.of(doubt(model.probabilities(world.pool[rest]))[0], len(labelled), len(model.classes))
    known = ArrayFeatures(world.pool[labelled]) if len(labelled) else None
    found = rest[rank(ArrayFeatures(world.pool[rest]), doubts, known, count, 0.97, seed).rows]
    more = random_choice(world, np.concatenate([labelled, found]), count - len(found), model, seed)
    return np.concatenate([found, more])


STRATEGIES: dict[str, Strategy] = {"random": random_choice, "margin": margin_choice, "next": next_choice}


def simulate(world: World, strategy: Strategy, seed: int) -> list[float]:
    """The accuracy after each step of the schedule."""
    labelled, model, found = np.empty(0, np.int64), None, []
    for size in SCHEDULE:
        chosen = strategy(world, labelled, size - len(labelled), model, seed)
        labelled = np.concatenate([labelled, chosen])
        assert len(np.unique(labelled)) == size, "an image was chosen twice"
        model = Model(world, labelled)
        found.append(model.accuracy(world))
    return found


def redrawn(world: World, seed: int) -> World:
    """The same images, of photographs at most 3,000, dealt anew into a pool and those to measure on."""
    x, y = np.concatenate([world.pool, world.test]), np.concatenate([world.y, world.test_y])
    count = min(len(y), MOST_PHOTOGRAPHS) if world.paths else len(y)
    order = np.random.default_rng([1, seed]).permutation(len(y))[:count]
    measured, pool = np.split(order, [count * len(world.test_y) // len(y)])
    return World(world.name, x[pool], y[pool], x[measured], y[measured])


def random_curves(world: World, seed: int, kept: Path) -> np.ndarray:
    """The accuracy of random choice at every size, the last one the whole pool, thrice; kept in a folder."""
    path = kept / f"{world.name}-{seed}.npy"
    if not path.exists():
        orders = [np.random.default_rng([2, seed, turn]).permutation(len(world)) for turn in range(3)]
        reached = [[Model(world, order[:size]).accuracy(world) for size in sizes_of(world)] for order in orders]
        kept.mkdir(parents=True, exist_ok=True)
        np.save(path, reached)
    return np.asarray(np.load(path))


def sizes_of(world: World) -> list[int]:
    """The sizes of the curve of random choice."""
    return [*(size for size in SIZES if size < len(world)), len(world)]


def equivalent(sizes: Sequence[int], curve: np.ndarray, accuracy: float) -> float:
    """How many labels random choice needs for an accuracy; infinity where the whole pool does not do."""
    rising = np.maximum.accumulate(curve)
    return float("inf") if accuracy > rising[-1] else float(np.exp(np.interp(accuracy, rising, np.log(sizes))))


def gains(sizes: Sequence[int], runs: np.ndarray, curves: np.ndarray) -> dict[str, list[float]]:
    """Point -> [gain, least, greatest of 95 %]. runs (seeds, steps), curves (seeds, turns, sizes), of the same seeds"""
    generator, found = np.random.default_rng(0), {}
    for point in POINTS:
        column, of_seed = runs[:, SCHEDULE.index(point)], curves.mean(axis=1)
        some = []
        for _ in range(2000):
            seeds = generator.integers(len(column), size=len(column))
            some.append(equivalent(sizes, of_seed[seeds].mean(axis=0), column[seeds].mean()))
        best = equivalent(sizes, of_seed.mean(axis=0), column.mean())
        low, high = np.quantile(some, [0.025, 0.975], method="nearest")
        found[str(point)] = [round(value / point, 2) for value in (best, low, high)]
    return found


def digits() -> World:
    """The 1,797 digits of scikit-learn; 500 are measured on."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order].astype(np.float32), y[order]
    return World("digits", x[500:], y[500:], x[:500], y[:500])


def pixels(folder: Path) -> World:
    """A part of Fashion-MNIST, its pixels averaged two by two."""
    parts = []
    for images, labels in fashion_parts(folder):
        halved = images.reshape(len(images), 14, 2, 14, 2).mean(axis=(2, 4))
        parts += [halved.reshape(len(images), -1).astype(np.float32), labels.astype(np.int64)]
    return World("pixels", *parts)


def fashion_parts(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """6,000 training images of Fashion-MNIST and 2,000 test images with their labels, drawn once."""
    from featx.dataset.fashion_mnist import read_fashion_mnist

    found, generator = read_fashion_mnist(folder), np.random.default_rng(0)
    rows = {
        part: np.sort(generator.permutation(len(found[part][1]))[:n]) for part, n in (("train", 6000), ("test", 2000))
    }
    return [(found[part][0][some], found[part][1][some]) for part, some in rows.items()]


def network(folder: Path, weights: Path, work: Path) -> World:
    """The same images by a network, whose features are kept in `work`."""
    from featx.dataset.fashion_mnist import FASHION_CLASSES
    from featx.dataset.png_files import write_images

    for part, (images, labels) in zip(("train", "test"), fashion_parts(folder), strict=True):
        if not (work / "images" / part).is_dir():
            names = (f"{part}/{FASHION_CLASSES[label]}/{row:05d}.png" for row, label in enumerate(labels))
            write_images(work / "images", zip(names, images, strict=True))
    rows, found = seen_by_network(work / "images", weights, work, 96)
    labels, train = found.labels, found.declared == 0
    return World("network", rows[train], labels[train], rows[~train], labels[~train])


def photographs(folder: Path, weights: Path, work: Path, most: int = MOST_PHOTOGRAPHS) -> World:
    """Photographs by the same network; a third of them, drawn once, is measured on."""
    rows, found = seen_by_network(folder, weights, work, 100)
    order = np.random.default_rng(0).permutation(len(rows))[:most]
    rows, labels, measured = rows[order], found.labels[order], len(order) // 3
    paths = tuple(str(found.paths[row]) for row in [*order[measured:], *order[:measured]])
    return World(folder.name, rows[measured:], labels[measured:], rows[:measured], labels[:measured], paths)


def seen_by_network(folder: Path, weights: Path, work: Path, side: int) -> tuple[np.ndarray, Any]:
    """The features of a folder's images, which are kept in `work`, and the images as featx lists them."""
    from featx.config import DataOptions, FeaturesOptions
    from featx.dataset import read_images
    from featx.extraction.flow import extract
    from featx.store.cache import Cache

    options = FeaturesOptions(
        backbone="InceptionV3",
        weights=str(weights),
        layer=("mixed7@avg",),
        input_size=side,
        precision="bfloat16",
        cache=str(work / "cache"),
    )
    with Cache(options.cache) as cache:
        found = read_images(str(folder), DataOptions())
        done = extract(found, options, cache)
        rows = done.features(done.outputs[0], np.arange(len(found))).asarray()
    return rows, found


def measure(world: World, seeds: Sequence[int], names: Sequence[str], work: Path) -> dict[str, Any]:
    """Accuracies and gains of every strategy."""
    start = time.perf_counter()
    drawn = {seed: redrawn(world, seed) for seed in seeds}
    curves = np.array([random_curves(one, seed, work / "random") for seed, one in drawn.items()])
    pool = drawn[seeds[0]]
    found: dict[str, Any] = {"pool": len(pool), "all of the pool": round(float(curves[:, :, -1].mean()), 4)}
    for name in names:
        runs = np.array([simulate(one, STRATEGIES[name], seed) for seed, one in drawn.items()])
        found[name] = {
            "accuracy": dict(zip(map(str, SCHEDULE), runs.mean(axis=0).round(4).tolist(), strict=True)),
            "gain": gains(sizes_of(pool), runs, curves),
        }
        print(world.name, name, found[name], f"{time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Parse, simulate, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fashion-mnist", type=Path, help="Folder of the four published files.")
    parser.add_argument("--photographs", type=Path, nargs="+", default=[], help="Folders of folders of photographs.")
    parser.add_argument("--weights", type=Path, help="Weights of InceptionV3.")
    parser.add_argument("--work", type=Path, default=Path("bench-next"), help="Folder for images and features.")
    parser.add_argument("--seeds", type=int, default=10, help="Number of draws.")
    parser.add_argument("--first-seed", type=int, default=0, help="The constants of `next` were chosen on 0 to 49.")
    parser.add_argument("--sets", nargs="+", default=["digits", "pixels", "network", "photographs"])
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    arguments = parser.parse_args()
    results = {}
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    for name in arguments.sets:
        if name == "digits":
            results[name] = measure(digits(), seeds, arguments.strategies, arguments.work)
        elif name == "pixels" and arguments.fashion_mnist:
            results[name] = measure(pixels(arguments.fashion_mnist), seeds, arguments.strategies, arguments.work)
        elif name == "network" and arguments.fashion_mnist and arguments.weights:
            world = network(arguments.fashion_mnist, arguments.weights, arguments.work)
            results[name] = measure(world, seeds, arguments.strategies, arguments.work)
        elif name == "photographs" and arguments.weights:
            for folder in arguments.photographs:
                world = photographs(folder, arguments.weights, arguments.work, most=100_000)
                results[folder.name] = measure(world, seeds, arguments.strategies, arguments.work)
    shares, firsts = [], []
    for found in results.values():
        for point in map(str, POINTS):
            gain = {one: found[one]["gain"][point][0] for one in STRATEGIES if one in found}
            shares.append(1.0 if np.isinf(gain["next"]) else gain["next"] / max(1.0, gain.get("margin", 1.0)))
        firsts.append(found["next"]["gain"]["50"][0])
    goals = {
        "next / better of random and margin, worst point": (0.95, min(shares), "min"),
        "next / random at 50 labels, worst set": (1.2, min(firsts), "min"),
    }
    notes = ["Gains: labels that random choice needs for the same accuracy, per label; all: more than there are"]
    notes += ["Sets whose files were not named are left out."] if len(results) < len(arguments.sets) else []
    harness.report("Labels that featx next saves", flat(results), goals, notes=notes)


def flat(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A row for each set and strategy."""
    rows = {}
    for name, found in results.items():
        for strategy in (one for one in STRATEGIES if one in found):
            rows[f"{name}: {strategy}"] = {
                **{f"accuracy_at_{size}": reached for size, reached in found[strategy]["accuracy"].items()},
                **{
                    f"gain_at_{point}{end}": "all" if np.isinf(value) else value
                    for point, values in found[strategy]["gain"].items()
                    for end, value in zip(("", "_least", "_most"), values, strict=True)
                },
                "pool": found["pool"],
                "accuracy_of_all": found["all of the pool"],
            }
    return rows


if __name__ == "__main__":
    main()
