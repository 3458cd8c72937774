"""The bundles of a run: adding, listing, the best one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from featx.bundle.bundle import Bundle, save_bundle
from featx.bundle.manifest import Manifest
from featx.bundle.sealing import MANIFEST, read_manifest
from featx.errors import BundleError
from featx.io.urls import is_url, plain
from featx.metrics.table import signed_score


def add_bundle(run: Path, clf: str, manifest: Manifest, sources: Mapping[str, Path]) -> Bundle:
    """Save a bundle under the next free number of a run; another process may take that number first."""
    while True:
        directory = new_directory(run, clf)
        try:
            return save_bundle(directory, manifest, sources)
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


def list_bundles(run: Path) -> list[Bundle]:
    """The bundles of a run, the oldest first; their files are not verified. Unreadable ones are left out."""
    found = []
    for path in run.glob(f"*-*/{MANIFEST}"):
        if not _number(path.parent):  # such as what a killed run has left under its temporary name
            continue
        try:
            found.append(Bundle(path.parent, read_manifest(path.parent)))
        except BundleError:
            continue
    return sorted(found, key=lambda bundle: _number(bundle.path))


def best_bundle(run: Path, is_wanted: Callable[[Bundle], bool] = lambda _: True) -> Path:
    """The bundle of a run with the best validation score, among those with the newest one's split and metric.

    is_wanted : whether a bundle is chosen from

    Of equal scores the older one is taken: a fine-tuned network has to be better than its head, not as good.
    """
    found = [bundle for bundle in list_bundles(run) if is_wanted(bundle)]
    if not found:
        raise BundleError(f"There is no bundle in {run} yet. Make one: featx fit-head")
    newest = found[-1].manifest
    rivals = [
        (signed_score(newest.score.metric, one.manifest.score.value), one.path)
        for one in found
        if one.manifest.split.digest == newest.split.digest
        and one.manifest.score.metric == newest.score.metric
        and one.manifest.score.value is not None
    ]
    return max(rivals, key=lambda rival: rival[0], default=(0.0, found[-1].path))[1]


def find_bundle(where: str | None, runs: Path, name: str) -> Path:
    """The bundle that a command means: a bundle, a run (its best), or by default the best of `runs/name`."""
    if where is not None:
        if is_url(where):
            raise BundleError(f"A model is read from this machine, got {plain(where)}. Copy it here first.")
        path = Path(where)
        if not path.exists():
            raise BundleError(f"There is no bundle at {path}. {_choices(runs)}")
        path = path.parent if path.name == MANIFEST else path
        return path if path.is_file() or (path / MANIFEST).exists() else best_bundle(path)
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
