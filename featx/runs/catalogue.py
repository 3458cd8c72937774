"""Every model in a results folder, from cheap sources: `bundle.json` and file sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from featx.bundle.manifest import Manifest
from featx.bundle.records import Interval, MetricsRecord
from featx.bundle.sealing import MANIFEST, read_manifest
from featx.config.checks import DEEPEST
from featx.errors import BundleError
from featx.io.jsontypes import Json
from featx.metrics.table import metric_form
from featx.runs.run import Run, bundle_number

_PARTS_OF_A_BUNDLE = (MANIFEST, "split.npz", "head.npz", "head.skops", "head.keras", "backbone.keras")


@dataclass(frozen=True)
class PartScore:
    """A metric on a part: its value, None where it is not defined, and its 95 % interval, None where it has none."""

    images: int
    value: float | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class ListedModel:
    """What is known of a model without loading it.

    Attributes
    ----------
    path : its bundle's folder; run : the folder that it is in
    data : the name of the images it was made of; None: not recorded
    head, backbone, layer : what predicts, on which network's features
    metric : what the best of a run is chosen by; score : its value there, on the part or folds `where`
    val, test : the metric on these parts
    created : when, in UTC; bytes : of the bundle's files
    best : whether it is the best of its run; newest : whether it is the newest of all
    """

    path: Path
    run: Path
    data: str | None
    classes: int
    head: str
    backbone: str
    layer: str
    metric: str
    score: float | None
    where: str
    val: PartScore
    test: PartScore
    created: str
    bytes: int
    best: bool = False
    newest: bool = False

    def as_json(self) -> dict[str, Json]:
        """What `featx models --json` lists."""
        return asdict(self) | {"path": str(self.path), "run": str(self.run)}


@dataclass(frozen=True)
class BrokenModel:
    """A model that cannot be read, and the sentence that says why."""

    path: Path
    reason: str

    def as_json(self) -> dict[str, Json]:
        """What `featx models --json` lists."""
        return {"path": str(self.path), "reason": self.reason}


@dataclass(frozen=True)
class Catalogue:
    """The models of a folder of results: by run, in each the oldest first; and those that are broken."""

    models: tuple[ListedModel, ...]
    broken: tuple[BrokenModel, ...]

    def __len__(self) -> int:
        return len(self.models)

    def __iter__(self) -> Iterator[ListedModel]:
        return iter(self.models)

    def as_json(self) -> dict[str, Json]:
        """What `featx models --json` prints."""
        return {
            "models": [one.as_json() for one in self.models],
            "broken": [one.as_json() for one in self.broken],
        }


def find_runs(folder: Path) -> list[Run]:
    """The runs in a folder of results, those of comparisons too, and the folder itself where it is one."""
    return [Run(found) for found in _folders_of_bundles(folder, 1 + DEEPEST)]


def list_models(folder: Path) -> Catalogue:
    """List the models of all runs in a folder of results; one that is broken does not stop the others."""
    models, broken = [], list[BrokenModel]()
    for run in find_runs(folder):
        known = list[ListedModel]()
        for path in _bundle_folders(run.path):
            try:
                known.append(_describe(path))
            except BundleError as error:
                broken.append(BrokenModel(path, str(error)))
        best = run.best().path if known else None
        models += [replace(one, best=one.path == best) for one in known]
    newest = max(models, key=_age, default=None)
    return Catalogue(tuple(replace(one, newest=one is newest) for one in models), tuple(broken))


def newest_run(runs: list[Run]) -> Run | None:
    """The run that the newest readable bundle is in; None where there is no bundle."""
    found = [((one.manifest.created, _written(one.path)), run) for run in runs for one in run.bundles()]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _age(model: ListedModel) -> tuple[str, int]:
    return model.created, _written(model.path)


def _written(bundle: Path) -> int:
    """When `bundle.json` was written, in ns: which of two bundles of one second is newer."""
    return (bundle / MANIFEST).stat().st_mtime_ns


def _folders_of_bundles(folder: Path, deep: int) -> Iterator[Path]:
    """The folders that bundles lie in; what is inside of bundles is not looked at."""
    try:
        inside = sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    except OSError:
        return
    bundles = [one for one in inside if _is_bundle_folder(one)]
    if bundles:
        yield folder
    for one in inside if deep > 1 else ():
        if one not in bundles:
            yield from _folders_of_bundles(one, deep - 1)


def _bundle_folders(run: Path) -> list[Path]:
    return sorted(filter(_is_bundle_folder, run.iterdir()), key=bundle_number)


def _is_bundle_folder(path: Path) -> bool:
    """Whether it is, or was once, a bundle of a run."""
    return bundle_number(path) > 0 and any((path / name).is_file() for name in _PARTS_OF_A_BUNDLE)


def _describe(path: Path) -> ListedModel:
    manifest = read_manifest(path)
    metric = manifest.score.metric
    val, test = (_figure(manifest.metrics_on(part), metric, manifest) for part in ("val", "test"))
    return ListedModel(
        path=path,
        run=path.parent,
        data=manifest.data.source,
        classes=len(manifest.classes),
        head=_head(manifest),
        backbone=manifest.backbone.name or "-",
        layer=", ".join(manifest.output_names),
        metric=metric,
        score=manifest.score.value,
        where=manifest.score.where,
        val=val,
        test=test,
        created=manifest.created,
        bytes=_bytes(path, manifest),
    )


def _head(manifest: Manifest) -> str:
    """What predicts, as people call it."""
    if manifest.baseline is not None:
        return f"baseline {manifest.baseline.net}"
    return f"{manifest.head.clf}, fine-tuned" if manifest.finetune is not None else manifest.head.clf


def _figure(measured: MetricsRecord, metric: str, manifest: Manifest) -> PartScore:
    form = metric_form(metric, manifest.target)
    intervals = measured.intervals or {}
    key = metric if form is None else form.key
    return PartScore(measured.images, measured.values.get(key), intervals.get(key))


def _bytes(path: Path, manifest: Manifest) -> int:
    """The size of all files that a bundle declares; none is read.

    Raises
    ------
    BundleError
        One is not there.
    """
    size = 0
    for name in (MANIFEST, *manifest.files):
        try:
            size += (path / name).stat().st_size
        except OSError as error:
            raise BundleError(f"{path} lacks {name}. Fit it again, or get the bundle again from its source.") from error
    return size
