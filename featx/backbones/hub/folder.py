"""A folder written by KerasHub, or one of Hugging Face that it converts: its metadata, read without TensorFlow."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from featx.backbones.hub.timm import family_of
from featx.backbones.hub.towers import tower_config
from featx.errors import BackboneError
from featx.io.jsontypes import Json, parse_json

PREFIX = "hub:"  # of a preset's name
HUGGING_FACE = "hf:"  # of a network's name there
ONNX_FILES = ("onnx/model.onnx", "model.onnx")  # where exporters put the graph of a folder
CONFIG = "config.json"
OUTPUT = "output"  # the last layer of every such network
_DEFAULT_SIDE = 224  # an eighth of the cost of 518, at which some were trained
_WEIGHTS = ("model.weights.h5", "model.weights.json", "model.safetensors", "model.safetensors.index.json")
_VERSION = re.compile(r"\d+|main|[0-9a-f]{40}(\.part)?")  # of a preset, a branch, a commit
_TOWER = "vision_encoder"  # of networks of images and text

# the class of KerasHub
FAMILIES = (
    "CLIPBackbone",
    "CSPNetBackbone",
    "DeiTBackbone",
    "EfficientNetBackbone",
    "MobileNetBackbone",
    "SwinTransformerBackbone",
    "CLIPVisionEncoder",
    "DINOV2Backbone",
    "DINOV3Backbone",
    "DenseNetBackbone",
    "HGNetV2Backbone",
    "MobileNetV5Backbone",
    "ResNetBackbone",
    "SigLIPBackbone",
    "SigLIPVisionEncoder",
    "VGGBackbone",
    "ViTBackbone",
    "XceptionBackbone",
)
# Hugging Face's model_type -> the class of KerasHub
CONVERTED = {
    "dinov2": "DINOV2Backbone",
    "dinov2_with_registers": "DINOV2Backbone",
    "dinov3_vit": "DINOV3Backbone",
    "vit": "ViTBackbone",
    "deit": "DeiTBackbone",
    "swin": "SwinTransformerBackbone",
    **dict.fromkeys(("clip", "clip_vision_model"), "CLIPVisionEncoder"),
    **dict.fromkeys(("siglip", "siglip_vision_model"), "SigLIPVisionEncoder"),
}
TOWERS = ("CLIPVisionEncoder", "SigLIPVisionEncoder")


@dataclass(frozen=True)
class HubFolder:
    """What the files of a folder say of its network.

    family : the class of KerasHub
    image_size : (height, width) that it was written for; None where it takes any
    patch : the side of a patch in pixels; None of a network without patches
    """

    path: Path
    family: str
    image_size: tuple[int, int] | None
    patch: int | None

    @property
    def label(self) -> str:
        """A short name for people."""
        return folder_label(self.path)

    @property
    def default_size(self) -> tuple[int, int]:
        """The image size where nobody asks for another."""
        height, width = self.image_size or (_DEFAULT_SIDE, _DEFAULT_SIDE)
        return min(height, _DEFAULT_SIDE), min(width, _DEFAULT_SIDE)

    def check_size(self, size: tuple[int, int]) -> None:
        """Refuse an image size that the patches do not fill.

        Raises
        ------
        BackboneError
            Names the sizes that are near.
        """
        if self.patch and size[0] % self.patch:
            below = size[0] // self.patch * self.patch
            near = " or ".join(str(side) for side in (below, below + self.patch) if side)
            raise BackboneError(
                f"{self.label} takes images in patches of {self.patch} pixels, and {size[0]} is not a multiple of "
                f"that. Choose --input-size {near}."
            )

    def count_prefix(self, tokens: int, size: tuple[int, int]) -> int | None:
        """How many of the tokens of an image of this size are in front of those of the patches; None if unclear."""
        if self.family == "SwinTransformerBackbone":
            return 0  # its stages merge patches, and there is no token beside them
        if not self.patch:
            return None
        left = tokens - (size[0] // self.patch) * (size[1] // self.patch)
        return left if left >= 0 else None


def is_hub_folder(path: Path) -> bool:
    """Whether a path looks like a folder of KerasHub or Hugging Face, or is a `.keras` file of a model of KerasHub."""
    return (path / CONFIG).is_file() or _is_hub_model(path)


def _is_hub_model(path: Path) -> bool:
    if path.suffix != ".keras" or not path.is_file():
        return False
    try:
        content = read_content(path)
    except BackboneError:
        return False  # which is said where it is opened
    return str(content.get("module")).startswith("keras_hub.")


def folder_files(path: Path) -> list[Path]:
    """The files that the network of a folder is read from."""
    if path.is_file():
        return [path]
    files = [path / CONFIG, *(path / name for name in _WEIGHTS), *path.glob("model*-of-*"), *path.glob("model_0*.h5")]
    return sorted({file for file in files if file.is_file()})


def has_weights(path: Path) -> bool:
    """Whether the folder holds more than the configuration."""
    return path.is_file() or any((path / name).is_file() for name in _WEIGHTS)


def folder_label(path: Path) -> str:
    """A short name of the folder's network: that of the folder above where it is called by its version or commit."""
    if path.suffix == ".keras":
        return path.stem
    return path.parent.name if _VERSION.fullmatch(path.name) else path.name


