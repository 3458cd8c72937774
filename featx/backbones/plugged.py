"""Networks of plug-ins: functions of installed packages that return a Keras network or the path of a network file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from featx.backbones.keras_files import save_network
from featx.backbones.runtime import import_keras
from featx.errors import BackboneError, ModuleError
from featx.io.digests import digest_json
from featx.io.files import atomic_directory
from featx.io.modules import module_digests
from featx.io.plugins import PlugIn, find_plugins
from featx.io.shown import error_line


@dataclass(frozen=True)
class Plugged:
    """The network of a plug-in as a file.

    imports : modules that define its layers
    """

    path: Path
    imports: tuple[str, ...]
    plugin: PlugIn


def find_network(name: str, cache: Path) -> Plugged | None:
    """The network of the plug-in of this name; None where there is none.

    A network that the function builds is saved in the cache, once for each version and code of the package.

    Raises
    ------
    BackboneError
        The function fails, or gives neither a network nor a file.
    ModuleError
        Its module cannot be imported.
    """
    plugin = find_plugins("featx.backbones").get(name)
    if plugin is None:
        return None
    try:
        code = digest_json([plugin.value, plugin.title, module_digests((plugin.root,))])
    except ModuleError:
        plugin.load()  # says what is wrong with the package
        raise
    saved = (cache / "plugins" / f"{name}-{code[:8]}" / f"{name}.keras").expanduser().resolve()
    if not saved.is_file():
        made = _make(plugin)
        if isinstance(made, str | os.PathLike):
            path = _existing(plugin, Path(made))
            return Plugged(path, (plugin.module,) if path.suffix == ".keras" else (), plugin)
        with atomic_directory(saved.parent, replace=True) as folder:
            _save(plugin, made, folder / saved.name)
    return Plugged(saved, (plugin.module,), plugin)


def _make(plugin: PlugIn) -> object:
    function = plugin.load()
    if not callable(function):
        raise BackboneError(
            f"The plug-in {plugin.name} of {plugin.title} is not a function ({plugin.value}) that gives a Keras "
            "network, or the path of a network file."
        )
    try:
        made: object = function()
    except Exception as error:  # whatever the code of somebody else raises
        line = error_line(error)
        raise BackboneError(
            f"The plug-in {plugin.name} of {plugin.title} fails: {type(error).__name__}: {line}. Fix the package, or "
            f"uninstall it: pip uninstall {plugin.package}"
        ) from error
    return made


def _existing(plugin: PlugIn, path: Path) -> Path:
    if not path.exists():
        raise BackboneError(f"The plug-in {plugin.name} of {plugin.title} names a file that does not exist: {path}.")
    return path.resolve()


def _save(plugin: PlugIn, made: object, path: Path) -> None:
    if not isinstance(made, import_keras().Model):
        raise BackboneError(
            f"The plug-in {plugin.name} of {plugin.title} gives a {type(made).__name__}, neither a Keras network "
            "nor the path of a network file."
        )
    save_network(made, path)
