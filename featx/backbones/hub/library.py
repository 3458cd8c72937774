"""KerasHub itself: imported where it is needed, and presets fetched."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from featx.backbones.hub.folder import CONFIG, PREFIX, read_folder
from featx.backbones.hub.mending import mend_layers
from featx.backbones.runtime import import_keras
from featx.errors import BackboneError
from featx.io.suggest import did_you_mean

_FILES = ("model.weights.h5", "model.weights.json", "image_converter.json")
INSTALL = "pip install 'featx[hub]'"
KerasHub = Any


def import_hub() -> KerasHub:
    """KerasHub on TensorFlow.

    Raises
    ------
    BackboneError
        It is not installed.
    """
    import_keras()
    try:
        import keras_hub
    except ImportError as error:
        raise BackboneError(f"This network needs KerasHub: {INSTALL} ({error}).") from error
    mend_layers()
    return keras_hub


def fetch_preset(name: str) -> Path:
    """The folder of a preset, `hub:PRESET`, downloaded by KerasHub where it has not been.

    Raises
    ------
    BackboneError
        No such preset, or it cannot be downloaded.
    """
    import_hub()
    from keras_hub.src.utils import preset_utils

    preset = name.removeprefix(PREFIX)
    known = preset_utils.BUILTIN_PRESETS
    if preset not in known:
        raise BackboneError(
            f"No preset {preset!r} in this KerasHub.{did_you_mean(preset, known, most=3)} Its documentation lists "
            "them; a folder that KerasHub wrote works too."
        )
    try:
        folder = Path(preset_utils.get_file(preset, CONFIG)).parent
        read_folder(folder)  # one that featx does not take is refused before its weights are fetched
        for file in _FILES:
            if preset_utils.check_file_exists(preset, file):
                preset_utils.get_file(preset, file)
        index = folder / "model.weights.json"  # of weights in several files
        weights = json.loads(index.read_text(encoding="utf-8"))["weight_map"] if index.is_file() else {}
        for file in {name for value in weights.values() for name in ([value] if isinstance(value, str) else value)}:
            preset_utils.get_file(preset, file)
    except BackboneError:
        raise
    except Exception as error:  # requests, urllib3, kagglehub and huggingface_hub raise errors with no base in common
        handle = known[preset]["kaggle_handle"]
        raise BackboneError(
            f"Cannot download {preset} ({handle}): {' '.join(str(error).split())[:200]}. Without a network: copy "
            f"{CONFIG}, model.weights.h5 and image_converter.json of {handle} into a folder here, and give it as "
            "--backbone FOLDER; its config.json alone is enough for --weights random."
        ) from error
    return folder


def import_hub_for(network: Path) -> None:
    """Import KerasHub where the network of a `.keras` file has layers of it, so that Keras finds them.

    Raises
    ------
    BackboneError
        It is not installed.
    """
    try:
        with zipfile.ZipFile(network) as archive:
            needed = b'"keras_hub.' in archive.read("config.json")
    except (zipfile.BadZipFile, KeyError, OSError):
        return  # Keras says what is wrong
    if needed:
        import_hub()
