"""An option that takes one value and is given two: click takes the last one without a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from featx.cli.values import Commas


class CheckedGroup(click.Group):
    """A group whose commands refuse an option that takes one value and is given two that differ."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, and look at what it is given."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not ctx.resilient_parsing:
            _require_one_value(command, command.context_class(command, parent=ctx, info_name=name), rest)
        return name, command, rest


def _require_one_value(command: click.Command, ctx: click.Context, args: Sequence[str]) -> None:
    parser = command.make_parser(ctx)
    single = [one for one in command.get_params(ctx) if isinstance(one, click.Option) and _takes_one(one)]
    for one in single:
        parser.add_option(obj=one, opts=one.opts, dest=one.name, action="append", nargs=one.nargs)
    try:
        given, _, order = parser.parse_args(args=list(args))
    except click.UsageError:  # the command itself will say so
        return
    if any(one.is_eager for one in order):  # help
        return
    for one in single:
        values = list(dict.fromkeys(given.get(one.name, ())))
        if len(values) > 1:
            raise click.UsageError(_describe(one, values), ctx)


def _takes_one(option: click.Option) -> bool:
    return not (option.multiple or option.is_flag or option.count)


def _describe(option: click.Option, values: Sequence[Any]) -> str:
    flag = max(option.opts, key=len)
    given = f"{flag} is given {' and '.join(map(repr, values))}"
    if isinstance(option.type, Commas) and option.type.of_any_number:
        return f"{given}. Separate several values by commas: {flag} {','.join(values)}"
    return f"{given}, but takes one value. Leave out what you do not mean."
