"""The one way of options into a pipeline, from a file, the command line, `--set`, Python or a comparison.

Each gives keys `section.key` with the values as they were written, and says where that was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from featx.config.checks import check_options
from featx.config.option import Keys, types_of
from featx.config.sections import Pipeline
from featx.config.table import SECTIONS
from featx.config.training import with_preset
from featx.config.values import read_value
from featx.errors import UsageError
from featx.io.suggest import did_you_mean

_ALSO = {"data.scale": "features.levels"}  # where what is said of files is looked for as well


def set_keys(pipeline: Pipeline, keys: Keys, where: str = "") -> Pipeline:
    """The pipeline with keys on top, checked.

    Parameters
    ----------
    keys : `section.key` -> its value as written
    where : where they were given, for the message; empty: it says itself

    Raises
    ------
    UsageError
        Every key that there is not (with the near one) and every value of the wrong type or out of bounds, in one
        message; options that contradict each other.
    """
    if not keys:
        return pipeline
    mistakes: list[str] = []
    found: dict[str, dict[str, object]] = {}
    given = {_ALSO.get(name, name): value for name, value in keys.items()}
    for name, written in _with_presets(given, where).items():
        section, _, key = name.partition(".")
        try:
            found.setdefault(section, {})[key] = read_value(name, _type_of(section, key), written)
        except UsageError as error:
            mistakes.append(str(error))
    if mistakes:
        raise UsageError(f"{where and where + ': '}{' '.join(mistakes)}")
    changed = {section: replace(getattr(pipeline, section), **values) for section, values in found.items()}
    return check_options(replace(pipeline, **changed))


def keys_of_settings(settings: Iterable[str]) -> Keys:
    """Keys and values of `section.key=value`, as `--set` takes them; values are read as YAML."""
    found: dict[str, object] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        name = name.strip()
        if not equals or not name.partition(".")[2]:
            raise UsageError(f"--set takes section.key=value, got {setting!r}. Example: --set features.layer=mixed7")
        section_of(name, "--set")
        found[name] = parse_value(value, f"--set {name}")
    return found


def keys_of_options(sections: Sequence[str], options: Keys, where: str) -> Keys:
    """Keys of options that are named without their section, as keywords in Python are.

    where : who was given them, for the message

    Raises
    ------
    UsageError
        An option that these sections do not have, with the near one.
    """
    known = option_names(sections)
    for name in options:
        if name not in known:
            raise UsageError(f"{where} has no option {name!r}.{_near(name, known)}")
    return {f"{known[name]}.{name}": value for name, value in options.items()}


def option_names(sections: Sequence[str]) -> dict[str, str]:
    """Option -> its section, of all that these sections have; the data's path is an argument of its own."""
    names = {name: section for section in sections for name in types_of(SECTIONS[section])}
    return {name: section for name, section in names.items() if (section, name) != ("data", "path")}


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
        raise UsageError(f"No section {section!r} in a pipeline.{_near(section, SECTIONS)}")
    return section


def parse_value(text: str, where: str) -> object:
    """A value written as in a pipeline file.

    Raises
    ------
    UsageError
        When it is not YAML; `where` says what it was given for.
    """
    import yaml

    try:
        value: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{where}: {text!r} is not valid YAML. Quote it, or close it.") from error
    return value


def _with_presets(keys: Keys, where: str) -> Keys:
    """The keys, with what a preset among them stands for where they do not say otherwise."""
    by_section: dict[str, dict[str, object]] = {}
    for name, value in keys.items():
        by_section.setdefault(section_of(name, where), {})[name.partition(".")[2]] = value
    return {
        f"{section}.{key}": value
        for section, values in by_section.items()
        for key, value in with_preset(values).items()
    }


def _type_of(section: str, key: str) -> object:
    """The type of an option.

    Raises
    ------
    UsageError
        When the section has no such option, with the near one.
    """
    known = types_of(SECTIONS[section])
    if key not in known:
        raise UsageError(f"unknown key {f'{section}.{key}'!r}.{_near(key, known)}")
    return known[key]


def _near(word: str, known: Iterable[str]) -> str:
    names = list(known)
    return did_you_mean(word, names, f"There are: {', '.join(names)}.")
