"""Who a backbone is: digests of its graph and of its weights, remembered so that they cost nothing the next time."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.backbones import lite0
from featx.backbones.network import build, keep_for_cut, needs_top
from featx.backbones.spec import BackboneSpec, Output
from featx.backbones.weights import digest_weights
from featx.io.digests import digest_file, digest_json
from featx.io.index import StatIndex

if TYPE_CHECKING:
    import keras

# What a layer's configuration says of training and of bookkeeping, and not of what it computes.
_LEFT_OUT = ("initializer", "regularizer", "constraint", "trainable", "dtype", "batch_shape", "build_config", "seed")


@dataclass(frozen=True)
class Identity:
    """What of a backbone decides the values of its features.

    backbone : its name, a .keras file by its stem
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
    top = needs_top(spec, outputs)
    key = memory_key(spec, index, top)
    known = index.recall("identity", key)
    if known is None:
        network = build(spec, top)
        known = {"architecture": digest_architecture(network), "weights": digest_weights(network)}
        index.remember("identity", key, known)
        keep_for_cut(spec, top, network)
    return Identity(spec.label, known["architecture"], known["weights"], spec.preprocessing, spec.input_size)


def memory_key(spec: BackboneSpec, index: StatIndex, top: bool = False) -> str:
    """What facts about the network of a spec are remembered by: the spec, its files and the libraries' versions."""
    files = [text for text in (spec.name, spec.weights) if Path(text).is_absolute()]
    return digest_json(
        {
            "spec": asdict(spec),
            "top": top,
            "files": [_file_digest(Path(text), index) for text in files],
            "bundled": lite0.WEIGHTS_SHA256,
            # another Keras may build another graph, another TensorFlow draw other random weights
            "versions": [importlib.metadata.version(name) for name in ("keras", "tensorflow")],
        }
    )


def _file_digest(path: Path, index: StatIndex) -> str:
    status = path.stat()
    (known,) = index.known_digests([str(path)], [status])
    if known is None:
        known = digest_file(path)
        index.remember_digests([(str(path), status, known)])
    return known.hex()


def digest_architecture(network: keras.Model) -> str:
    """SHA-256 of the layers, what each computes and what it takes its input from."""
    config = network.get_config()
    return digest_json([_essence(layer) for layer in config["layers"]])


def _essence(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _essence(v) for k, v in value.items() if not k.endswith(_LEFT_OUT) and k not in {"module", "shape"}}
    if isinstance(value, list | tuple):
        return [_essence(item) for item in value]
    return value
