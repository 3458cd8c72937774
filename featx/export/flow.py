"""Export a bundle's whole model, from images to probabilities, for runtimes without featx.

An export is a folder: the model, `classes.txt`, and `model.json`, which says what goes in and what comes out. Every
one is run in its own runtime and compared with the bundle before it is put in place; one that predicts something else
is deleted and reported.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import featx
from featx.bundle.bundle import Bundle
from featx.bundle.coverage import COVERAGE_FILE, why_approximate
from featx.bundle.manifest import Manifest
from featx.errors import ExportError, FeatxError, StoreError, UsageError
from featx.export.check import (
    Agreement,
    CheckImages,
    compare,
    judge,
    measure_speed,
    predict_in_batches,
    read_check_images,
    tolerance_of,
)
from featx.export.formats import FORMATS, PRECISIONS, Format, choose_formats
from featx.export.graph import join_graph, require_exportable
from featx.export.network import INPUT, OUTPUT, build_network, require_network
from featx.images.resize import PAD_COLOUR, ResizeRule
from featx.io.context import Notify, ignore
from featx.io.counting import counted
from featx.io.files import atomic_directory, explain_os_error, make_folder, remove_stale, write_atomic, write_json
from featx.io.jsontypes import Json
from featx.io.limits import limit_of
from featx.io.shown import error_line
from featx.io.versions import installed_versions
from featx.metrics.conformal import fewest

if TYPE_CHECKING:
    from featx.export.formats import Network

__all__ = ["FORMATS", "PRECISIONS", "ExportOptions", "Exported", "FormatResult", "export"]

ABOUT, CLASSES = "model.json", "classes.txt"
SCHEMA = 1
_COVERAGES = (0.8, 0.9, 0.95, 0.99)
_LEAST_FREE = 1 << 20  # bytes; with less, what a converter could not write is put down to the disk


@dataclass(frozen=True)
class ExportOptions:
    """What is written, and how.

    formats : each once; precision : of the weights, of int8 of the arithmetic too
    data : a file or folder of images to check on, and to measure the ranges of int8 by; None takes a few images that
        come with the packages
    force : replace an export that is there already
    """

    formats: Sequence[str]
    precision: str = "float32"
    data: str | None = None
    force: bool = False


@dataclass(frozen=True)
class FormatResult:
    """What became of one format.

    path : its folder; None where it was refused, for `reason`
    bytes : of the model's files; comparison : with the bundle; images_per_second : by batch size
    """

    format: str
    precision: str
    path: str | None = None
    bytes: int | None = None
    comparison: Agreement | None = None
    images_per_second: dict[str, float] | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Exported:
    """The results in the order asked for, the images they were checked on, and the speed of the bundle itself."""

    results: tuple[FormatResult, ...]
    images: CheckImages
    engine: str
    images_per_second: dict[str, float]

    @property
    def refused(self) -> list[FormatResult]:
        """Those that were not put in place."""
        return [one for one in self.results if one.reason is not None]

    @property
    def failure(self) -> ExportError | None:
        """What to raise where formats were refused, with the reason of each; None: nothing."""
        asked = [one.format for one in self.results]
        return ExportError(" ".join(_complain(one, asked) for one in self.refused)) if self.refused else None

    def as_json(self) -> dict[str, Json]:
        """What `featx export --json` prints behind the name of the bundle."""
        return {
            "own": {"engine": self.engine, "images_per_second": self.images_per_second},
            "images": len(self.images.images),
            "source": self.images.source,
            "bad": [asdict(one) for one in self.images.unread],
            "exports": [asdict(one) for one in self.results],
        }


def _complain(outcome: FormatResult, asked: Sequence[str]) -> str:
    others = [f"--format {name}" for name in FORMATS if name not in asked]
    tries = [*(["--precision float32"] if outcome.precision != "float32" else []), *others]
    advice = f" Try {' or '.join(tries)}." if tries else ""
    return f"{outcome.format} {outcome.precision} was not kept: {outcome.reason}.{advice}"


class _Refused(Exception):  # noqa: N818 - not an error but a result
    """An export that is not put in place, and why."""

    def __init__(self, reason: str, comparison: Agreement | None = None) -> None:
        super().__init__(reason)
        self.reason, self.comparison = reason, comparison


def export(bundle: Bundle, out: Path, options: ExportOptions, notify: Notify = ignore) -> Exported:
    """Write a bundle's model in each format as the folder `out/<format>-<precision>`, whole and checked or not at all.

    Raises
    ------
    UsageError
        An unknown format, or a precision that it does not have; int8 without `data`.
    ExportError
        A head that is not a network, a graph file in another format than OpenVINO's, missing packages, or a folder that
        is there already.
    StoreError
        The disk is full.
    """
    precision = options.precision
    rows = choose_formats(options.formats, precision)
    require_network(bundle)
    if not bundle.trainable:
        require_exportable(bundle, [row.name for row in rows])
    if precision == "int8" and options.data is None:
        raise UsageError("int8 is calibrated on images like those it will see: add --data FOLDER.")
    targets = [out / f"{row.name}-{precision}" for row in rows]
    for target in targets:
        _require_free(target, options.force)
    images = read_check_images(bundle, options.data, precision)
    remove_stale(out, deep=False)
    notify(f"Checking on {counted(len(images.images), 'image')}: {images.source}")
    own = bundle.probabilities(bundle.features(images.images))
    network = build_network(bundle) if bundle.trainable else join_graph(bundle)
    writer = _FormatWriter(bundle, network, precision, images, own)
    results: dict[str, FormatResult] = {}
    for row, target in sorted(zip(rows, targets, strict=True), key=lambda pair: bool(pair[0].source)):
        notify(f"Writing {row.name}")
        source = results.get(row.source)
        results[row.name] = writer.put_in_place(row, target, source, replace=options.force)
    speed = measure_speed(lambda some: bundle.probabilities(bundle.features(some)), images.images)
    return Exported(tuple(results[row.name] for row in rows), images, bundle.engine.name, speed)


def _require_free(target: Path, force: bool) -> None:
    if not target.exists():
        return
    if not force:
        raise ExportError(f"{target} exists already. Replace it with --force, or name another folder with --out.")
    if not (target / ABOUT).is_file():
        raise ExportError(f"{target} is not an export of featx, and is not replaced. Name another folder with --out.")


@dataclass(frozen=True)
class _FormatWriter:
    """What all formats have in common."""

    bundle: Bundle
    network: Network
    precision: str
    images: CheckImages
    own: np.ndarray

    @property
    def _quantised(self) -> bool:
        """Whether the bundle predicts in int8, which the Keras network in it does not: OpenVINO's format alone does."""
        return self.bundle.engine.precision == "int8"

    def put_in_place(self, row: Format, target: Path, source: FormatResult | None, *, replace: bool) -> FormatResult:
        """Write, check and publish one format, which is made of `source` where that was exported before."""
        try:
            with atomic_directory(target, replace=replace) as folder:
                comparison, speed = self._write_checked(row, folder, source)
                size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                about = describe(self.bundle, row, self.precision, self.images, comparison)
                write_json(folder / ABOUT, about)
                write_atomic(folder / CLASSES, "".join(f"{name}\n" for name in self.bundle.classes))
                _copy_licenses(self.bundle, folder)
        except _Refused as refused:
            return FormatResult(row.name, self.precision, comparison=refused.comparison, reason=refused.reason)
        return FormatResult(row.name, self.precision, str(target), size, comparison, speed)

    def _write_checked(
        self, row: Format, folder: Path, source: FormatResult | None
    ) -> tuple[Agreement, dict[str, float]]:
        path = folder / row.file
        try:
            row.convert(self._given(row, source), path, self.precision, self.images.measured)
            run = row.load(path)
            found = predict_in_batches(run, self.images.images)
        except Exception as error:  # the converters raise whatever they like
            raise _explain(error, folder) from error
        tolerance = tolerance_of(self.bundle, self.precision)
        thresholds = self.bundle.thresholds if self.bundle.multilabel else None
        comparison = compare(self.own, found, tolerance, thresholds, self.bundle.calibration.emphasis)
        rounded = "int8" if self._quantised and row.name != "openvino" else self.precision
        reason = judge(comparison, rounded, tolerance, self.bundle.calibration.kind == "isotonic")
        if reason is not None:
            raise _Refused(reason, comparison)
        return comparison, measure_speed(run, self.images.images)

    def _given(self, row: Format, source: FormatResult | None) -> Network | Path:
        """What a format is made of."""
        if source is not None and source.path is not None:
            return Path(source.path) / FORMATS[source.format].file
        return join_graph(self.bundle) if self._quantised and row.name == "openvino" else self.network


