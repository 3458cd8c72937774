"""Pipeline files: YAML with one section per stage, validated, and overridden by the command line.

Paths in a pipeline file are relative to the working directory, as they are on the command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

from featx.config.option import Keys, Section
from featx.config.route import keys_of_settings, set_keys
from featx.config.sections import Pipeline
from featx.config.table import SECTIONS, listed_options
from featx.errors import UsageError
from featx.io.commands import without_folder, without_folders
from featx.io.suggest import did_you_mean

DEFAULT = "default.yaml"
_SUFFIX = ".yaml"


def read_default() -> Pipeline:
    """`pipelines/default.yaml` of the working directory, or else the one that featx carries."""
    here = Path("pipelines") / DEFAULT
    if here.is_file():
        return read_pipeline(here)
    with as_file(_carried() / DEFAULT) as path:
        return read_pipeline(path)


def list_pipelines() -> list[str]:
    """The names by which `-p` finds files: those here, in `pipelines/`, and those that featx carries."""
    carried = [Path(one.name) for one in _carried().iterdir()]
    here = [*Path().glob(f"*{_SUFFIX}"), *Path("pipelines").glob(f"*{_SUFFIX}")]
    return sorted({path.stem for path in [*here, *carried] if path.suffix == _SUFFIX})


@contextmanager
def _find(path: Path) -> Iterator[Path]:
    """A pipeline file by its path or its name: in this folder, in `pipelines/`, or among those that featx carries.

    Raises
    ------
    UsageError
        There is none.
    """
    if path.is_file():
        yield path
        return
    if path.parent == Path() and path.suffix in {"", _SUFFIX}:
        name = f"{path.name.removesuffix(_SUFFIX)}{_SUFFIX}"
        for here in (Path(name), Path("pipelines") / name):
            if here.is_file():
                yield here
                return
        carried = _carried() / name
        if carried.is_file():
            with as_file(carried) as found:
                yield found
            return
    near = did_you_mean(path.stem, list_pipelines(), "featx init DATA writes one with comments.")
    raise UsageError(f"No pipeline file {path}.{near}")


def _carried() -> Traversable:
    """The folder of the files that featx carries."""
    folder = files("featx") / "pipelines"  # an editable install leaves it where it is, beside the package
    return folder if folder.is_dir() else files("featx") / ".." / "pipelines"


def read_pipeline(path: Path, settings: Sequence[str] = ()) -> Pipeline:
    """Read and validate a pipeline file, by its path or name; `settings` are `section.key=value`, applied on top.

    Raises
    ------
    UsageError
        A missing file, bad YAML, an unknown key (with the near one), a value of the wrong kind.
    """
    import yaml

    try:
        with _find(path) as found:
            content = _parsed(found.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold sections ({', '.join(SECTIONS)}), got {type(content).__name__}.")
    pipeline = set_keys(Pipeline(), _keys_of(content, str(path)), str(path))
    if pipeline.report.name is None:
        pipeline = replace(pipeline, report=replace(pipeline.report, name=path.stem))
    return set_keys(pipeline, keys_of_settings(settings), "--set")


def _parsed(text: str) -> object:
    """What YAML says; libyaml reads it ten times as fast, and the parser in Python has the clearer errors."""
    import yaml

    quick = getattr(yaml, "CSafeLoader", None)
    if quick is not None:
        with suppress(yaml.YAMLError):
            return yaml.load(text, quick)  # noqa: S506 - a safe loader
    return yaml.safe_load(text)


def start_pipeline(data: str | None, file: Path | None) -> Pipeline:
    """What options are applied to: a file, or the default one, or, for data alone, the built-in defaults."""
    if file is not None:
        pipeline = read_pipeline(file)
    else:
        pipeline = read_default() if data is None else Pipeline()
    return pipeline if data is None else replace(pipeline, data=replace(pipeline.data, path=data))


def as_yaml(pipeline: Pipeline) -> str:
    """The whole pipeline as a file that gives it again."""
    return _dump({section: _plain(getattr(pipeline, section)) for section in SECTIONS})


def key_as_yaml(name: str, value: object) -> str:
    """A key with its value in one line of YAML, a list in brackets."""
    import yaml

    plain = _as_plain(value)
    flow = None if isinstance(plain, list) else False
    return str(yaml.safe_dump({name: plain}, default_flow_style=flow, allow_unicode=True, width=1 << 20)).rstrip("\n")


def as_shown(pipeline: Pipeline) -> str:
    """The pipeline as a page shows it: as YAML, without folders in its paths unless `report.keep_paths` keeps them."""
    if pipeline.report.keep_paths:
        return as_yaml(pipeline)
    return _dump(_without_folders({section: _plain(getattr(pipeline, section)) for section in SECTIONS}))


def command_shown(pipeline: Pipeline, command: str) -> str:
    """A command as a page shows it: without folders in its paths unless `report.keep_paths` keeps them."""
    return command if pipeline.report.keep_paths else without_folders(command)


def _dump(content: object) -> str:
    import yaml

    return str(yaml.safe_dump(content, sort_keys=False))


def _without_folders(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _without_folders(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_folders(one) for one in value]
    return without_folder(value) if isinstance(value, str) else value


def _keys_of(content: Mapping[object, object], where: str) -> Keys:
    """`section.key` -> value, of the sections of a file.

    Raises
    ------
    UsageError
        A section that there is not (with the near one), or one that does not hold keys.
    """
    mistakes = [mistake for name, keys in content.items() if (mistake := _mistaken(str(name), keys))]
    if mistakes:
        raise UsageError(f"{where}: {' '.join(mistakes)}")
    return {
        f"{section}.{key}": value
        for section, keys in content.items()
        if isinstance(keys, Mapping)
        for key, value in keys.items()
    }


def _mistaken(name: str, keys: object) -> str | None:
    """What is wrong with a section of a file; None: nothing."""
    if name not in SECTIONS:
        known = f"There are: {', '.join(SECTIONS)}."
        return f"unknown section {name!r}.{did_you_mean(name, SECTIONS, known)}"
    if keys is not None and not isinstance(keys, Mapping):
        return f"{name}: Input should be a dictionary of keys, got {keys!r}."
    return None


def _plain(options: Section) -> Keys:
    """A section as YAML holds it, in the order people read it."""
    content = asdict(options)
    return {entry.name: _as_plain(content[entry.name]) for entry in listed_options(type(options))}


def _as_plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, str) else value
