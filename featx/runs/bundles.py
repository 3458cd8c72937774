"""The bundles of a run: adding, listing, the best one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from featx.bundle.bundle import Bundle, save_bundle
from featx.bundle.sealing import ABOUT, read_about
from featx.errors import BundleError
from featx.io.urls import is_url, plain
from featx.metrics.table import signed_score


def add_bundle(run: Path, clf: str, about: dict[str, Any], sources: dict[str, Path]) -> Bundle:
    """Save a bundle under the next free number of a run; another process may take that number first."""
    while True:
        directory = new_directory(run, clf)
        try:
            return save_bundle(directory, about, sources)
        except OSError:
            if not directory.exists():
                raise


def new_directory(run: Path, clf: str) -> Path:
    """`<run>/<n>-<clf>` with the next free number."""
    return run / f"{max(map(_number, run.glob('*-*')), default=0) + 1}-{clf}"


def _number(path: Path) -> int:
    """The n of `<n>-<clf>`; 0 for a folder that is not one of a run's."""
    number = path.name.split("-")[0]
    return int(number) if number.isdecimal() else 0


def list_bundles(run: Path) -> list[dict[str, Any]]:
    """`bundle.json` of every bundle of a run, oldest first, with its `path`; unreadable ones are left out."""
    found = []
    for path in run.glob(f"*-*/{ABOUT}"):
        if not _number(path.parent):  # such as what a killed run has left under its temporary name
            continue
        try:
            found.append(read_about(path.parent) | {"path": path.parent})
        except BundleError:
            continue
    return sorted(found, key=lambda about: _number(about["path"]))


def best_bundle(run: Path, is_wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> Path:
    """The bundle of a run with the best validation score, among those with the newest one's split and metric.

    is_wanted : tells by its `bundle.json` whether a bundle is chosen from

    Of equal scores the older one is taken: a fine-tuned network has to be better than its head, not as good.
    """
    found = [about for about in list_bundles(run) if is_wanted(about)]
    if not found:
        raise BundleError(f"There is no bundle in {run} yet. Make one: featx fit-head")
    newest = found[-1]
    rivals = [about for about in found if about["split"]["digest"] == newest["split"]["digest"]]
    metric = newest["score"]["metric"]
    rivals = [about for about in rivals if about["score"]["metric"] == metric and about["score"]["value"] is not None]
    if not rivals:
        return Path(newest["path"])
    return Path(max(rivals, key=lambda about: signed_score(metric, about["score"]["value"]))["path"])


def find_bundle(where: str | None, runs: Path, name: str) -> Path:
    """The bundle that a command means: a bundle, a run (its best), or by default the best of `runs/name`."""
    if where is not None:
        if is_url(where):
            raise BundleError(f"A model is read from this machine, got {plain(where)}. Copy it here first.")
        path = Path(where)
        if not path.exists():
            raise BundleError(f"There is no bundle at {path}. {_choices(runs)}")
        path = path.parent if path.name == ABOUT else path
        return path if path.is_file() or (path / ABOUT).exists() else best_bundle(path)
    if (runs / name).is_dir() and list_bundles(runs / name):
        return best_bundle(runs / name)
    others = [path for path in sorted(runs.glob("*")) if list_bundles(path)]
    if len(others) == 1:
        return best_bundle(others[0])
    raise BundleError(f"There is no bundle in {runs / name} yet. {_choices(runs)}")


def _choices(runs: Path) -> str:
    names: Iterable[str] = [str(path) for path in sorted(runs.glob("*")) if list_bundles(path)]
    listed = ", ".join(names)
    return f"There are bundles in: {listed}. Name one of these." if listed else "Make one: featx fit-head"
