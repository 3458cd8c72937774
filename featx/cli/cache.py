"""featx cache ls, verify, prune. `export` has its own module: it alone needs pipeline options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.bundles import IMPORT_OPTION
from featx.cli.lazy import LazyGroup
from featx.cli.render import JSON_OPTION, Bars, emit, say, table
from featx.errors import StoreError
from featx.io.counting import counted

if TYPE_CHECKING:
    from featx.io.jsontypes import Json

_CACHE = click.option("--cache", default="cache", show_default=True, type=click.Path(path_type=Path), help="The cache.")


@click.command()
@_CACHE
@JSON_OPTION
def ls(cache: Path, as_json: bool) -> None:
    """List what is cached."""
    from featx.store.cache import Cache
    from featx.store.export import describe

    found = [describe(store) for store in Cache(cache).stores()]
    rows = [
        (
            Path(one["store"]).name,
            _titled(name, one["key"]["views"]),
            layer["rows"],
            layer["parts"],
            f"{layer['bytes'] / 1e6:,.1f} MB",
        )
        for one in found
        for name, layer in one["layers"].items()
    ]
    text = table(["store", "features", "rows", "parts", "size"], rows) if rows else f"Nothing is cached in {cache}."
    emit(as_json, {"cache": str(cache), "stores": found}, text)


def _titled(name: str, views: str) -> str:
    from featx.store.key import NO_VIEWS

    return name if views == NO_VIEWS else f"{name}, views"


@click.command()
@_CACHE
@click.option("--repair", is_flag=True, help="Set damaged rows aside and compute them again.")
@IMPORT_OPTION
@JSON_OPTION
def verify(cache: Path, repair: bool, as_json: bool) -> None:
    """Read every row and every network and compare checksums. The exit status is 1 when damage is left unrepaired."""
    from dataclasses import asdict
    from itertools import chain

    from featx.extraction.repair import repair_store
    from featx.store.cache import Cache
    from featx.store.damage import Damage
    from featx.store.part import SUFFIX

    parts, networks, damaged, unrepaired = 0, 0, [], 0
    with Cache(cache) as opened, Bars() as bars:
        stores, unread = opened.stores(), opened.unread_stores()
        damaged += [asdict(Damage(str(path), [], [], reason)) for path, reason in unread.items()]
        total = sum(len(list(store.directory.glob(f"*@*/*{SUFFIX}"))) for store in stores)
        for store in stores:
            found = []
            for path, damage in chain(store.verify(), store.verify_networks()):
                is_part = path.suffix == SUFFIX
                parts, networks = parts + is_part, networks + (not is_part)
                bars("verify", min(parts, total), total)
                if damage is not None:
                    found.append(damage)
                    say(
                        f"{path}: {damage.reason}" + (f" for {counted(len(damage.rows), 'row')}" if damage.rows else "")
                    )
            damaged += [asdict(one) for one in found]
            if repair and found:
                computed, lost = repair_store(store, found, opened, bars)
                say(f"{store.directory}: {counted(computed, 'row')} computed again, {lost} without their image")
            elif found:
                unrepaired += len(found)
    repaired = repair and len(damaged) > len(unread)
    text = f"{counted(parts, 'part')} and {counted(networks, 'network')}, {len(damaged)} damaged" + (
        f" and{f' {len(damaged) - len(unread)}' if unread else ''} repaired" if repaired else ""
    )
    content: dict[str, Json] = {"parts": parts, "networks": networks, "damaged": damaged, "repaired": repair}
    place = "" if cache == Path("cache") else f" --cache {cache}"
    advice = [f"Repair with: featx cache verify --repair{place}"] if unrepaired else []
    advice += (
        ["A folder whose key.json is damaged can only be moved away: its features are computed anew."] if unread else []
    )
    sentence = f"Damaged: {counted(unrepaired + len(unread), 'file')}. {' '.join(advice)}"
    emit(as_json, content, text, StoreError(sentence) if advice else None)


@click.command()
@_CACHE
@click.option(
    "--compression",
    type=click.Choice(["none", "zstd"]),
    default="none",
    show_default=True,
    help="Compression of the merged parts; zstd needs hdf5plugin to read.",
)
@JSON_OPTION
def prune(cache: Path, compression: str, as_json: bool) -> None:
    """Merge small parts, and drop duplicate rows and leftovers of killed runs."""
    from featx.store.cache import Cache

    pruned, before, after = Cache(cache), 0, 0
    for store in pruned.stores():
        old, new = store.prune(compression)
        before, after = before + old, after + new
    freed = pruned.remove_stale()
    emit(
        as_json,
        {"parts_before": before, "parts_after": after, "temporary_bytes": freed},
        f"{counted(before, 'part')} -> {after:,}; {freed / 1e6:,.1f} MB of temporary files removed",
    )


@click.group(
    cls=LazyGroup,
    homes={
        "ls": ("cache", "List what is cached."),
        "verify": ("cache", "Read every row and compare its checksum."),
        "export": ("cache_export", "Write features and labels as one file for other tools: HDF5, NPZ, CSV, Parquet."),
        "prune": ("cache", "Merge small parts and drop duplicate rows."),
    },
)
def cache() -> None:
    """List, verify, export and prune cached features."""