def file_label(path: Path) -> str:
    """A short name of a graph file: its stem; of one that a folder's network was exported to, the folder's name."""
    for name in ONNX_FILES:
        folder = path.parents[name.count("/")]
        if path == folder / name and ("/" in name or (folder / CONFIG).is_file()):
            return folder_label(folder)
    return path.stem


def graph_of_folder(path: Path) -> Path | None:
    """The graph file that stands for a folder's network, where the folder has no weights of a type that is read."""
    graph = next((path / name for name in ONNX_FILES if (path / name).is_file()), None)
    if graph is None or not has_weights(path):
        return graph
    try:
        read_folder(path)
    except BackboneError:
        return graph
    return None


def read_content(path: Path) -> Mapping[str, Json]:
    """The configuration of a folder, or of a `.keras` file.

    Raises
    ------
    BackboneError
        It cannot be read, or is not a JSON object.
    """
    try:
        if path.suffix == ".keras" and path.is_file():
            with zipfile.ZipFile(path) as archive:
                content = parse_json(archive.read(CONFIG))
        else:
            content = parse_json((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BackboneError(f"{path / CONFIG} cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(content, Mapping):
        raise BackboneError(f"{path / CONFIG} does not describe a network: it is not a JSON object.")
    return content


def read_folder(path: Path) -> HubFolder:
    """What the files of a folder say.

    Raises
    ------
    BackboneError
        A `config.json` that cannot be read, of a network that takes no images, or that KerasHub does not know.
    """
    content = read_content(path)
    if "model_type" in content:
        return _read_hugging_face(path, content)
    if "architecture" in content:
        return _read_timm(path, content)
    if not isinstance(content.get("config"), Mapping) or "class_name" not in content:
        raise BackboneError(
            f"{path / CONFIG} names neither a class of KerasHub nor a model_type of Hugging Face. {_export_hint()}"
        )
    return _read_keras(path, content)


def _read_keras(path: Path, content: Mapping[str, Json]) -> HubFolder:
    outer = content["config"]
    inner = outer.get("backbone") if isinstance(outer, Mapping) else None
    if isinstance(inner, Mapping):  # of a classifier
        return _read_keras(path, inner)
    family = str(content["class_name"])
    if family not in FAMILIES:
        known = ", ".join(name.removesuffix("Backbone") for name in FAMILIES)
        raise BackboneError(
            f"{folder_label(path)} holds a {family}; of the networks of KerasHub, featx reads {known}. {_export_hint()}"
        )
    config = content["config"]
    assert isinstance(config, Mapping)
    tower = config.get(_TOWER)
    if isinstance(tower, Mapping) and isinstance(tower.get("config"), Mapping):
        config = tower["config"]
        assert isinstance(config, Mapping)
    return HubFolder(path, family, _image_size(config.get("image_shape")), _patch(config.get("patch_size")))


def _read_hugging_face(path: Path, content: Mapping[str, Json]) -> HubFolder:
    kind = str(content["model_type"])
    if kind not in CONVERTED:
        raise BackboneError(
            f"{folder_label(path)} is a Hugging Face folder of type {kind!r}; featx reads {', '.join(CONVERTED)}. "
            f"{_export_hint(path)}"
        )
    if CONVERTED[kind] in TOWERS:
        content = tower_config(content)
    side = content.get("image_size", _DEFAULT_SIDE)
    size = _image_size([side, side, 3] if isinstance(side, int) else side)
    return HubFolder(path, CONVERTED[kind], size, _patch(content.get("patch_size", 16)))


def _read_timm(path: Path, content: Mapping[str, Json]) -> HubFolder:
    architecture = str(content["architecture"])
    family = family_of(architecture, path, folder_label(path))
    settings = content.get("pretrained_cfg")
    shape = settings.get("input_size") if isinstance(settings, Mapping) else None
    size = _image_size([*shape[1:], 3]) if isinstance(shape, list) and len(shape) == 3 else None
    return HubFolder(path, family, size, None)


def _export_hint(path: Path | None = None) -> str:
    source = "FOLDER" if path is None else path
    return f"Export it and give the .onnx file: optimum-cli export onnx --model {source} OUT."


def _image_size(shape: Json) -> tuple[int, int] | None:
    """(height, width) of (height, width, channels); None where one of them is open."""
    if not isinstance(shape, list) or len(shape) < 2:
        return None
    height, width = shape[0], shape[1]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _patch(size: Json) -> int | None:
    if isinstance(size, list) and size:
        size = size[0]
    return size if isinstance(size, int) else None
