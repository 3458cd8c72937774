"""The full specification of a computation: network, weights, layers and poolings.

Everything here is known without importing TensorFlow, so that a command with nothing to compute answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from featx.backbones import modelfile
from featx.backbones.graphs.formats import FORMATS, is_graph
from featx.backbones.hub.folder import (
    HUGGING_FACE,
    OUTPUT,
    PREFIX,
    file_label,
    folder_label,
    graph_of_folder,
    is_hub_folder,
    read_folder,
)
from featx.backbones.other_files import describe_other_file, describe_other_weights
from featx.backbones.output import Output, check_pooling
from featx.backbones.plugged import find_network
from featx.backbones.preprocessing import Factor, Preprocessing
from featx.backbones.sidecars import find_preprocessing
from featx.backbones.table import BACKBONES, WEIGHTS_LICENSES, BackboneEntry
from featx.backbones.values import read_values, write_values
from featx.config import FeaturesOptions
from featx.errors import BackboneError, UsageError
from featx.images.resize import ResizeRule
from featx.io.modules import named_modules
from featx.io.plugins import PlugIn, find_plugins
from featx.io.suggest import did_you_mean


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone with nothing left to choose.

    name : a name of the table, or the absolute path of a .keras or graph file or of a folder
    weights : "bundled", "imagenet", "random" or the absolute path of a file
    weights_seed : of random weights, else 0
    input_size : (height, width) in pixels
    preprocessing : what is done to values: "tf", "caffe", "torch", "none", or numbers; see `featx.backbones.values`
    resize : how an image is brought to that size; see `featx.images.resize.ResizeRule`
    prefix_tokens : tokens in front of those of the patches; None: found out
    imports : modules that define layers of a .keras file
    source : where the file or folder was downloaded from, as hf:OWNER/NAME@COMMIT or hub:PRESET; None: it was not
    plugin : what the file is the network of; None: not that of a plug-in
    """

    name: str
    weights: str
    weights_seed: int
    input_size: tuple[int, int]
    preprocessing: str
    resize: str = "stretch"
    prefix_tokens: int | None = None
    imports: tuple[str, ...] = ()
    source: str | None = None
    plugin: PlugIn | None = None

    @property
    def entry(self) -> BackboneEntry | None:
        """The row of the table, None for a file."""
        return BACKBONES.get(self.name)

    @property
    def label(self) -> str:
        """A short name for people and folders: a file goes by its stem."""
        if self.entry:
            return self.name
        if self.plugin is not None:
            return self.plugin.name
        path = Path(self.name)
        return folder_label(path) if is_hub_folder(path) else file_label(path)

    @property
    def weights_license(self) -> str | None:
        """SPDX identifier of the licence of a row's weights; None for random ones, and for those of files."""
        if self.entry is None or self.weights not in {"bundled", "imagenet"}:
            return None
        return WEIGHTS_LICENSES[self.entry.family]


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
    named_modules().allow_found(options.imports)
    if name.startswith(HUGGING_FACE):
        from featx.backbones.hub.hugging_face import fetch

        found = fetch(name, Path(options.cache))
        return replace(resolve(replace(options, backbone=str(found.path))), source=found.source)
    graph = graph_of_folder(Path(name).expanduser()) if name not in BACKBONES and options.weights != "random" else None
    if graph is not None:
        return resolve(replace(options, backbone=str(graph)))
    if name.endswith(".keras") and not is_hub_folder(Path(name).expanduser()):
        return _resolve_file(options)
    if is_graph(Path(name).expanduser()):
        return _resolve_graph(options)
    if name.startswith(PREFIX) or (name not in BACKBONES and is_hub_folder(Path(name).expanduser())):
        return _resolve_folder(options)
    if name not in BACKBONES:
        plugged = find_network(name, Path(options.cache))
        if plugged is not None:
            imports = (*options.imports, *plugged.imports)
            spec = resolve(replace(options, backbone=str(plugged.path), imports=imports))
            return replace(spec, plugin=plugged.plugin)
        if Path(name).expanduser().exists():
            raise BackboneError(describe_other_file(Path(name).expanduser()))
        known = (*BACKBONES, *find_plugins("featx.backbones"))
        raise BackboneError(
            f"No backbone {name!r}.{did_you_mean(name, known, most=3)} "
            f"'featx backbones' lists them; a .keras file works too, and so do {', '.join(FORMATS)} files, "
            "hf:OWNER/NAME, hub:PRESET and folders of KerasHub and Hugging Face."
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
        preprocessing=_resolve_values(options, entry.preprocessing),
        resize=resize_rule(options, None),
        prefix_tokens=options.prefix_tokens,
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
        preprocessing=_resolve_values(options, "none"),
        resize=resize_rule(options, None),
        prefix_tokens=options.prefix_tokens,
        imports=options.imports,
    )


