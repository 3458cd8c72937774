"""The identity of a backbone: digests of its graph and weights, remembered so that they cost nothing the next time."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from featx.backbones.graphs.formats import graph_files, is_graph
from featx.backbones.hub.folder import folder_files, is_hub_folder, read_content, read_folder
from featx.backbones.hub.timm import is_padded_as_timm
from featx.backbones.lite import VARIANTS
from featx.backbones.opening import open_network
from featx.backbones.output import Output
from featx.backbones.spec import BackboneSpec
from featx.io.digests import digest_file, digest_json
from featx.io.index import StatIndex
from featx.io.modules import module_digests

_NOT_BY_IT = frozenset({"imports", "plugin", "source"})  # a spec's fields that follow from others


@dataclass(frozen=True)
class Identity:
    """What of a backbone decides the values of its features.

    backbone : its name, a file by its stem
    architecture, weights : SHA-256 as hexadecimal text
    """

    backbone: str
    architecture: str
    weights: str
    preprocessing: str
    input_size: tuple[int, int]


def identify(spec: BackboneSpec, index: StatIndex, outputs: Iterable[Output] = ()) -> Identity:
    """The identity of a backbone: out of the index, without TensorFlow, when it was found before.

    outputs : what is asked of it; where a layer of the classification top is among them, the top's weights count too

    Raises
    ------
    BackboneError
        What building the network raises.
    """
    wanted = tuple(outputs)
    network = open_network(spec)
    top = any(output.layer in network.top for output in wanted)
    key = memory_key(spec, index, top)
    known: dict[str, str] | None = index.recall("identity", key)
    if known is None:
        known = asdict(network.digest(wanted))
        for one in (key, memory_key(spec, index, top, libraries=False)):
            index.remember("identity", one, known)
    architecture = known["architecture"]
    if spec.imports:  # their code computes the features, and is in no configuration
        architecture = digest_json([architecture, module_digests(spec.imports)])
    if spec.plugin is not None:
        architecture = digest_json([architecture, spec.plugin.title])
    return Identity(spec.label, architecture, known["weights"], spec.preprocessing, spec.input_size)


def memory_key(spec: BackboneSpec, index: StatIndex, top: bool = False, libraries: bool = True) -> str:
    """What facts about the network of a spec are remembered by: the spec, its files and the libraries' versions.

    libraries : False gives the key of a machine without Keras and TensorFlow, which reads what another has found
    """
    named = [Path(text) for text in (spec.name, spec.weights) if Path(text).is_absolute()]
    files = [file for path in named for file in _files_of(path)]
    return digest_json(
        {
            "spec": {name: value for name, value in asdict(spec).items() if name not in _NOT_BY_IT},
            "top": top,
            "files": [_file_digest(file, index) for file in files],
            "bundled": VARIANTS.get(spec.name, VARIANTS["EfficientNetLite0"]).sha256,
            # another Keras may build another graph, another TensorFlow draw other random weights
            "versions": [_version(name) if libraries else None for name in ("keras", "tensorflow")],
        }
        | ({"imports": module_digests(spec.imports)} if spec.imports else {})
        | _hub_facts(spec, libraries)
    )


def _hub_facts(spec: BackboneSpec, libraries: bool) -> dict[str, str | None]:
    """What a network of KerasHub depends on besides.

    CLIP's tower at another size than its own had one position for all patches once, and timm's DenseNet, which the
    presets are as well, the padding of KerasHub's. What was remembered of them then has to be found out anew: both are
    in their digests, and so in the key.
    """
    path = Path(spec.name)
    if spec.entry is not None or not is_hub_folder(path):
        return {}
    folder = read_folder(path)
    resized = folder.family.startswith("CLIP") and folder.image_size != spec.input_size
    facts = {"hub": _version("keras-hub") if libraries else None} | ({"positions": "numbered"} if resized else {})
    padded = is_padded_as_timm(folder.family, "architecture" in read_content(path), spec.source)
    return facts | ({"padding": "timm"} if padded else {})


def _files_of(path: Path) -> list[Path]:
    if is_graph(path):
        return graph_files(path)
    return folder_files(path) if is_hub_folder(path) else [path]


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _file_digest(path: Path, index: StatIndex) -> str:
    status = path.stat()
    (known,) = index.known_digests([str(path)], [status])
    if known is None:
        known = digest_file(path)
        index.remember_digests([(str(path), status, known)])
    return known.hex()
