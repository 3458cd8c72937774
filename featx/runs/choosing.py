"""Which bundle a command uses: the named one, or the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.bundle.sealing import MANIFEST
from featx.errors import BundleError
from featx.io.suggest import did_you_mean
from featx.io.urls import is_url, plain
from featx.metrics.table import metric_label
from featx.runs.best import rank_shown
from featx.runs.catalogue import find_runs, newest_run
from featx.runs.run import Run

_MOST_LISTED = 8  # runs, in an error


@dataclass(frozen=True)
class ChosenBundle:
    """A bundle to work on.

    path : its folder or `.featx` file
    why : what it is where it was not named itself, like "the best of runs/flowers"; empty where it was
    """

    path: Path
    why: str = ""


def find_bundle(where: str | None, runs: Path, name: str, *, only: bool = False) -> Path:
    """The path of the bundle that `choose_bundle` chooses."""
    return choose_bundle(where, runs, name, only=only).path


def choose_bundle(where: str | None, runs: Path, name: str, *, only: bool = False) -> ChosenBundle:
    """Choose the bundle that a command means.

    Parameters
    ----------
    where : a bundle, a run's folder or its name in `runs`, or a folder of runs; None: the best of `runs/name` or, where
        that has none, of the newest run
    only : whether no other run than `runs/name` will do

    Raises
    ------
    BundleError
        There is none.
    """
    if where is not None:
        return _named(where, runs)
    own = Run(runs / name)
    if name and own.bundles():
        return _best_of(own, str(own.path))
    found = [run for run in find_runs(runs) if run.bundles()]
    newest = None if only else newest_run(found)
    if newest is None:
        raise BundleError(f"No bundle in {own.path if only else runs} yet. {_choices(found, runs)}")
    alone = "the only run" if len(found) == 1 else "the newest run"
    return _best_of(newest, alone)


def _named(where: str, runs: Path) -> ChosenBundle:
    if is_url(where):
        raise BundleError(f"A model is read from this machine, got {plain(where)}. Copy it here first.")
    for place in dict.fromkeys((Path(where), runs / where)):
        path = place.parent if place.name == MANIFEST else place
        if path.is_file() or (path / MANIFEST).exists():
            return ChosenBundle(path)
        below = find_runs(path) if path.is_dir() else []
        if any(run.path == path and run.bundles() for run in below):
            return _best_of(Run(path), str(path))
        newest = newest_run(below)
        if newest is not None:
            return _best_of(newest, f"the newest run in {path}")
    there = find_runs(runs)
    near = did_you_mean(where, [_short(run, runs) for run in there]) if there else ""
    missing = f"No bundle in {where} yet." if Path(where).exists() else f"No bundle at {where}."
    raise BundleError(f"{missing}{near} {_choices(there, runs)}")


def _best_of(run: Run, called: str) -> ChosenBundle:
    rivals = run.rivals()
    among = ""
    if len(rivals) > 1:
        among = f" (among {len(rivals):,}, by {metric_label(rivals[-1].manifest.score.metric)} on {rank_shown(rivals)})"
    return ChosenBundle(run.best().path, f"the best of {called}{among}")


def _short(run: Run, runs: Path) -> str:
    return run.path.relative_to(runs).as_posix()


def _choices(there: Sequence[Run], runs: Path) -> str:
    names = [_short(run, runs) for run in there if run.bundles()]
    if not names:
        return "Make one: featx fit-head DATA"
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    listed = ", ".join(names[:_MOST_LISTED])
    return f"{runs} has models of: {listed}{more}. Name one of these; featx models lists them."
