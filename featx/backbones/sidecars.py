"""Files beside a network's file that describe its preprocessing.

`preprocessor_config.json` is Hugging Face's, `pretrained_cfg` in `config.json` timm's, `image_converter.json`
KerasHub's, `NAME.json` beside `NAME.onnx` one's own, with the fields of `Preprocessing`: size, resize, crop_share,
interpolation, scale, mean, std, channels.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isfinite
from pathlib import Path

from featx.backbones.preprocessing import Factor, Preprocessing
from featx.errors import BackboneError
from featx.io.jsontypes import Json, parse_json

_FILTERS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, which Hugging Face writes
_OWN = ("size", "resize", "crop_share", "interpolation", "scale", "mean", "std", "channels")
_ANY = (0, 0)  # a size that the file does not fix


def find_preprocessing(path: Path) -> Preprocessing | None:
    """What a file beside a network says, or one in the folder above, as in `model/onnx/model.onnx`; None without any.

    The size is (0, 0) where the file leaves it open.

    Raises
    ------
    BackboneError
        A file that is no JSON, or whose fields have the wrong types.
    """
    inside = _of_model(path) if path.suffix == ".keras" else None
    if inside is not None:
        return inside
    folders = [path] if path.is_dir() else [path.parent]
    folders += [folder.parent for folder in folders if folder.name == "onnx"]
    for folder in folders:
        for name, read in (
            ("preprocessor_config.json", _of_hugging_face),
            ("config.json", _of_timm),
            ("image_converter.json", _of_keras_hub),
        ):
            found = _read(folder / name, read)
            if found is not None:
                return found
    return _read(path.with_suffix(".json"), _own)


def _read(file: Path, read: Callable[[Mapping[str, Json]], Preprocessing | None]) -> Preprocessing | None:
    if not file.is_file():
        return None
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
        return read(content) if isinstance(content, dict) else None
    except (ValueError, TypeError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())
        raise BackboneError(
            f"{file} does not describe the preprocessing: {type(error).__name__} {reason}. Fix it, or remove "
            "it and give --mean and --std."
        ) from error


def _of_hugging_face(content: Mapping[str, Json]) -> Preprocessing | None:
    """`preprocessor_config.json` of an image processor; None for one of something else."""
    if "image_mean" not in content and "rescale_factor" not in content and "size" not in content:
        return None
    crops = bool(content.get("do_center_crop"))
    side = _side(content.get("crop_size")) if crops else None
    resized = _side(content.get("size"))
    size = side or resized or _ANY
    share = min(1.0, size[0] / resized[0]) if crops and resized else 1.0
    normalizes = content.get("do_normalize", True)
    scale = _number(content.get("rescale_factor", 1 / 255)) if content.get("do_rescale", True) else 1.0
    return Preprocessing(
        size,
        resize="crop" if crops or _keeps_proportions(content.get("size")) else "stretch",
        crop_share=share,
        interpolation=_FILTERS.get(int(_number(content.get("resample", 2))), "bilinear"),
        scale=scale,
        mean=_factor(content.get("image_mean", 0.0)) if normalizes else 0.0,
        std=_factor(content.get("image_std", 1.0)) if normalizes else 1.0,
    )


def _of_timm(content: Mapping[str, Json]) -> Preprocessing | None:
    """Timm's `pretrained_cfg`."""
    settings = content.get("pretrained_cfg")
    if not isinstance(settings, Mapping) or "mean" not in settings:
        return None
    shape = settings.get("test_input_size") or settings.get("input_size")
    size = (int(_number(shape[1])), int(_number(shape[2]))) if isinstance(shape, list) and len(shape) == 3 else _ANY
    mode = settings.get("crop_mode", "center")
    return Preprocessing(
        size,
        resize="stretch" if mode == "squash" else "pad" if mode == "border" else "crop",
        crop_share=1.0 if mode == "border" else _number(settings.get("crop_pct", 1.0)),
        interpolation=str(settings.get("interpolation", "bilinear")),
        scale=1 / 255,
        mean=_factor(settings["mean"]),
        std=_factor(settings["std"]),
    )