def _copy_licenses(bundle: Bundle, folder: Path) -> None:
    """The texts of the licence of the weights, which are in the exported model too."""
    for name in bundle.manifest.licenses:
        make_folder((folder / name).parent)
        shutil.copyfile(bundle.path / name, folder / name)


_LIMITED = "a file in it cannot be written to its end"


def _describe_coverage(bundle: Bundle) -> dict[str, Json] | None:
    """Share of images -> least probability of the classes in a set that holds the truth in it; None without sets."""
    if COVERAGE_FILE not in bundle.manifest.files:
        return None
    shares = [share for share in _COVERAGES if len(bundle.coverage) >= fewest(share)]
    limits = {share: float(bundle.coverage.rule(share, per_class=False).limit[0]) for share in shares}
    return {str(share): max(0.0, 1 - limit) for share, limit in limits.items()}


def _explain(error: Exception, folder: Path) -> Exception:
    """A full disk and a limit of memory as such, whatever the converter made of it; anything else as a refusal."""
    if limit_of(error) is not None:
        return error
    if isinstance(error, OSError) and isinstance(explained := explain_os_error(error, folder), FeatxError):
        return explained
    if shutil.disk_usage(folder).free < _LEAST_FREE:
        return StoreError(f"No space left on the disk that holds {folder.parent}. Free some, and export again.")
    if "iostream error" in str(error):  # C++'s words for a file that cannot be written to its end
        return StoreError(f"Cannot write {folder.parent}: {_LIMITED}. Check the disk and its limits, then run again.")
    return _Refused(f"it cannot be written or run ({type(error).__name__}: {error_line(error, 300)})")


