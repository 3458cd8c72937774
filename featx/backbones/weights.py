"""Weights: their sources, and proof that every variable was assigned.

Keras numbers its automatic layer names through the whole process, so a loader that goes by name may match nothing and
say nothing. Here every variable is filled with NaN first and none may be left afterwards. Layers of a file are matched
with the network's by name after renumbering, and where the names differ by order, as Keras does; shapes must agree.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.backbones import lite, modelfile
from featx.backbones.names import give_stable_names, renumber
from featx.backbones.other_files import ACCEPTED, describe_other_weights
from featx.backbones.runtime import KerasLayer, KerasModel, KerasTensor, import_keras
from featx.backbones.spec import BackboneSpec
from featx.errors import BackboneError
from featx.io.counting import counted
from featx.io.temporary import temporary_folder

if TYPE_CHECKING:
    import h5py

CLASSES = 1000  # of ImageNet


@dataclass(frozen=True)
class SavedLayer:
    """One layer of a weights file: its name there and its arrays, in the order of the layer's variables."""

    name: str
    arrays: list[np.ndarray]


def assign(network: KerasModel, spec: BackboneSpec, top: bool) -> None:
    """Give the network the weights of the spec.

    Raises
    ------
    BackboneError
        Weights that cannot be had, do not fit, or leave a variable unassigned.
    """
    if spec.weights == "random" or (spec.weights == "bundled" and spec.entry is None):
        return
    fill_with_nan(network)
    if spec.weights == "bundled":
        lite.assign_bundled(network, spec.name)
    elif spec.weights == "imagenet":
        _assign_layers(network, _layers_of(_download(spec, top)), "the ImageNet weights", exact=True)
    else:
        assign_file(network, Path(spec.weights), top)
    require_assigned(network, spec.weights)


def fill_with_nan(network: KerasModel) -> None:
    """Make every floating-point variable of the network NaN."""
    for _, variable in _variables(network):
        if "float" in str(variable.dtype):
            variable.assign(np.full(variable.shape, np.nan, variable.dtype))


def require_assigned(network: KerasModel, source: str) -> None:
    """Refuse a network that still holds a NaN.

    Raises
    ------
    BackboneError
        Names the first such variable.
    """
    for name, variable in _variables(network):
        if "float" in str(variable.dtype) and np.isnan(np.asarray(variable)).any():
            raise BackboneError(f"{Path(source).name} has no value for {name} of {network.name}, or NaN.")


