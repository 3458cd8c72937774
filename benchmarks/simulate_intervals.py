"""How often the 95 % intervals of featx hold the true value: simulated test sets of known models.

A world is a joint distribution of truth and prediction, so that accuracy, balanced accuracy and macro F1 are known
exactly; log loss and the areas are taken from 200,000 images. Test sets are drawn from it, measured by featx, and it is
counted how often the interval holds the truth. Prints the table of docs/statistics.md, in percent.
It takes four minutes on one core. With --shares, what is resampled is left out, and many more test sets take as long.

    python benchmarks/simulate_intervals.py [--repeats 60] [--seed 0]
    python benchmarks/simulate_intervals.py --shares --repeats 300
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np

from featx.metrics.measures import measure
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.shares import Interval, share_interval
from featx.metrics.table import forms_of

SIZES = (30, 100, 300, 1000)
RATES = (0.6, 0.8, 0.9, 0.95, 0.98)  # how often the model is right
EVEN, UNEVEN = (0.2,) * 5, (10 / 11, 1 / 11)  # mixes of classes
Draw = Callable[[int, np.random.Generator], LabelledPredictions]


class World:
    """A model and the images that it meets: classes of unequal sizes, some harder than others."""

    def __init__(self, classes: int, rate: float, generator: np.random.Generator) -> None:
        """Draw the classes' sizes, recalls, and what each is mistaken for."""
        share = np.maximum(generator.dirichlet(np.full(classes, 2.0)), 0.2 / classes)
        recall = np.clip(generator.beta(20 * rate, 20 * (1 - rate), classes), 0.01, 0.999)
        mistaken = generator.dirichlet(np.full(classes, 0.5), classes)
        np.fill_diagonal(mistaken, 0)
        mistaken /= np.maximum(mistaken.sum(axis=1, keepdims=True), 1e-12)
        given = recall[:, None] * np.eye(classes) + (1 - recall)[:, None] * mistaken
        joint = share[:, None] * given
        self.joint = joint / joint.sum()
        self.classes = classes

    def truth(self) -> dict[str, float]:
        """What the metrics are with infinitely many images."""
        hit, of_class, of_guess = np.diag(self.joint), self.joint.sum(axis=1), self.joint.sum(axis=0)
        return {
            "accuracy": float(hit.sum()),
            "balanced_accuracy": float((hit / of_class).mean()),
            "macro_f1": float((2 * hit / (of_class + of_guess)).mean()),
        }

    def draw(self, n: int, generator: np.random.Generator) -> LabelledPredictions:
        """Images with a confidence that is right on average."""
        cells = generator.choice(self.joint.size, n, p=self.joint.ravel())
        labels, predicted = np.divmod(cells, self.classes)
        chances = generator.dirichlet(np.full(self.classes, 0.5), n) * 0.4 + 1e-3
        chances[np.arange(n), predicted] += generator.uniform(0.4, 2.0, n)
        return _predictions(labels, chances / chances.sum(axis=1, keepdims=True))


def _predictions(labels: np.ndarray, chances: np.ndarray, groups: np.ndarray | None = None) -> LabelledPredictions:
    return LabelledPredictions(labels, chances, tuple(map(str, range(chances.shape[1]))), groups=groups)


def draw_groups(
    images: int, size: int, rate: float, generator: np.random.Generator, mix: tuple[float, ...] = EVEN
) -> LabelledPredictions:
    """Groups of one class and of one difficulty (beta distributed): a correlation of 1/3 between their images."""
    count, k = images // size, len(mix)
    groups, difficulty = np.repeat(np.arange(count), size), generator.beta(2 * rate, 2 * (1 - rate), count)
    drawn = generator.integers(k, size=count) if mix == EVEN else generator.choice(k, count, p=mix)
    labels = np.repeat(drawn, size)
    right = generator.random(count * size) < difficulty[groups]
    predicted = np.where(right, labels, (labels + generator.integers(1, k, count * size)) % k)
    chances = generator.dirichlet(np.full(k, 0.5), count * size) * 0.4 + 1e-3
    chances[np.arange(count * size), predicted] += 1
    return _predictions(labels, chances / chances.sum(axis=1, keepdims=True), groups)


