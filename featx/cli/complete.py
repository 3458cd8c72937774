"""Shell completion of option values, from cheap sources: names in a table, files in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from featx.errors import FeatxError

Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete_backbone(_ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the networks that featx knows, else files; after a comma, where there may be several."""
    from featx.backbones.table import BACKBONES
    from featx.io.plugins import find_plugins

    names = (*BACKBONES, *find_plugins("featx.backbones"))
    return _offer(names, incomplete, several=parameter.name == "compare__backbone")


def complete_layer(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the layers of the network that was named before, as far as they were listed once, without building it."""
    from featx.backbones import resolve
    from featx.backbones.listing import recall_layers
    from featx.config import FeaturesOptions
    from featx.store.cache import Cache

    named = ctx.params.get("features__backbone") or ctx.params.get("compare__backbone") or FeaturesOptions.backbone
    options = FeaturesOptions(backbone=named if isinstance(named, str) else named[0])
    place = Path(ctx.params.get("features__cache") or options.cache)
    more = ["blocks", "all"] if "compare__layer" in {one.name for one in ctx.command.params} else []
    known: list[str] = []
    if place.is_dir():  # a look at what is there makes nothing
        with suppress(FeatxError, OSError), Cache(place) as cache:
            known = recall_layers(resolve(options), cache.index)
    return _offer([*more, *known], incomplete, files=False)


def complete_model(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer runs and their bundles by name, else files."""
    from featx.runs.catalogue import find_runs

    runs = Path(ctx.params.get("report__runs") or "runs")
    names = []
    for run in find_runs(runs):
        name = run.path.relative_to(runs).as_posix()
        names += [name, *(f"{name}/{bundle.path.name}" for bundle in run.bundles())]
    return _offer(names, incomplete)


def complete_pipeline(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer pipeline files by name, of this folder, of its `pipelines/` and those that featx carries; else files."""
    from featx.config.pipeline import list_pipelines

    return _offer(list_pipelines(), incomplete)


def complete_kinds(_ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer kinds of head, after a comma too."""
    from featx.config.head import head_names

    return _offer(head_names(), incomplete, several=parameter.name == "compare__clf", files=False)


COMPLETIONS: dict[str, Completion] = {
    "features.backbone": complete_backbone,
    "compare.backbone": complete_backbone,
    "features.layer": complete_layer,
    "compare.layer": complete_layer,
    "head.clf": complete_kinds,
    "compare.clf": complete_kinds,
}
"""`section.key` -> what is offered for it; what has a fixed choice is completed by click"""


def _offer(names: Iterable[str], incomplete: str, *, several: bool = False, files: bool = True) -> list[CompletionItem]:
    """The names that begin so, whatever the case; where there is none, what the shell knows of files."""
    before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
    found = [f"{before}{comma}{name}" for name in names if name.lower().startswith(last.lower())]
    if not found and files:
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(name) for name in found]
