"""What is computed of an image, fully decided: which network, which weights, which layers and poolings.

Everything here is known without importing TensorFlow, so that a command with nothing to compute answers at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from featx.backbones import modelfile
from featx.backbones.preprocessing import FORMULAS
from featx.backbones.table import BACKBONES, WEIGHTS_LICENSES, BackboneEntry
from featx.config import FeaturesOptions
from featx.errors import BackboneError, UsageError
from featx.io.suggest import did_you_mean

POOLINGS = ("avg", "max", "grid:N", "flatten", "none")
PREPROCESSINGS = tuple(FORMULAS)


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone with nothing left to choose.

    name : a name of the table, or the absolute path of a .keras file
    weights : "bundled", "imagenet", "random" or the absolute path of a file
    weights_seed : of random weights, else 0
    input_size : (height, width) in pixels
    preprocessing : "tf", "caffe", "torch" or "none"
    """

    name: str
    weights: str
    weights_seed: int
    input_size: tuple[int, int]
    preprocessing: str

    @property
    def entry(self) -> BackboneEntry | None:
        """The row of the table, None for a .keras file."""
        return BACKBONES.get(self.name)

    @property
    def label(self) -> str:
        """A short name for people and folders: a .keras file goes by its stem."""
        return self.name if self.entry else Path(self.name).stem

    @property
    def weights_license(self) -> str | None:
        """SPDX identifier of the weights' licence; None for random weights, and for files, of which only you know."""
        if self.entry is None or self.weights not in {"bundled", "imagenet"}:
            return None
        return WEIGHTS_LICENSES[self.entry.family]


@dataclass(frozen=True, order=True)
class Output:
    """One set of features: a layer and how its map becomes numbers."""

    layer: str
    pooling: str

    @property
    def name(self) -> str:
        """`layer@pooling`, as in `mixed7@avg`."""
        return f"{self.layer}@{self.pooling}"

    @classmethod
    def parse(cls, name: str) -> Output:
        """The output called `layer@pooling`.

        Raises
        ------
        UsageError
            When the text has no '@', no layer, or a pooling that does not exist.
        """
        layer, separator, pooling = name.rpartition("@")
        if not separator or not layer:
            raise UsageError(f"An output is written LAYER@POOLING, as in mixed7@avg; received {name!r}.")
        return cls(layer, check_pooling(pooling))


def check_pooling(pooling: str) -> str:
    """The pooling in its one spelling.

    Raises
    ------
    UsageError
        When it is none of avg, max, grid:N, flatten, none.
    """
    text = pooling.strip().lower()
    grid = re.fullmatch(r"grid:0*([1-9]\d*)", text)
    if grid:
        return f"grid:{grid[1]}"
    if text in POOLINGS and text != "grid:N":
        return text
    raise UsageError(f"No pooling {pooling!r}. Choose one of {', '.join(POOLINGS)} (N a whole number, as in grid:4).")


def resolve(options: FeaturesOptions) -> BackboneSpec:
    """Decide every "auto" of the options.

    Raises
    ------
    BackboneError
        An unknown network, a file that is not there, weights that this network does not have, an image size below
        the network's minimum.
    UsageError
        An unknown preprocessing.
    """
    name = options.backbone
    if name.endswith(".keras"):
        return _resolve_file(options)
    if name not in BACKBONES:
        raise BackboneError(
            f"No backbone {name!r}.{did_you_mean(name, BACKBONES, most=3)} "
            "'featx backbones' lists them; a .keras file works too."
        )
    entry = BACKBONES[name]
    side = options.input_size or entry.input_size
    if side < entry.minimum:
        raise BackboneError(f"{name} takes images of at least {entry.minimum} pixels a side; received {side}.")
    weights = options.weights if options.weights != "auto" else ("bundled" if entry.bundled else "imagenet")
    return BackboneSpec(
        name=name,
        weights=_resolve_weights(weights, entry),
        weights_seed=options.weights_seed if weights == "random" else 0,
        input_size=(side, side),
        preprocessing=_resolve_preprocessing(options, entry.preprocessing),
    )


def _resolve_file(options: FeaturesOptions) -> BackboneSpec:
    path = Path(options.backbone).expanduser().resolve()
    if not path.is_file():
        raise BackboneError(f"No backbone file {options.backbone}. Give a .keras file or a name of 'featx backbones'.")
    if options.weights == "imagenet":
        raise BackboneError(f"{path.name} is a file: its weights are its own, 'random', or those of another file.")
    weights = "bundled" if options.weights == "auto" else options.weights
    size = (options.input_size, options.input_size) if options.input_size else modelfile.input_size(path)
    return BackboneSpec(
        name=str(path),
        weights=_resolve_weights(weights, None),
        weights_seed=options.weights_seed if weights == "random" else 0,
        input_size=size,
        preprocessing=_resolve_preprocessing(options, "none"),
    )


def _resolve_weights(weights: str, entry: BackboneEntry | None) -> str:
    if weights == "bundled" and entry is not None and not entry.bundled:
        bundled = ", ".join(name for name, row in BACKBONES.items() if row.bundled)
        raise BackboneError(
            f"No bundled weights for {entry.name}; only {bundled} has such. Choose imagenet, random or a file."
        )
    if weights == "imagenet" and entry is not None and entry.bundled:
        return "bundled"  # the same thing under its other name
    if weights in {"bundled", "imagenet", "random"}:
        return weights
    path = Path(weights).expanduser()
    if not path.is_file():
        raise BackboneError(
            f"No weights {weights!r}: neither a file nor one of bundled, imagenet, random. "
            "A file is .weights.h5, a legacy Keras .h5, or .keras."
        )
    return str(path.resolve())


def _resolve_preprocessing(options: FeaturesOptions, default: str) -> str:
    if options.preprocessing == "auto":
        return default
    if options.preprocessing not in PREPROCESSINGS:
        raise UsageError(
            f"No preprocessing {options.preprocessing!r}. Choose one of auto, {', '.join(PREPROCESSINGS)}."
        )
    return options.preprocessing


def resolve_outputs(options: FeaturesOptions, spec: BackboneSpec) -> tuple[Output, ...]:
    """Every layer asked for with every pooling asked for, in the order asked, each once.

    A layer written LAYER@POOLING brings its own pooling. Without layers the backbone's last, without poolings the
    average. Whether a layer exists is known when the network is built. The last layer of a .keras file is the one
    before its classifier.

    Raises
    ------
    UsageError
        An unknown pooling.
    """
    layers = options.layer or (spec.entry.layer if spec.entry else modelfile.default_layer(Path(spec.name)),)
    poolings = tuple(check_pooling(p) for p in options.pooling) or ("avg",)
    asked = [
        [Output.parse(layer)] if "@" in layer else [Output(layer, pooling) for pooling in poolings] for layer in layers
    ]
    return tuple(dict.fromkeys(chain.from_iterable(asked)))
