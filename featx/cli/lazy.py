"""Command groups whose modules are imported on use: `--help` loads click and nothing heavy."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from featx.cli.repeated import CheckedGroup
from featx.io.lazy import without_garbage_collection


class LazyGroup(CheckedGroup):
    """A group that imports a command only when it is used.

    homes : command -> (module of this package, one line for `--help`)
    meant : what people may type instead of a command -> the sentence that has the right one
    """

    def __init__(
        self, *args: Any, homes: Mapping[str, tuple[str, str]], meant: Mapping[str, str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._homes, self._meant = homes, meant or {}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names, in the order of `homes`."""
        return list(self._homes)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import it now."""
        if cmd_name not in self._homes:
            return None
        with without_garbage_collection():
            module = importlib.import_module(f"featx.cli.{self._homes[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Names and lines, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._homes.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands and their lines, without importing any of them."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        named = [(name, line) for name, (_, line) in self._homes.items() if name.startswith(incomplete)]
        return [CompletionItem(name, help=line) for name, line in named]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, and where there is none of that name, the nearest one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if args[0] in self._homes:  # the command is there, and something is wrong with its options
                raise
            from featx.io.suggest import did_you_mean

            meant = self._meant.get(args[0])
            if meant is not None:
                raise click.UsageError(f"No command {args[0]!r}. {meant}", ctx) from error
            hint = did_you_mean(args[0], self._homes, f"{ctx.command_path} --help lists them.")
            raise click.UsageError(f"No command {args[0]!r}.{hint}", ctx) from error
