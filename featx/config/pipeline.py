"""Pipeline files: YAML with one section per stage, validated, and overridden by the command line.

Paths in a pipeline file are relative to the working directory, as they are on the command line.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from featx.config import SECTIONS, Pipeline, check_options, listed_options, with_preset
from featx.errors import UsageError

DEFAULT = "default.yaml"


def read_default() -> Pipeline:
    """`pipelines/default.yaml` of the working directory, or else the one that featx carries."""
    here = Path("pipelines") / DEFAULT
    if here.is_file():
        return read_pipeline(here)
    carried = files("featx") / "pipelines" / DEFAULT
    if not carried.is_file():  # an editable install leaves the folder where it is, beside the package
        carried = files("featx") / ".." / "pipelines" / DEFAULT
    with as_file(carried) as path:
        return read_pipeline(path)


def read_pipeline(path: Path, settings: Sequence[str] = ()) -> Pipeline:
    """Read and validate a pipeline file; `settings` are `section.key=value`, applied on top.

    Raises
    ------
    UsageError
        A missing file, bad YAML, an unknown key (with the near one), a value of the wrong kind.
    """
    import yaml

    if not path.is_file():
        raise UsageError(f"There is no pipeline file {path}. pipelines/README.md shows how to write one.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold sections ({', '.join(SECTIONS)}), got {type(content).__name__}.")
    pipeline = _validate(content, str(path))
    if pipeline.report.name is None:
        pipeline = replace(pipeline, report=replace(pipeline.report, name=path.stem))
    return apply_settings(pipeline, settings)


def start_pipeline(data: str | None, file: Path | None) -> Pipeline:
    """What options are applied to: a file, or the default one, or, for data alone, the built-in defaults."""
    if file is not None:
        pipeline = read_pipeline(file)
    else:
        pipeline = read_default() if data is None else Pipeline()
    return pipeline if data is None else replace(pipeline, data=replace(pipeline.data, path=data))


def apply_options(pipeline: Pipeline, sections: Sequence[str], options: Mapping[str, Any], where: str) -> Pipeline:
    """The pipeline with options of these sections on top, named without their section, as on the command line.

    where : who was given them, for the message

    Raises
    ------
    UsageError
        An option that these sections do not have (with the near one), a value of the wrong kind.
    """
    known = option_names(sections)
    for name in options:
        if name not in known:
            raise UsageError(f"{where} has no option {name!r}. {_near(name, list(known))}")
    content = {section: _plain(getattr(pipeline, section)) for section in SECTIONS}
    for name, value in options.items():
        content[known[name]][name] = list(value) if isinstance(value, tuple) else value
    return _validate(content, where)


def option_names(sections: Sequence[str]) -> dict[str, str]:
    """Option -> its section, of all that these sections have; the data's path is an argument of its own."""
    names = {entry.name: section for section in sections for entry in fields(SECTIONS[section])}
    return {name: section for name, section in names.items() if (section, name) != ("data", "path")}


def apply_settings(pipeline: Pipeline, settings: Sequence[str]) -> Pipeline:
    """The pipeline with `section.key=value` settings on top; values are read as YAML."""
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        name = name.strip()
        if not equals or not name.partition(".")[2]:
            raise UsageError(f"--set takes section.key=value, got {setting!r}. Example: --set features.layer=mixed7")
        section_of(name, "--set")
        found[name] = parse_value(value, f"--set {name}")
    return set_keys(pipeline, found, "--set")


def set_keys(pipeline: Pipeline, keys: Mapping[str, Any], where: str) -> Pipeline:
    """The pipeline with keys written `section.key` on top, their values as a pipeline file has them.

    where : what they were given to, for the message

    Raises
    ------
    UsageError
        A section or key that there is not (with the near one), a value of the wrong kind.
    """
    if not keys:
        return pipeline
    content = {section: _plain(getattr(pipeline, section)) for section in SECTIONS}
    found: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for name, value in keys.items():
        found[section_of(name, where)][name.partition(".")[2]] = value
    for section, values in found.items():
        content[section] |= with_preset(values)
    return _validate(content, where)


