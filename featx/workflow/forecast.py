"""The dry run of a command: its work, time and disk use, as far as known.

Nothing is computed but digests of the images. Seconds and bytes are those of what was made before with the same network
or the same kind of head: where there is none, they are not known.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from featx.bundle.bundle import Bundle
from featx.bundle.manifest import Manifest
from featx.config import Pipeline
from featx.dataset import read_data
from featx.extraction.planning import ExtractionPlan
from featx.extraction.sample import require_fittable
from featx.io.context import Context
from featx.io.counting import counted, total_of
from featx.io.jsontypes import Json
from featx.runs.run import Run
from featx.store.cache import Cache
from featx.workflow.gather import plan_all
from featx.workflow.prepare import widen_features
from featx.workflow.start import require_network_of, with_network_of


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
    def unknown(self) -> tuple[str, ...]:
        """The stages of steps whose time is not known."""
        return tuple(dict.fromkeys(step.stage for step in self.steps if step.seconds is None))

    @property
    def known_seconds(self) -> float:
        """The sum over the steps whose time is known."""
        return sum(step.seconds for step in self.steps if step.seconds is not None)

    @property
    def seconds(self) -> float | None:
        """The sum over all steps; None where that of any is not known."""
        return total_of(step.seconds for step in self.steps)

    @property
    def bytes(self) -> int | None:
        """The sum over all steps; None where that of any is not known."""
        found = total_of(step.bytes for step in self.steps)
        return None if found is None else int(found)

    def as_json(self) -> dict[str, Json]:
        """What `--dry-run --json` prints."""
        steps: list[Json] = [asdict(step) for step in self.steps]
        total = {"seconds": self.seconds, "bytes": self.bytes}
        return {"steps": steps, **total, "free_bytes": self.free_bytes, "folder": self.folder}


def forecast_head(pipeline: Pipeline, cache: Cache, context: Context) -> DryRun:
    """What `featx fit-head` would do.

    Raises
    ------
    DataError
        Images on which no head can be fitted.
    """
    run = _open_run(pipeline, cache)
    plan = plan_all(replace(pipeline, features=widen_features(pipeline, cache)), cache, context)
    steps = (*extraction_steps(plan), head_step(pipeline, run, plan.images.unique))
    return DryRun(steps, str(run.path), free_bytes(cache.path))


def forecast_finetune(pipeline: Pipeline, start: Bundle, cache: Cache, context: Context) -> DryRun:
    """What `featx finetune` would do from a bundle."""
    pipeline = with_network_of(start, pipeline, cache)
    require_network_of(start, pipeline, cache)
    run = _open_run(pipeline, cache)
    plan = plan_all(replace(pipeline, augment=replace(pipeline.augment, views=0)), cache, context)
    steps, layer = extraction_steps(plan), pipeline.finetune.from_cache
    if layer:
        maps = replace(pipeline.features, layer=(f"{layer}@none",), pooling=())
        steps += extraction_steps(plan_all(replace(pipeline, features=maps), cache, context))
    tune = tuning_step(pipeline, run, plan.images.unique)
    steps.append(replace(tune, what=f"{tune.what}, from {start.shown}"))
    return DryRun(tuple(steps), str(run.path), free_bytes(cache.path))


def _open_run(pipeline: Pipeline, cache: Cache) -> Run:
    """The run that results go to."""
    images = read_data(pipeline)
    require_fittable(images)
    run = Run.of(pipeline, images)
    run.data.meet(images, cache.index, pipeline)
    return run


def extraction_steps(plan: ExtractionPlan, label: str = "") -> list[PlannedStep]:
    """The steps of an extraction. label : what is put before the reason"""
    return [PlannedStep("extract", f"{label}{one.reason}", one.seconds, one.known_bytes) for one in plan.parts]


def head_step(pipeline: Pipeline, run: Run, count: int) -> PlannedStep:
    """Fitting a head on so many different images, as long as the run's last one of this kind took, image by image."""
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
    data = last.manifest.data
    then = (data.images or 0) - (data.bad or 0) - (data.duplicates or 0)
    return last.manifest.seconds * (count / then if then > 0 else 1)


def free_bytes(folder: Path) -> int:
    """The free space of the disk that a folder is on, or will be."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(place).free


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
