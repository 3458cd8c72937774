"""Whether the input values of a network are wrongly scaled, judged by its output at other scales.

Given values that are 255 times too small, a network sees one grey image: its features of different images hardly
differ, and do far more when the values are multiplied. Given values that are far too large, its own constants are
nothing beside them: half and double values change the length of its features and little else.
`benchmarks/bench_scale_warning.py` measures how often this is right. Where a file of the network says what it is given,
that is believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from featx.backbones import BackboneSpec, Output, open_network
from featx.backbones.preprocessing import Formula, Preprocessing
from featx.backbones.values import write_values
from featx.engines.choice import compile_graph
from featx.errors import BackboneError, EngineError
from featx.images.decoder import load_image
from featx.images.fault import BadImage
from featx.io.temporary import temporary_folder

MOST = 12  # images
FACTOR = 255.0  # between the two scales that are in use
FACTORS = (0.5, 1.0, 2.0, FACTOR)
_LEAST_CHANNELS = 8  # below, features of different images may well point in one direction
_GREY = 3e-3  # mean cosine distance between images; of 12 trained networks given what they should be 5e-4 to 0.7
_MORE = (
    30.0  # times as far apart they are at the larger scale; of the same networks at most 20 where they are this near
)
_SAME = 0.04  # of that distance is what half and double values change; of the same networks at least 0.08
_LARGE = 16.0  # values are 0 to 255 as they are, or normalised, which is up to 3; what is nearer to one of the two


@dataclass(frozen=True)
class Scale:
    """How far apart features are, as mean cosine distances.

    spread : between images; larger : the same where values are 255 times as large
    changed : between an image and itself at half or double values, the larger of the two
    """

    spread: float
    larger: float
    changed: float

    @property
    def too_small(self) -> bool:
        """Whether the network seems to see one grey image."""
        return 0 < self.spread < _GREY and self.larger > _MORE * self.spread

    @property
    def too_large(self) -> bool:
        """Whether nothing but the proportions of values seems to count."""
        return self.spread > 0 and not self.too_small and self.changed < _SAME * self.spread

    def fault(self, reach: float) -> Literal["small", "large"] | None:
        """What is wrong with values up to `reach`: no network takes less than normalised ones, or more than 255."""
        if reach > _LARGE:
            return "large" if self.too_large else None
        return "small" if self.too_small else None


def warn_of_scale(spec: BackboneSpec, paths: Sequence[str]) -> str | None:
    """The sentence on values of a scale that looks wrong; None where nothing does, or it cannot be judged."""
    if spec.entry is not None or open_network(spec).trained_with is not None:
        return None
    images = _load(spec, paths)
    if len(images) < 2:
        return None
    try:
        found = measure_scale(features_at_scales(spec, images))
    except (BackboneError, EngineError):
        return None  # which is said where the network is run
    low, high = _range(spec)
    fault = None if found is None else found.fault(reach_of(spec))
    if found is None or fault is None:
        return None
    if fault == "small":
        return (
            f"{spec.label} may be given values that are far too small ({low:.3g} to {high:.3g}): what it makes of "
            f"different images hardly differs, and {found.larger / found.spread:.0f} times as much where they are "
            f"multiplied by {FACTOR:.0f}. Does it take 0 to 255? Then give --preprocessing none."
        )
    return (
        f"{spec.label} may be given values that are far too large ({low:.3g} to {high:.3g}): half and double give "
        "nearly the same features. Does it take 0 to 1 or -1 to 1? Then give --preprocessing half or imagenet."
    )


def measure_scale(features: Mapping[float, np.ndarray]) -> Scale | None:
    """By factor of the values: float32 (n, d), features of the same images. None of too few channels to be judged."""
    units = {factor: _unit(some) for factor, some in features.items()}
    given = units[1.0]
    if given.shape[1] < _LEAST_CHANNELS:
        return None
    changed = max(float(np.mean(1 - (given * units[factor]).sum(axis=1))) for factor in (0.5, 2.0))
    return Scale(_spread(given), _spread(units[FACTOR]), changed)


def features_at_scales(
    spec: BackboneSpec, images: np.ndarray, factors: Sequence[float] = FACTORS
) -> dict[float, np.ndarray]:
    """Averaged features of the default layer by factor of the values: float32 (n, d).

    images : uint8 (n, height, width, 3)
    """
    network = open_network(spec)
    output, formula = Output(network.default_layer, "avg"), network.preprocessing.formula
    if not network.trainable:
        return {factor: _run_graph(spec, output, formula, factor, images) for factor in factors}
    model = network.cut((output,))
    scale, offset = (np.broadcast_to(np.asarray(one, np.float32), 3) for one in (formula.scale, formula.offset))
    shift = (offset / scale)[::-1] if formula.bgr else offset / scale
    found = {}
    for factor in factors:  # formula(pixels) is factor times formula(images)
        pixels = factor * images.astype(np.float32) + (factor - 1) * shift
        found[factor] = np.asarray(model(pixels)[output.name])  # type: ignore[operator]  # `predict` would trace it
    return found


def _run_graph(spec: BackboneSpec, output: Output, formula: Formula, factor: float, images: np.ndarray) -> np.ndarray:
    scale, offset = (np.broadcast_to(np.asarray(one, np.float64), 3) for one in (formula.scale, formula.offset))
    values = Preprocessing(
        (0, 0),
        scale=1.0,
        mean=tuple((-offset / scale).tolist()),
        std=tuple((1 / (scale * factor)).tolist()),
        channels="bgr" if formula.bgr else "rgb",
    )
    scaled = replace(spec, preprocessing=write_values(values))
    with temporary_folder() as folder:
        engine = compile_graph("openvino", lambda: open_network(scaled).cut((output,)), folder / "graph", "float32")
        return engine.infer(images)[output.name]


def _load(spec: BackboneSpec, paths: Sequence[str]) -> np.ndarray:
    """uint8 (n, height, width, 3) of some of the images that can be read."""
    found: list[np.ndarray] = []
    for path in paths[:: max(1, len(paths) // (2 * MOST))]:
        if len(found) == MOST:
            break
        try:
            found.append(load_image(path, spec.input_size, spec.resize))
        except BadImage:
            continue
    return np.stack(found) if found else np.empty((0, *spec.input_size, 3), np.uint8)


def _range(spec: BackboneSpec) -> tuple[float, float]:
    formula = open_network(spec).preprocessing.formula
    ends = formula.apply(np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8))
    return float(ends.min()), float(ends.max())


def reach_of(spec: BackboneSpec) -> float:
    """How far from 0 the values are that a network is given."""
    return max(map(abs, _range(spec)))


def _unit(features: np.ndarray) -> np.ndarray:
    rows = features.reshape(len(features), -1).astype(np.float64)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30))


def _spread(units: np.ndarray) -> float:
    """Mean cosine distance of two images; rounding gives 0, not a little."""
    count = len(units)
    distance = 1 - ((units @ units.T).sum() - count) / (count * (count - 1))
    return float(distance) if distance > 1e-12 else 0.0