def _resolve_graph(options: FeaturesOptions) -> BackboneSpec:
    """A graph file: its weights are its own, and what it is given is in a file beside it or in the options."""
    path = Path(options.backbone).expanduser().resolve()
    if not path.exists():
        raise BackboneError(f"No backbone file {options.backbone}. Check the name, or the folder you are in.")
    if options.weights not in {"auto", "bundled"}:
        raise BackboneError(f"{path.name} is a graph file: its weights are its own. Leave out --weights.")
    beside = find_preprocessing(path)
    if beside is None and not _says_values(options):
        raise UsageError(
            f"Nothing states which pixel values {path.name} expects: no preprocessor_config.json, config.json or "
            f"{path.with_suffix('.json').name} lies beside it. State them: --preprocessing imagenet, half, clip "
            "or none, or --mean and --std."
        )
    side = options.input_size
    size = (side, side) if side else beside.size if beside and all(beside.size) else _size_of_graph(path)
    return BackboneSpec(
        name=str(path),
        weights="bundled",
        weights_seed=0,
        input_size=size,
        preprocessing=_resolve_values(options, "none" if beside is None else write_values(beside)),
        resize=resize_rule(options, beside),
        prefix_tokens=options.prefix_tokens,
    )


def _resolve_folder(options: FeaturesOptions) -> BackboneSpec:
    """A folder of KerasHub or Hugging Face, or a preset that is one once it is downloaded."""
    if options.weights not in {"auto", "bundled", "random"}:
        raise BackboneError(
            f"{options.backbone} has weights of its own. Leave out --weights, or give --weights random."
        )
    if options.backbone.startswith(PREFIX):
        from featx.backbones.hub.library import fetch_preset

        path = fetch_preset(options.backbone, weights=options.weights != "random").resolve()
    else:
        path = Path(options.backbone).expanduser().resolve()
    folder, beside = read_folder(path), find_preprocessing(path)
    if beside is None and not _says_values(options):
        raise UsageError(
            f"Nothing states which pixel values {folder_label(path)} expects: it has no preprocessor_config.json or "
            "image_converter.json. State them: --preprocessing imagenet (DINOv2, DINOv3), half, clip or none, or "
            "--mean and --std."
        )
    size = (options.input_size, options.input_size) if options.input_size else folder.default_size
    folder.check_size(size)
    random = options.weights == "random"
    return BackboneSpec(
        name=str(path),
        weights="random" if random else "bundled",
        weights_seed=options.weights_seed if random else 0,
        input_size=size,
        preprocessing=_resolve_values(options, "none" if beside is None else write_values(beside)),
        resize=resize_rule(options, beside),
        prefix_tokens=options.prefix_tokens,
        source=options.backbone if options.backbone.startswith(PREFIX) else None,
    )


def _size_of_graph(path: Path) -> tuple[int, int]:
    from featx.backbones.graphs.reading import read_graph

    height, width = read_graph(path)[1].size
    return height or modelfile.DEFAULT_SIDE, width or modelfile.DEFAULT_SIDE


def _says_values(options: FeaturesOptions) -> bool:
    return bool(options.preprocessing != "auto" or options.mean or options.std or options.scale)


def resize_rule(options: FeaturesOptions, beside: Preprocessing | None = None) -> str:
    """How an image is brought to its size: as the options say, else as a file beside the network does."""
    known = beside or Preprocessing((0, 0))
    method, share = (known.resize, known.crop_share) if options.resize == "auto" else (options.resize, 1.0)
    if options.crop_share is not None:
        share = options.crop_share
    name = known.interpolation if options.interpolation == "auto" else options.interpolation
    return str(ResizeRule.parse(f"{method}:{share}:{name}:{options.levels}"))


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
    if path.is_dir():
        raise BackboneError(describe_other_weights(path))
    if not path.is_file():
        raise BackboneError(
            f"No weights {weights!r}: neither a file nor one of bundled, imagenet, random. "
            "A file is .weights.h5, a legacy Keras .h5, or .keras."
        )
    return str(path.resolve())


def _resolve_values(options: FeaturesOptions, default: str) -> str:
    """The text of what is done to values: of the options, where they leave it open the default."""
    named = default if options.preprocessing == "auto" else options.preprocessing
    if not (options.mean or options.std or options.scale or options.channels != "auto"):
        return write_values(read_values(named, (0, 0)))
    values = read_values(named, (0, 0))
    if options.mean or options.std or options.scale:
        for name, numbers in (("mean", options.mean), ("std", options.std)):
            if len(numbers) not in {0, 1, 3}:
                raise UsageError(f"--{name} takes one number, or three separated by commas; got {len(numbers)}.")
        values = Preprocessing(
            (0, 0), scale=options.scale or 1 / 255, mean=_factor(options.mean, 0.0), std=_factor(options.std, 1.0)
        )
        if not all(one > 0 for one in options.std):
            raise UsageError(f"--std takes numbers above 0, got {','.join(map(str, options.std))}.")
    if options.channels != "auto":
        values = replace(values, channels=options.channels)
    return write_values(values)


def _factor(numbers: tuple[float, ...], default: float) -> Factor:
    return default if not numbers else numbers[0] if len(set(numbers)) == 1 else numbers


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
    layers = options.layer or (_default_layer(spec),)
    poolings = tuple(check_pooling(p) for p in options.pooling) or ("avg",)
    asked = [
        [Output.parse(layer)] if "@" in layer else [Output(layer, pooling) for pooling in poolings] for layer in layers
    ]
    return tuple(dict.fromkeys(chain.from_iterable(asked)))


def _default_layer(spec: BackboneSpec) -> str:
    if spec.entry:
        return spec.entry.layer
    path = Path(spec.name)
    if path.suffix == ".keras":
        return modelfile.default_layer(path)
    if is_hub_folder(path):
        return OUTPUT
    from featx.backbones.graphs.network import GraphNetwork

    return GraphNetwork(spec).default_layer