def digest_weights(network: KerasModel) -> str:
    """SHA-256 over names, shapes, dtypes and values of all variables, as hexadecimal text."""
    digest = hashlib.sha256()
    for name, variable in _variables(network):
        value = np.ascontiguousarray(variable)
        digest.update(f"{name} {value.shape} {value.dtype}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _variables(network: KerasModel) -> Iterator[tuple[str, KerasTensor]]:
    for layer in network.layers:
        for index, variable in enumerate(layer.weights):
            yield f"{layer.name}/{index}", variable


# --- files -------------------------------------------------------------------------------------------------------


def assign_file(network: KerasModel, path: Path, top: bool) -> None:
    """Give the network the weights of a file: `.weights.h5`, legacy `.h5` with or without top, or `.keras`.

    What the file holds is found by its content, not by its name.

    Raises
    ------
    BackboneError
        A file of another type, or one that does not fit, with the first mismatch.
    """
    file_type = _file_type(path)
    if file_type == "keras":
        _assign_layers(network, _layers_of(modelfile.load(path)), path.name, exact=top)
    elif file_type == "legacy":
        _assign_layers(network, read_legacy(path), path.name, exact=top)
    else:
        _load_weights_h5(network, path)


def require_weights_file(spec: BackboneSpec) -> None:
    """Refuse a spec whose weights are a file of another type; whether they fit, only the network can show."""
    if Path(spec.weights).is_absolute():
        _file_type(Path(spec.weights))


def _file_type(path: Path) -> str:
    import h5py

    if path.suffix == ".keras":
        return "keras"
    try:
        with h5py.File(path, locking=False) as file:
            if "layer_names" in file.attrs or "layer_names0" in file.attrs or "model_weights" in file:
                return "legacy"
            if _is_network(file) or "_layer_checkpoint_dependencies" in file or _nested_networks(file):
                return "weights.h5"
    except OSError as error:
        raise BackboneError(describe_other_weights(path)) from error
    raise BackboneError(f"{path.name} is HDF5, but holds no Keras weights. {ACCEPTED}")


def _is_network(group: h5py.Group) -> bool:
    return "layers" in group


def _nested_networks(file: h5py.File) -> list[str]:
    """The groups of a `.weights.h5` that hold a network inside of the network, the one of most variables first."""
    found: dict[str, int] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if hasattr(item, "keys") and _is_network(item):
            found[name] = 0
        if not hasattr(item, "keys"):
            for outer in found:
                found[outer] += name.startswith(f"{outer}/")

    file.visititems(visit)  # a group comes before what is in it
    return sorted(found, key=lambda name: -found[name])


def _load_weights_h5(network: KerasModel, path: Path) -> None:
    """Load the file, or the first network inside of its network that fits, as of a classifier around a backbone."""
    mismatch = None
    with temporary_folder() as folder:
        for one in _files_to_try(path, folder):
            error = _try_weights(network, one)
            if error is None:
                return
            mismatch = mismatch or error
    if mismatch:
        raise BackboneError(f"{path.name} does not fit {network.name}: {_first_mismatch(mismatch)}") from mismatch


def _files_to_try(path: Path, folder: Path) -> Iterator[Path]:
    """A file by a name that Keras takes for weights, then each network inside of its network as such a file."""
    import h5py

    if path.name.endswith(".weights.h5"):
        yield path
    else:
        yield Path(shutil.copy(path, folder / f"{path.stem}.weights.h5"))
    target = folder / "nested.weights.h5"
    with h5py.File(path, locking=False) as file:
        names = _nested_networks(file)
    for name in names:
        with h5py.File(path, locking=False) as file, h5py.File(target, "w", locking=False) as copy:
            for part in file[name]:
                file[name].copy(part, copy)
        yield target


def _try_weights(network: KerasModel, path: Path) -> Exception | None:
    """Give the network the weights of a file; why it does not fit, where it does not."""
    try:
        with warnings.catch_warnings(action="ignore"):  # what Keras skips with a warning is found as NaN
            network.load_weights(path)
    except (ValueError, KeyError) as error:
        return error
    return None


def _first_mismatch(error: Exception) -> str:
    """Keras reports every layer that failed, with the values of its variables; the first, with shapes, is enough."""
    text = " ".join(str(error).split())
    layer = re.search(r"object <\w+ name=([^,>]+)", text)
    shapes = re.search(r"variable\.shape=(\([^)]*\)).*?value\.shape=(\([^)]*\))", text)
    if layer and shapes:
        return f"layer {layer[1]} has shape {shapes[1]}, the file's {shapes[2]}."
    reason = text.partition("Example error message for ")[2] or text
    return reason.partition(" List of objects")[0][:300]


def read_legacy(path: Path) -> list[SavedLayer]:
    """The layers of a legacy Keras HDF5 file that have weights, in the file's order."""
    import h5py

    with h5py.File(path, locking=False) as file:
        group = file.get("model_weights", file)
        layers = (SavedLayer(name, _arrays(group[name])) for name in _text_attribute(group, "layer_names"))
        return [layer for layer in layers if layer.arrays]


def _arrays(group: h5py.Group) -> list[np.ndarray]:
    return [np.asarray(group[name]) for name in _text_attribute(group, "weight_names")]


def _text_attribute(group: h5py.Group, name: str) -> list[str]:
    """A list of names, which Keras splits over `name0`, `name1`, ... where it is longer than HDF5 allows."""
    chunks = [group.attrs[name]] if name in group.attrs else []
    while not chunks or f"{name}{len(chunks)}" in group.attrs:
        if f"{name}{len(chunks)}" not in group.attrs:
            break
        chunks.append(group.attrs[f"{name}{len(chunks)}"])
    return [n.decode() if isinstance(n, bytes) else str(n) for chunk in chunks for n in chunk]


# --- matching ----------------------------------------------------------------------------------------------------


def _layers_of(network: KerasModel) -> list[SavedLayer]:
    return [
        SavedLayer(layer.name, [np.asarray(v) for v in _legacy_order(layer)])
        for layer in network.layers
        if layer.weights
    ]


def _legacy_order(layer: KerasLayer) -> list[KerasTensor]:
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _assign_layers(network: KerasModel, saved: Sequence[SavedLayer], source: str, exact: bool) -> None:
    """Set each layer of the network; layers of the file behind the network's last are its top, and left aside."""
    layers = [layer for layer in network.layers if layer.weights]
    pairs = _match(layers, saved)
    if len(pairs) < len(layers) or (exact and len(saved) > len(layers)):
        raise BackboneError(
            f"{source} does not fit {network.name}: it has {counted(len(saved), 'layer')} with weights, the network "
            f"{len(layers)}."
        )
    for layer, found in pairs:
        _assign_layer(layer, found, network.name, source)


def _match(layers: Sequence[KerasLayer], saved: Sequence[SavedLayer]) -> list[tuple[KerasLayer, SavedLayer]]:
    by_name = dict(zip(renumber([layer.name for layer in saved]), saved, strict=True))
    names = renumber([layer.name for layer in layers])
    if all(name in by_name for name in names):
        return [(layer, by_name[name]) for layer, name in zip(layers, names, strict=True)]
    return list(zip(layers, saved, strict=False))


def _assign_layer(layer: KerasLayer, saved: SavedLayer, network: str, source: str) -> None:
    variables = _legacy_order(layer)
    expected, found = [tuple(v.shape) for v in variables], [a.shape for a in saved.arrays]
    if expected != found:
        raise BackboneError(
            f"{source} does not fit {network}: layer {layer.name} has shapes {expected}, the file's {saved.name} "
            f"has {found}."
        )
    for variable, array in zip(variables, saved.arrays, strict=True):
        variable.assign(array)
    if hasattr(layer, "finalize_state"):  # Normalization computes with copies of its variables
        layer.finalize_state()


# --- ImageNet ----------------------------------------------------------------------------------------------------


def _download(spec: BackboneSpec, top: bool) -> KerasModel:
    """The network as Keras builds it with its ImageNet weights, at its own size, which every network allows."""
    assert spec.entry is not None
    function = getattr(import_keras().applications, spec.name)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras prints its progress
            donor = function(weights="imagenet", include_top=top, input_shape=(*[spec.entry.input_size] * 2, 3))
    except Exception as error:  # Keras' get_file raises this very class when the network fails
        # anything more specific, but for what files raise, is another matter
        if type(error) is not Exception and not isinstance(error, OSError | ValueError):
            raise
        raise BackboneError(_explain_download(spec, error)) from error
    return give_stable_names(donor)


def _explain_download(spec: BackboneSpec, error: Exception) -> str:
    url = re.search(r"https?://\S+", str(error))
    what = url[0].rstrip(":") if url else f"the weights file that keras.applications.{spec.name} downloads"
    return (
        f"Cannot download the ImageNet weights of {spec.name}: {' '.join(str(error).split())}. "
        f"Without a network: fetch {what} elsewhere, copy it here, and give it as --weights FILE."
    )


def count_classes(spec: BackboneSpec) -> int:
    """How many classes the top of the spec's weights has: the length of the last bias in a file."""
    import h5py

    path = Path(spec.weights)
    if spec.weights in {"bundled", "imagenet", "random"} or _file_type(path) == "keras":
        return CLASSES
    if _file_type(path) == "legacy":
        saved = read_legacy(path)
        return int(saved[-1].arrays[-1].shape[-1]) if saved else CLASSES
    with h5py.File(path, locking=False) as file:
        for kind in ("dense", "conv2d"):  # MobileNets classify with a convolution
            names = [name for name in file["layers"] if re.fullmatch(rf"{kind}(_\d+)?", name)]
            last = max(names, key=lambda name: int(name.rpartition("_")[2]) if name[-1].isdigit() else 0, default=kind)
            bias = file.get(f"layers/{last}/vars/1")
            if bias is not None:
                return int(bias.shape[0])
    return CLASSES