def _of_keras_hub(content: Mapping[str, Json]) -> Preprocessing | None:
    """KerasHub's image converter, whose values are `pixels * scale + offset`."""
    settings = content.get("config")
    if not isinstance(settings, Mapping) or "image_size" not in settings:
        return None
    scales, offsets = (_three(settings.get(name), default) for name, default in (("scale", 1.0), ("offset", 0.0)))
    if len(set(scales)) == 1 and not any(offsets):
        values = Preprocessing(_ANY, scale=scales[0])
    else:
        stds = tuple(1 / (255 * one) for one in scales)
        means = tuple(0.0 - offset * std for offset, std in zip(offsets, stds, strict=True))
        values = Preprocessing(_ANY, scale=1 / 255, mean=_factor(_rounded(means)), std=_factor(_rounded(stds)))
    crops, pads = settings.get("crop_to_aspect_ratio", True), settings.get("pad_to_aspect_ratio", False)
    return replace(
        values,
        size=_side(settings.get("image_size")) or _ANY,
        resize="pad" if pads else "crop" if crops else "stretch",
        interpolation=str(settings.get("interpolation", "bilinear")),
    )


def _of_model(path: Path) -> Preprocessing | None:
    """The image converter of a classifier that KerasHub saved as one `.keras` file."""
    try:
        with zipfile.ZipFile(path) as archive:
            content = parse_json(archive.read("config.json"))
        converter = content["config"]["preprocessor"]["config"]["image_converter"]
        return _of_keras_hub(converter)
    except (zipfile.BadZipFile, ValueError, TypeError, KeyError, OSError):
        return None  # a backbone alone has none, and what is wrong with the file is said where it is opened


def _three(value: Json, default: float) -> tuple[float, ...]:
    numbers = value if isinstance(value, list) else [default if value is None else value] * 3
    if len(numbers) != 3:
        raise ValueError(f"three numbers are needed, one for each channel, got {value!r}")
    return tuple(_number(one) for one in numbers)


def _rounded(numbers: tuple[float, ...]) -> Json:
    return [round(one, 7) for one in numbers]  # so that 1 / (255 * (1 / (255 * 0.229))) is 0.229 again


def _own(content: Mapping[str, Json]) -> Preprocessing | None:
    """One's own file, of the fields of `Preprocessing`."""
    unknown = [name for name in content if name not in _OWN]
    if unknown:
        raise KeyError(f"no field {unknown[0]!r}; there are {', '.join(_OWN)}")
    normalizes = "mean" in content or "std" in content
    return Preprocessing(
        _side(content.get("size")) or _ANY,
        resize=str(content.get("resize", "stretch")),
        crop_share=_number(content.get("crop_share", 1.0)),
        interpolation=str(content.get("interpolation", "bilinear")),
        scale=_number(content.get("scale", 1 / 255 if normalizes else 1.0)),
        mean=_factor(content.get("mean", 0.0)),
        std=_factor(content.get("std", 1.0)),
        channels=str(content.get("channels", "rgb")),
    )


def _keeps_proportions(size: Json) -> bool:
    """Whether only the shorter side is given, as the older processors write it."""
    return isinstance(size, Mapping) and "shortest_edge" in size


def _side(size: Json) -> tuple[int, int] | None:
    """(height, width) of a number, a pair, or {height, width} or {shortest_edge}."""
    if isinstance(size, Mapping):
        short = size.get("shortest_edge")
        size = [size.get("height", short), size.get("width", short)]
    if isinstance(size, list) and len(size) == 2:
        return int(_number(size[0])), int(_number(size[1]))
    return None if size is None else (int(_number(size)), int(_number(size)))


def _number(value: Json) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise TypeError(f"a number is needed, got {value!r}")
    return float(value)


def _factor(value: Json) -> Factor:
    if isinstance(value, list):
        numbers = tuple(_number(one) for one in value)
        if len(numbers) != 3:
            raise ValueError(f"three numbers are needed, one for each channel, got {value!r}")
        return numbers[0] if len(set(numbers)) == 1 else numbers
    return _number(value)