def describe(
    bundle: Bundle, row: Format, precision: str, images: CheckImages, comparison: Agreement
) -> dict[str, Json]:
    """What `model.json` says: all that is needed to use the model without featx."""
    several, emphasis = bundle.multilabel, bundle.calibration.emphasis
    thresholds = dict(zip(bundle.classes, bundle.thresholds.tolist(), strict=True)) if several else None
    return {
        "schema": SCHEMA,
        "format": row.name,
        "precision": precision,
        "file": row.file,
        "classes": list(bundle.classes),
        "multilabel": several,
        "thresholds": thresholds,
        "emphasis": None if emphasis is None else dict(zip(bundle.classes, emphasis.tolist(), strict=True)),
        "input": {
            "name": INPUT,
            "dtype": row.dtype,
            "shape": [None, *bundle.input_size, 3],
            "axes": ["images", "height", "width", "channels"],
            "channels": "RGB",
        },
        "resize": _describe_resize(ResizeRule.parse(bundle.manifest.backbone.resize)),
        "output": {"name": OUTPUT, "dtype": "float32", "shape": [None, len(bundle.classes)]},
        "calibration": bundle.calibration.kind,
        "coverage": _describe_coverage(bundle),
        "coverage_approximate": why_approximate(bundle.manifest) or None,
        "check": asdict(comparison) | {"source": images.source},
        "license": _describe_license(bundle.manifest),
        "bundle": {"name": bundle.name, "digest": bundle.manifest.digest},
        "versions": {"featx": featx.__version__, **installed_versions("keras", "tensorflow", *row.packages)},
    }


def _describe_license(manifest: Manifest) -> dict[str, Json]:
    """Whose licence the weights are under: its name, None where that is not known, who gives it, and the texts."""
    backbone = manifest.backbone
    name = backbone.license if isinstance(backbone.license, str) else None
    return {"weights": name, "source": backbone.license_source, "texts": [*manifest.licenses]}


def _describe_resize(rule: ResizeRule) -> dict[str, Json]:
    colour: dict[str, Json] = {"colour": list(PAD_COLOUR)} if rule.method == "pad" else {}
    known: dict[str, Json] = {"rule": str(rule), "method": rule.method, "share": rule.share}
    return known | {"filter": f"{rule.filter}, antialiased"} | colour
