"""featx backbones, layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from featx.cli.arguments import Command
from featx.cli.render import emit, table
from featx.cli.values import number
from featx.config.bounds import Count

if TYPE_CHECKING:
    from featx.backbones import BackboneSpec, LayerInfo

_REARRANGING = frozenset({"ZeroPadding2D", "Dropout", "Reshape", "InputLayer"})
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.command()
@_JSON
def backbones(as_json: bool) -> None:
    """List every backbone with its input size, default layer and preprocessing."""
    from featx.backbones import BACKBONES

    rows = [
        {
            "name": entry.name,
            "input_size": entry.input_size,
            "layer": entry.layer,
            "preprocessing": entry.preprocessing,
            "weights": "bundled" if entry.bundled else "imagenet",
        }
        for entry in BACKBONES.values()
    ]
    text = table(
        ["backbone", "input size", "last layer", "preprocessing", "weights"], [list(row.values()) for row in rows]
    )
    emit(as_json, {"backbones": rows}, text)


def _layer_options(command: Command) -> Command:
    command = click.option("--input-size", type=number(Count), help="Side in pixels of the square the network sees.")(
        command
    )
    command = click.option(
        "--import",
        "imports",
        metavar="MODULE",
        multiple=True,
        help="A Python module that defines layers of a .keras file.",
    )(command)
    return click.option("--all", "everything", is_flag=True, help="Also layers that only rearrange or pad.")(command)


@click.command()
@click.argument("backbone")
@_layer_options
@_JSON
def layers(backbone: str, input_size: int | None, imports: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """List the layers of a backbone: shape, parameters, share of the multiply-adds up to there.

    A clean cut is a layer through which everything passes: the layers above it can be trained alone. A block can be
    named wherever a layer to unfreeze from can.
    """
    from featx.backbones import resolve
    from featx.config import FeaturesOptions

    # what a network is given does not matter to its layers, so that a graph file need not say it here
    options = FeaturesOptions(backbone=backbone, input_size=input_size, preprocessing="none", imports=imports)
    spec = resolve(options)
    found = _listing(spec)
    rows = [
        (
            one.name,
            "x".join(map(str, one.shape)),
            one.parameters,
            f"{one.share:.1%}",
            one.features.get("avg"),
            one.clean_cut,
            "(top)" if one.top else one.block,
        )
        for one in found
        if everything or one.kind not in _REARRANGING
    ]
    emit(
        as_json,
        {"backbone": spec.label, "layers": [one.as_json() for one in found]},
        table(["layer", "shape", "parameters", "share", "features", "clean cut", "block"], rows),
    )


def _listing(spec: BackboneSpec) -> list[LayerInfo]:
    """The layers; remembered in the working directory's cache where there is one: building a network takes seconds."""
    from featx.backbones import list_layers
    from featx.store.cache import Cache

    with Cache("cache") as cache:
        return list_layers(spec, cache.index if cache.path.is_dir() else None)
