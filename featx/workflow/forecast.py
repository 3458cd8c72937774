"""What a command would do, how long that takes as far as is known, and how much disk: its dry run.

Nothing is computed but digests of the images. Seconds and bytes are those of what was made before with the same network
or the same kind of head: where there is none, they are not known.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

from featx.bundle.bundle import Bundle
from featx.bundle.manifest import Manifest
from featx.config import Pipeline
from featx.dataset import read_data
from featx.extraction.sample import require_fittable
from featx.io.context import Context
from featx.io.counting import counted
from featx.io.jsontypes import Json
from featx.runs.choosing import find_bundle
from featx.runs.run import Run
from featx.store.cache import Cache
from featx.workflow.prepare import plan_all, widen_features


@dataclass(frozen=True)
class PlannedStep:
    """One piece of work.

    what : in words; seconds, bytes : that it takes, and that it adds to the disk; None: not known before a first one
    """

    stage: str
    what: str
    seconds: float | None
    bytes: int | None


@dataclass(frozen=True)
class DryRun:
    """The steps of a command, where results go, and the free space of the disk in bytes."""

    steps: tuple[PlannedStep, ...]
    folder: str
    free_bytes: int

    @property
    def seconds(self) -> float | None:
        """The sum over all steps; None where that of any is not known."""
        return _total([step.seconds for step in self.steps])

    @property
    def bytes(self) -> int | None:
        """The sum over all steps; None where that of any is not known."""
        found = _total([step.bytes for step in self.steps])
        return None if found is None else int(found)

    def as_json(self) -> dict[str, Json]:
        """What `--dry-run --json` prints."""
        steps: list[Json] = [asdict(step) for step in self.steps]
        total = {"seconds": self.seconds, "bytes": self.bytes}
        return {"steps": steps, **total, "free_bytes": self.free_bytes, "folder": self.folder}


def _total(values: Iterable[float | None]) -> float | None:
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if len(known) == len(found) else None


def forecast_head(pipeline: Pipeline, cache: Cache, context: Context) -> DryRun:
    """What `featx fit-head` would do.

    Raises
    ------
    DataError
        Images on which no head can be fitted.
    """
    run, count = _open_run(pipeline, cache)
    plan = plan_all(replace(pipeline, features=widen_features(pipeline, cache)), cache, context)
    steps = (*extraction_steps(plan), head_step(pipeline, run, count))
    return DryRun(steps, str(run.path), free_bytes(cache.path))


def forecast_finetune(pipeline: Pipeline, origin: str | None, cache: Cache, context: Context) -> DryRun:
    """What `featx finetune` would do.

    origin : the bundle that it starts from, as it was named

    Raises
    ------
    BundleError
        There is no bundle to start from.
    """
    run, count = _open_run(pipeline, cache)
    start = find_bundle(origin, run.path.parent, run.name, only=True)
    plan = plan_all(replace(pipeline, augment=replace(pipeline.augment, views=0)), cache, context)
    tune = tuning_step(pipeline, run, count)
    step = replace(tune, what=f"{tune.what}, from {start}")
    return DryRun((*extraction_steps(plan), step), str(run.path), free_bytes(cache.path))


def _open_run(pipeline: Pipeline, cache: Cache) -> tuple[Run, int]:
    """The run that results go to, and the number of images."""
    images = read_data(pipeline)
    require_fittable(images)
    run = Run.of(pipeline, images)
    run.data.meet(images, cache.index, pipeline)
    return run, len(images)


def extraction_steps(plan: Mapping[str, Json], label: str = "") -> list[PlannedStep]:
    """The steps of an extraction, by what `plan_all` says of it. label : what is put before the reason"""
    plans = [plan, cast("Mapping[str, Json]", plan["views"])] if "views" in plan else [plan]
    return [
        PlannedStep(
            "extract",
            f"{label}{one['reason']}",
            cast("float | None", one["seconds"]),
            cast("int | None", one["bytes"]),
        )
        for one in plans
    ]


def head_step(pipeline: Pipeline, run: Run, count: int) -> PlannedStep:
    """Fitting a head on so many images, as long as the run's last one of this kind took, image by image."""
    clf = pipeline.head.clf

    def is_like(manifest: Manifest) -> bool:
        tried = {one.clf for some in manifest.search.values() for one in some}
        return manifest.finetune is None and (len(tried) > 1 if clf == "auto" else manifest.head.clf == clf)

    last = _last(run.bundles(), is_like)
    on = counted(count, "image")
    what = f"{clf} on {on}" if clf != "auto" else f"every kind of head on {on}, the best kept"
    return PlannedStep("fit-head", what, _seconds_like(last, count), None if last is None else _size(last.path))


def tuning_step(pipeline: Pipeline, run: Run, count: int) -> PlannedStep:
    """Fine-tuning for all epochs, each as long as one of the run's last fine-tune took, image by image."""
    options = pipeline.finetune
    last = _last(run.bundles(), lambda manifest: manifest.finetune is not None and bool(manifest.history))
    seconds = _seconds_like(last, count)
    if last is not None and seconds is not None:
        seconds *= options.epochs / len(last.manifest.history)
    above = f" above {options.from_cache}" if options.from_cache else ""
    what = (
        f"up to {counted(options.epochs, 'epoch')} on {counted(count, 'image')}, --unfreeze {options.unfreeze}{above}"
    )
    return PlannedStep("finetune", what, seconds, None if last is None else _size(last.path))


def _last(bundles: Sequence[Bundle], is_like: Callable[[Manifest], bool]) -> Bundle | None:
    found = [bundle for bundle in bundles if is_like(bundle.manifest)]
    return found[-1] if found else None


def _seconds_like(last: Bundle | None, count: int) -> float | None:
    """The seconds that a bundle took, for another number of images."""
    if last is None or last.manifest.seconds is None:
        return None
    then = last.manifest.data.images
    return last.manifest.seconds * (count / then if then else 1)


def free_bytes(folder: Path) -> int:
    """The free space of the disk that a folder is on, or will be."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(place).free


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
