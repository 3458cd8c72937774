"""How often intervals hold the true value where featx shows no caution of the size of the test set.

The worlds of `simulate_intervals.py`, with more test sets and without what takes long there: shares and means of shares
by `share_interval`, log loss by the percentiles of 600 resamples. Prints a table of docs/statistics.md, in percent.
The last lines are of log loss alone, from half as many test sets. It takes some minutes on one core.

    python benchmarks/simulate_uncautioned.py [--repeats 300] [--seed 0]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from simulate_intervals import RATES, World, draw_groups

from featx.metrics.formulas import log_losses
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.shares import overlaps, recalls, right_images, share_interval

SHARES = {"accuracy": right_images, "balanced_accuracy": recalls, "macro_f1": overlaps}
SETS = ((2, 100), (5, 300), (10, 300), (2, 1000), (5, 1000), (10, 1000))  # classes, images
LOSSES = ((2, 2000), (5, 2000), (10, 2000), (5, 5000))
GROUPS = ((4, 1000), (10, 2000))  # images of a group, images


def held(found: LabelledPredictions, true: dict[str, float]) -> Iterator[tuple[str, bool]]:
    """Whether the interval of each figure holds what is true."""
    for name, counted in SHARES.items():
        low, high = share_interval(counted(found), found.groups) or (np.nan, np.nan)
        yield name, low <= true[name] <= high


def holds_loss(found: LabelledPredictions, true: float, generator: np.random.Generator) -> bool:
    """Whether the percentile interval of the log loss holds what is true."""
    losses = log_losses(found)
    if losses is None:
        raise ValueError("Every class is known here.")
    means = losses[generator.integers(len(losses), size=(600, len(losses)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return bool(low <= true <= high)


def main() -> None:
    """Print coverage by kind and size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = np.random.default_rng(options.seed)
    print(f"| test set | images | {' | '.join(SHARES)} | log_loss |\n|---|---|{'---|' * (len(SHARES) + 1)}")
    for classes, images in SETS:
        counts: dict[str, list[bool]] = {name: [] for name in (*SHARES, "log_loss")}
        for rate in RATES:
            world = World(classes, rate, generator)
            losses = log_losses(world.draw(200_000, generator))
            true = world.truth() | {"log_loss": np.nan if losses is None else float(losses.mean())}
            for number in range(options.repeats):
                found = world.draw(images, generator)
                for name, right in held(found, true):
                    counts[name].append(right)
                if images >= 300 and number % 4 == 0:  # fewer take too long for what they show
                    counts["log_loss"].append(holds_loss(found, true["log_loss"], generator))
        show(f"{classes} classes", images, counts)
    for size, images in GROUPS:
        counts = {name: [] for name in (*SHARES, "log_loss")}
        for rate in RATES[:4]:
            for _ in range(options.repeats):
                for name, right in held(draw_groups(images, size, rate, generator), dict.fromkeys(SHARES, rate)):
                    counts[name].append(right)
        show(f"5 classes, groups of {size}", images, counts)
    generator = np.random.default_rng(options.seed + 3)
    for classes, images in LOSSES:
        counts = {name: [] for name in (*SHARES, "log_loss")}
        for rate in RATES:
            world = World(classes, rate, generator)
            losses = log_losses(world.draw(400_000, generator))
            true_loss = np.nan if losses is None else float(losses.mean())
            for _ in range(options.repeats // 2):
                counts["log_loss"].append(holds_loss(world.draw(images, generator), true_loss, generator))
        show(f"{classes} classes", images, counts)


def show(kind: str, images: int, counts: dict[str, list[bool]]) -> None:
    """Print a line."""
    cells = [f"{100 * np.mean(some):.1f}" if some else "" for some in counts.values()]
    print(f"| {kind} | {images:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
