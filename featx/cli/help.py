"""Readable help: options by section, the most needed ones first, the rest with --help-all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from featx.io.counting import counted

_FEW = 8  # options of the sections, which are all shown
HEADINGS = {
    "": "Options",
    "data": "Data",
    "features": "Network",
    "augment": "Views",
    "head": "Head",
    "dense": "Dense head only",
    "finetune": "Fine-tuning",
    "baseline": "Baseline",
    "compare": "Comparison",
    "next": "Choosing images",
    "enough": "Learning curve",
    "drift": "Comparison with the model",
    "map": "Placing images",
    "report": "Results",
    "tracking": "Tracking",
    "general": "General",
}
_GENERAL = frozenset({"pipeline_file", "settings", "as_json", "dry_run", "help_all"})
COMMON = frozenset(
    {
        *("data.label_column", "data.split", "data.group_column"),
        *("features.backbone", "features.layer", "features.pooling", "features.input_size"),
        *("augment.views", "head.clf"),
        *("finetune.unfreeze", "finetune.learning_rate", "finetune.epochs"),
        *("baseline.net", "baseline.epochs"),
        *("compare.backbone", "compare.layer", "compare.clf", "compare.stage"),
        *("next.count", "next.doubt", "enough.more"),
        "report.name",
    }
)
"""What `--help` shows of the options of the sections; `--help-all` shows the others as well"""


class SectionedCommand(click.Command):
    """A command whose help has the options by section, and at first only those that most people need."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The parameters, with --help-all where --help leaves some out."""
        found = super().get_params(ctx)
        more = click.Option(
            ["--help-all"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_show_all,
            help="Show every option and exit.",
            hidden=not _hidden(found),
        )
        return [*found, more]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, a heading for each section."""
        params = self.get_params(ctx)
        hidden = [] if ctx.meta.get(_ALL) else _hidden(params)
        groups: dict[str, list[tuple[str, str]]] = {section: [] for section in HEADINGS}
        for one in params:
            record = None if one in hidden else one.get_help_record(ctx)
            if record is not None and isinstance(one, click.Option):
                groups[_section(one)].append(record)
        for section, records in groups.items():
            if records:
                with formatter.section(HEADINGS[section]):
                    formatter.write_dl(records)
        if hidden:
            names = dict.fromkeys(HEADINGS[_section(one)] for one in hidden)
            formatter.write_paragraph()
            formatter.write_text(f"{counted(len(hidden), 'more option')} ({', '.join(names)}):")
            formatter.write(f"  {ctx.command_path} --help-all\n")


_ALL = "featx.help_all"


def _show_all(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        ctx.meta[_ALL] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


def _hidden(params: Sequence[click.Parameter]) -> list[click.Parameter]:
    """The options that `--help` leaves out: of many, those that few people need."""
    of_sections = [one for one in params if "__" in str(one.name)]
    if len(of_sections) <= _FEW:
        return []
    return [one for one in of_sections if str(one.name).replace("__", ".", 1) not in COMMON]


def _section(parameter: click.Parameter) -> str:
    """The key of the heading of an option."""
    name: Any = parameter.name
    section, mark, key = name.partition("__")
    if not mark:
        return "general" if name in _GENERAL or "--help" in parameter.opts else ""
    if section == "head":
        from featx.config.applicable import DENSE_OPTIONS

        return "dense" if key in DENSE_OPTIONS else section
    return str(section)
