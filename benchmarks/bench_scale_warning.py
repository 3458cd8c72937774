"""How often `featx look` warns of the scale of values where it is right, and where it is off by a factor of 255.

    python benchmarks/bench_scale_warning.py [FILE=VALUES[@SIDE] ...]

VALUES is what the network of the file takes: a name of --preprocessing, or unit for 0 to 1. EfficientNetLite0 is there
in any case, as a `.keras` file that says nothing. Each network is given five sets of a dozen images: cuts of two
photographs, one of them darkened and one with a fourteenth of its contrast, and digits.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from featx.backbones import BackboneSpec, resolve
from featx.config import FeaturesOptions
from featx.errors import FeatxError
from featx.first_look.scale import FACTOR, FACTORS, MOST, Scale, features_at_scales, measure_scale, reach_of


def make_sets(size: tuple[int, int]) -> dict[str, np.ndarray]:
    """uint8 (n, height, width, 3) by name."""
    from sklearn.datasets import load_digits, load_sample_images

    random = np.random.default_rng(0)

    def cut(photograph: np.ndarray) -> np.ndarray:
        length = random.integers(100, 400)
        top, left = (random.integers(0, edge - length) for edge in photograph.shape[:2])
        return fit(photograph[top : top + length, left : left + length])

    def fit(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(pixels).convert("RGB").resize(size[::-1]))

    china, flower = (np.stack([cut(one) for _ in range(MOST)]) for one in load_sample_images().images)
    digits = np.stack([fit((one * 15.9).astype(np.uint8)) for one in load_digits().images[:MOST]])
    dark, bright = (china * 0.15).astype(np.uint8), (235 + flower * 0.07).astype(np.uint8)
    return {"china": china, "flower": flower, "digits": digits, "dark": dark, "bright": bright}


def specs(texts: list[str], folder: Path) -> list[BackboneSpec]:
    """EfficientNetLite0 as a file, and those that were asked for."""
    from featx.backbones.build import build

    own = resolve(FeaturesOptions(input_size=128))
    build(own).save(folder / "EfficientNetLite0.keras")
    found = [resolve(FeaturesOptions(backbone=str(folder / "EfficientNetLite0.keras"), input_size=128))]
    for text in texts:
        file, _, values = text.rpartition("=")
        name, _, side = values.partition("@")
        given = {"scale": 1 / 255} if name == "unit" else {"preprocessing": name}
        found.append(resolve(FeaturesOptions(backbone=file, input_size=int(side) if side else None, **given)))
    return found


def judge(features: Mapping[float, np.ndarray], at: float, rows: slice) -> Scale | None:
    """What would be said if the values were so many times what they should be."""
    return measure_scale({factor: features[at * factor][rows] for factor in FACTORS})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="FILE=VALUES[@SIDE]")
    asked = parser.parse_args().networks
    right, small, large = [], [], []
    scales = (1.0, 1 / FACTOR, FACTOR)
    factors = sorted({at * factor for at in scales for factor in FACTORS})
    with tempfile.TemporaryDirectory() as folder:
        for spec in specs(asked, Path(folder)):
            sets = make_sets(spec.input_size)
            try:
                features = features_at_scales(spec, np.concatenate(list(sets.values())), factors)
            except FeatxError as error:
                print(json.dumps({"network": spec.label, "failed": str(error)}), flush=True)
                continue
            for place, name in enumerate(sets):
                given, less, more = (judge(features, at, slice(place * MOST, (place + 1) * MOST)) for at in scales)
                if given is None or less is None or more is None:
                    continue
                reach = reach_of(spec)
                right.append(given.fault(reach) is not None)
                small.append(less.fault(reach / FACTOR) == "small")
                large.append(more.fault(reach * FACTOR) == "large")
                row = {"network": spec.label, "images": name, "spread": float(f"{given.spread:.2g}")}
                print(json.dumps(row | {"alarm": right[-1], "small": small[-1], "large": large[-1]}), flush=True)
    counts = {"false alarms": right, "too small, found": small, "too large, found": large}
    print(json.dumps({name: f"{sum(some)} of {len(some)}" for name, some in counts.items()}))


if __name__ == "__main__":
    main()
