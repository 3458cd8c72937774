"""featx backbones, layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from featx.cli.arguments import Command
from featx.cli.render import JSON_OPTION, emit, table
from featx.cli.values import number
from featx.config.bounds import Count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featx.backbones import BackboneSpec, LayerInfo
    from featx.backbones.catalog import ListedNetwork
    from featx.io.jsontypes import Json

_REARRANGING = frozenset({"ZeroPadding2D", "Dropout", "Reshape", "InputLayer"})


@click.command()
@JSON_OPTION
def backbones(as_json: bool) -> None:
    """List backbones: size, features, licence, and published accuracies of frozen features.

    The networks of keras.applications and EfficientNetLite0 first, then those of KerasHub that are best known
    (featx[hub]), and those of plug-ins. Graph files and folders of Hugging Face work too.
    """
    from featx.backbones import BACKBONES
    from featx.backbones.catalog import HUB_NETWORKS, list_networks
    from featx.io.plugins import find_plugins

    listed = list_networks()
    rows = [
        one.as_json()
        | {
            "layer": BACKBONES[one.name].layer,
            "preprocessing": BACKBONES[one.name].preprocessing,
            "weights": "bundled" if BACKBONES[one.name].bundled else "imagenet",
        }
        for one in listed
    ]
    hub = [one.as_json() for one in HUB_NETWORKS]
    plugged = find_plugins("featx.backbones").values()
    named: list[Json] = [{"name": one.name, "package": one.package, "version": one.version} for one in plugged]
    text = _backbones_text(listed, HUB_NETWORKS)
    if plugged:
        text += "\n\nPlug-ins:\n" + table(["backbone", "package"], [(one.name, one.title) for one in plugged])
    emit(as_json, {"backbones": rows, "hub": hub, "plugins": named}, text)


def _backbones_text(own: Sequence[ListedNetwork], hub: Sequence[ListedNetwork]) -> str:
    """Two tables, no wider than 80 columns."""
    head = ["backbone", "millions", "features", "licence"]
    sources = sorted({one.source for one in hub if one.source})
    return "\n".join(
        [
            table([*head, "size"], [(*_row(one), one.input_size) for one in own]),
            "",
            "KerasHub (pip install 'featx[hub]'):",
            table(
                [*head, "linear", "kNN"],
                [(*_row(one, one.license_source), _percent(one.linear), _percent(one.neighbours)) for one in hub],
            ),
            "",
            "millions: parameters without the top; size: side of the images (KerasHub: 224).",
            "linear, kNN: accuracy on ImageNet of classifiers on frozen features, in per",
            f"cent, as published ({'; '.join(sources)}).",
            "A licence with ? is that of the code: none was found for the weights.",
            "Weights of DINOv3 come under a licence of its own, to be passed on with them.",
        ]
    )


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def _row(one: ListedNetwork, confirmed: str | None = "") -> tuple[str, str, int, str]:
    mark = " ?" if confirmed is None else ""
    return one.name, f"{one.parameters / 1e6:.1f}", one.features, one.license + mark


def _layer_options(command: Command) -> Command:
    command = click.option("--input-size", type=number(Count), help="Side in pixels of the square the network sees.")(
        command
    )
    command = click.option(
        "--import",
        "imports",
        metavar="MODULE",
        multiple=True,
        help="A Python module that defines custom layers of a .keras file. Its code is executed.",
    )(command)
    return click.option("--all", "everything", is_flag=True, help="List layers that only rearrange or pad as well.")(
        command
    )


@click.command()
@click.argument("backbone")
@_layer_options
@JSON_OPTION
def layers(backbone: str, input_size: int | None, imports: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """List the layers of a backbone: shape, parameters, share of the multiply-adds up to there.

    A clean cut is a layer through which everything passes, so the layers above it can be trained alone. A block can be
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
