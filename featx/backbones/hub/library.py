"""KerasHub itself: imported on demand, presets downloaded."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from featx.backbones.hub.folder import CONFIG, PREFIX, read_folder
from featx.backbones.hub.mending import mend_layers
from featx.backbones.runtime import import_keras
from featx.errors import BackboneError
from featx.io.shown import error_line
from featx.io.suggest import did_you_mean

_OPTIONAL = ("image_converter.json", "LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "NOTICE.txt")
_WEIGHTS, _INDEX = "model.weights.h5", "model.weights.json"
_WHOLE = ".featx-whole"  # in the folder of a preset that lacks nothing: it is not asked for more, and needs no network
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


def fetch_preset(name: str, weights: bool = True) -> Path:
    """The folder of a preset, `hub:PRESET`, downloaded by KerasHub where it has not been.

    weights : whether they are needed; else what describes the network is enough

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
        if not (folder / _WHOLE).is_file():
            for file in _OPTIONAL:
                preset_utils.check_file_exists(preset, file)  # which fetches it
            if weights:
                _fetch_weights(preset, folder)
    except BackboneError:
        raise
    except Exception as error:  # requests, urllib3, kagglehub and huggingface_hub raise errors with no base in common
        handle = known[preset]["kaggle_handle"]
        raise BackboneError(
            f"Cannot download {preset} ({handle}): {error_line(error)}. Without a network: copy "
            f"{CONFIG}, model.weights.h5 and image_converter.json of {handle} into a folder here, and give it as "
            "--backbone FOLDER; its config.json alone is enough for --weights random."
        ) from error
    return folder


def _fetch_weights(preset: str, folder: Path) -> None:
    from keras_hub.src.utils import preset_utils

    if not preset_utils.check_file_exists(preset, _WEIGHTS):
        index = json.loads(Path(preset_utils.get_file(preset, _INDEX)).read_text(encoding="utf-8"))["weight_map"]
        for file in {name for value in index.values() for name in ([value] if isinstance(value, str) else value)}:
            preset_utils.get_file(preset, file)
    (folder / _WHOLE).touch()


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