def section_of(name: str, where: str) -> str:
    """The section of a key written `section.key`.

    Raises
    ------
    UsageError
        When it is not written so, or there is no such section.
    """
    section, _, key = name.partition(".")
    if not key:
        raise UsageError(f"{where} takes keys like features.layer, got {name!r}.")
    if section not in SECTIONS:
        raise UsageError(f"No section {section!r} in a pipeline. {_near(section, list(SECTIONS))}")
    return section


def parse_value(text: str, where: str) -> Any:
    """A value written as in a pipeline file.

    Raises
    ------
    UsageError
        When it is no YAML; `where` says what it was given for.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{where}: {text!r} is not valid YAML. Quote it, or close it.") from error


def override(pipeline: Pipeline, section: str, values: Mapping[str, Any]) -> Pipeline:
    """The pipeline with some keys of a section replaced by values of the right type."""
    if not values:
        return pipeline
    changes: dict[str, Any] = {section: replace(getattr(pipeline, section), **with_preset(values))}
    return check_options(replace(pipeline, **changes))


def as_yaml(pipeline: Pipeline) -> str:
    """The whole pipeline as a file that gives it again."""
    import yaml

    return str(yaml.safe_dump({section: _plain(getattr(pipeline, section)) for section in SECTIONS}, sort_keys=False))


def _plain(options: Any) -> dict[str, Any]:
    content = asdict(options)
    values = {entry.name: content[entry.name] for entry in listed_options(type(options))}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _validate(content: Mapping[str, Any], where: str) -> Pipeline:
    from pydantic import ValidationError

    prepared = {section: _as_written(section, keys) for section, keys in content.items()}
    try:
        pipeline: Pipeline = _adapter().validate_python(prepared)
    except ValidationError as error:
        raise UsageError(f"{where}: " + " ".join(_explain(one) for one in error.errors())) from error
    return check_options(pipeline)


@cache
def _adapter() -> Any:
    """What validates a pipeline; it is made in some hundredths of a second, and a comparison needs it often."""
    from pydantic import TypeAdapter

    return TypeAdapter(Pipeline)


def _as_written(section: str, keys: Any) -> Any:
    """What people write: one layer without brackets, a text that YAML takes for a number, layers as a list."""
    if keys is None:
        return {}
    if not isinstance(keys, dict) or section not in SECTIONS:
        return keys
    kinds = {entry.name: str(entry.type) for entry in fields(SECTIONS[section])}
    return {key: _as_kind(kinds.get(key, ""), value) for key, value in with_preset(keys).items()}


def _as_kind(kind: str, value: Any) -> Any:
    if kind.startswith("tuple[str"):
        items = value if isinstance(value, list) else [value]
        return None if value is None else [_as_text(item) for item in items]
    if kind.startswith("tuple") and _is_number(value):
        return [value]
    if not kind.startswith("str"):
        return value
    if isinstance(value, list) and all(map(_is_number, value)):
        return ",".join(map(str, value))
    return _as_text(value)


def _as_text(value: Any) -> Any:
    """`unfreeze: 10` and `classes: [0, 1]` are text; true and false stay what they are, and are refused."""
    return str(value) if _is_number(value) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _explain(error: Any) -> str:
    *parents, key = [str(part) for part in error["loc"]] or [""]
    name = ".".join([*parents, key])
    if error["type"] != "unexpected_keyword_argument" and "extra" not in error["type"]:
        return f"{name}: {error['msg']}, got {error['input']!r}."
    if not parents:
        return f"unknown section {key!r}. {_near(key, list(SECTIONS))}"
    known = [entry.name for entry in fields(SECTIONS[parents[0]])] if parents[0] in SECTIONS else []
    return f"unknown key {name!r}. {_near(key, known)}"


def _near(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(known)}."
