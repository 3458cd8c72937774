"""featx completion."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from featx.cli.streams import print_out
from featx.errors import UsageError
from featx.io.files import write_atomic

_MARK = "# completion of featx"
_ZSH_START = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }\n"  # it needs zsh's own completion


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.option("--install", is_flag=True, help="Write the script into your home folder and let new shells load it.")
def completion(shell: str, install: bool) -> None:
    """Print the script that lets a shell complete commands, options and their values.

    Try it in this shell by: eval "$(featx completion bash)". With --install, new shells of yours have it.
    """
    script = _script(shell)
    if not install:
        print_out(script)
        return
    paths = "\n".join(map(str, _install(shell, script)))
    print_out(f"{paths}\nInstalled. It works in every {shell} that you start from now on.", for_people=True)


def _script(shell: str) -> str:
    """What click generates for this program."""
    from featx.cli.app import cli

    kind = get_completion_class(shell)
    if kind is None:  # of another version of click
        raise UsageError(f"This version of click has no completion for {shell}. Choose bash, zsh or fish.")
    source = kind(cli, {}, "featx", "_FEATX_COMPLETE").source()
    return _ZSH_START + source if shell == "zsh" else source


def _install(shell: str, script: str) -> list[Path]:
    """Write the script, and the line that loads it; return the files that were written."""
    home = Path.home()
    if shell == "fish":  # loads by itself what lies there
        config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        path = config / "fish" / "completions" / "featx.fish"
        _write(path, script)
        return [path]
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    path = data / "featx" / f"completion.{shell}"
    _write(path, script)
    start = home / ".bashrc" if shell == "bash" else Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"
    before = start.read_text(encoding="utf-8", errors="surrogateescape") if start.exists() else ""
    if str(path) in before:
        return [path]
    gap = "" if not before or before.endswith("\n") else "\n"
    with open(start, "a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"{gap}[ -r {_quoted(path)} ] && . {_quoted(path)}  {_MARK}\n")
    return [path, start]


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))


def _write(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, script if script.endswith("\n") else script + "\n")