def draw_labels(n: int, rate: float, generator: np.random.Generator) -> LabelledPredictions:
    """Five labels of unequal frequency, told apart as well as `rate` says."""
    truth = generator.random((n, 5)) < np.array([0.5, 0.4, 0.3, 0.2, 0.15])
    logits = generator.normal(size=(n, 5)) + (6 * rate - 3) * (2 * truth - 1) + 0.5 * generator.normal(size=(n, 1))
    return _predictions(truth, 1 / (1 + np.exp(-logits)))


def cases(generator: np.random.Generator) -> Iterator[tuple[str, int, dict[str, float] | None, Draw]]:
    """Every kind of test set, its size, what is true, and how it is drawn."""
    for classes in (2, 5, 10, 50):
        for n in SIZES:
            for rate in RATES if n >= classes else ():
                world = World(classes, rate, generator)
                large = measure_values(world.draw(200_000, generator), ("log_loss",))
                yield f"{classes} classes", n, world.truth() | large, world.draw
    for size in (4, 10):
        for n in SIZES[1:]:
            for rate in RATES[:4]:
                one = {"accuracy": rate, "balanced_accuracy": rate, "macro_f1": rate}
                yield f"groups of {size}", n, one, lambda n, g, s=size, r=rate: draw_groups(n, s, r, g)  # type: ignore[misc]
    for size in (4, 10):
        for n in SIZES[1:]:
            for rate in RATES[:4]:
                given = rate * np.array(UNEVEN) + (1 - rate) * np.array(UNEVEN[::-1])
                of_class = 2 * rate * np.array(UNEVEN) / (np.array(UNEVEN) + given)
                one = {"accuracy": rate, "balanced_accuracy": rate, "macro_f1": float(of_class.mean())}
                kind = f"2 classes of 10 to 1, groups of {size}"
                yield kind, n, one, lambda n, g, s=size, r=rate: draw_groups(n, s, r, g, UNEVEN)  # type: ignore[misc]
    for n in SIZES:
        for rate in (0.7, 0.8, 0.9):
            known = measure_values(draw_labels(200_000, rate, generator), ())
            yield "several labels", n, known, lambda n, g, r=rate: draw_labels(n, r, g)  # type: ignore[misc]


def measure_values(predictions: LabelledPredictions, names: tuple[str, ...]) -> dict[str, float]:
    """Some metrics of many images, without their intervals; all that have one by default."""
    return {
        form.key: float(form.compute(predictions) or 0.0)
        for form in forms_of(predictions.target)
        if (form.key in names if names else form.shares or form.resampling)
    }


def share_intervals(predictions: LabelledPredictions) -> dict[str, Interval | None]:
    """The intervals of the metrics that are shares, or means of shares."""
    forms = [form for form in forms_of(predictions.target) if form.shares is not None]
    known = predictions.probabilities.shape[1]
    return {
        form.key: share_interval(form.shares(predictions), predictions.groups)
        for form in forms
        if form.shares is not None and known >= form.least_classes
    }


def main() -> None:
    """Print coverage by kind and size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shares", action="store_true")
    options = parser.parse_args()
    generator = np.random.default_rng(options.seed)
    held: dict[tuple[str, int, str], list[bool]] = defaultdict(list)
    for kind, n, true, draw in cases(generator):
        for _ in range(options.repeats):
            drawn = draw(n, generator)
            found = share_intervals(drawn) if options.shares else measure(drawn).intervals
            for key, value in (true or {}).items():
                if (interval := found.get(key)) is not None:
                    held[kind, n, key].append(interval[0] <= value <= interval[1])
    kinds = dict.fromkeys((kind, n) for kind, n, _ in held)
    keys = list(dict.fromkeys(key for _, _, key in held))
    print(f"| test set | images | {' | '.join(keys)} |\n|---|---|{'---|' * len(keys)}")
    for kind, n in kinds:
        cells = [f"{100 * np.mean(held[kind, n, key]):.0f}" if (kind, n, key) in held else "" for key in keys]
        print(f"| {kind} | {n:,} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
