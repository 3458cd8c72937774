"""Options that take one value and are given two; those that may be repeated, flags, and help stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from fitted import call

from featx.cli.app import cli
from featx.cli.repeated import CheckedGroup


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            "compare p --clf svm --clf ridge",
            "--clf is given 'svm' and 'ridge'. Separate several values by commas: --clf svm,ridge",
        ),
        (
            "fit-head p --clf svm --no-html --clf=ridge",
            "--clf is given 'svm' and 'ridge', but takes one value. Leave out what you do not mean.",
        ),
        (
            "run -p a.yaml --pipeline b.yaml",
            "--pipeline is given 'a.yaml' and 'b.yaml', but takes one value. Leave out what you do not mean.",
        ),
        (
            "cache ls --cache a --cache b",
            "--cache is given 'a' and 'b', but takes one value. Leave out what you do not mean.",
        ),
        (
            "bundle unpack x --out a --out b",
            "--out is given 'a' and 'b', but takes one value. Leave out what you do not mean.",
        ),
    ],
)
def test_two_values_of_one_option_are_one_sentence(tmp_path: Path, arguments: str, sentence: str) -> None:
    refused = call(*arguments.split(), cwd=tmp_path)
    assert refused.status == 2
    assert sentence in refused.sentence
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    ["cache ls --cache a --cache a --json --json", "fit-head --clf svm --clf ridge --help", "-v -v cache ls"],
)
def test_the_same_value_twice_flags_and_help_are_fine(tmp_path: Path, arguments: str) -> None:
    assert call(*arguments.split(), cwd=tmp_path).status == 0


def commands(group: click.Group, ctx: click.Context) -> Iterator[tuple[click.Group, click.Context, click.Command]]:
    """Every command below a group."""
    assert isinstance(group, CheckedGroup), group.name
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, click.Context(command, info_name=name, parent=ctx))
        yield group, ctx, command


def test_every_option_of_every_command_is_looked_at() -> None:
    refused = 0
    for group, ctx, command in commands(cli, click.Context(cli, info_name="featx")):
        options = [one for one in command.params if isinstance(one, click.Option)]
        flags = [one.opts[0] for one in options if one.is_flag or one.count]
        repeated = [text for one in options if one.multiple for value in "12" for text in [one.opts[0], value]]
        single = [one for one in options if one.opts[0] not in {*flags, *repeated}]
        alike = [text for one in single for text in [one.opts[0], *["1"] * one.nargs]]
        group.resolve_command(ctx, [str(command.name), *flags, *flags, *repeated, *alike, *alike])
        for one in single:
            typed = [text for value in "12" for text in [one.opts[0], *[value] * one.nargs]]
            with pytest.raises(click.UsageError, match=rf"^{max(one.opts, key=len)} is given "):
                group.resolve_command(ctx, [str(command.name), *typed])
            refused += 1
    assert refused > 500
