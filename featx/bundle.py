"""Bundle: one model that predicts anywhere.

    bundle.json       classes, layer, pooling, metrics, provenance, and the checksum of every other file
    backbone.keras    preprocessing + backbone up to the layer + pooling, to fine-tune
    graph/            the same as the engine runs it, to predict fast
    head.npz          a linear head: kernel and bias, standardisation and temperature folded in
    head.skops        another scikit-learn head; head.keras : a dense head
    front.npz         what the features pass through before the head, where they do: unit length, principal components
    calibration.npz   curves from logits to probabilities, where there is more than the temperature
    training.csv      the epochs of a dense head or a fine-tune: losses, accuracies, learning rate, seconds
    split.npz         which image was in which part: digest (n, 32) uint8, split (n,) uint8
    reference.npz     features of up to 2,000 training images, to tell what is unlike all of them (`featx.novelty`)

A directory, or the same files in one `.featx` (a stored zip). No cache, network or training image is needed to predict,
and with a linear head and OpenVINO neither scikit-learn nor TensorFlow is imported. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from featx.backbones import Output
from featx.engines import Engine, choose_engine, compile_graph, effective_precision, load_graph
from featx.errors import BundleError, EngineError
from featx.files import atomic_directory, atomic_path, digest_file, digest_json, remove_stale, write_json
from featx.heads import calibrate, front, persist
from featx.heads.front import Front, load_front
from featx.remote import is_url, plain

SCHEMA = 1
ABOUT = "bundle.json"
LOWER_IS_BETTER = frozenset({"log_loss"})
_NEEDED = ("files", "classes", "outputs", "backbone", "head", "split", "score")
# What zipfile raises for a damaged, encrypted or oddly compressed file
_NO_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bundle:
    """A loaded, verified bundle.

    path : its directory; about : the content of `bundle.json`
    """

    path: Path
    about: dict[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes it tells apart, in the order of the columns of `probabilities`."""
        return tuple(self.about["classes"])

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The layers and poolings whose features the head takes, one after the other."""
        return tuple(Output.parse(name) for name in self.about["outputs"])

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.about["backbone"]["input_size"]
        return int(height), int(width)

    @property
    def multilabel(self) -> bool:
        """Whether it gives an image several labels."""
        return bool(self.about.get("multilabel", False))

    @property
    def thresholds(self) -> np.ndarray:
        """float64 (n classes,): from which probability on it gives each label, where it gives several."""
        return np.array(self.about["thresholds"], np.float64)

    @property
    def temperature(self) -> float:
        """What logits are divided by before the softmax."""
        return float(self.about["head"]["temperature"])

    @cached_property
    def engine(self) -> Engine:
        """The backbone, ready to run: the converted graph where OpenVINO is installed, else Keras' own.

        A precision that this machine does not have is replaced by float32.
        """
        graph, wanted = self.path / "graph", self.about["backbone"]["precision"].split("/")[0]
        engine = choose_engine("auto")
        if engine == "openvino" and not graph.is_dir():
            engine = "tensorflow"
        try:
            precision = effective_precision(engine, wanted)
        except EngineError as error:
            _logger.warning("%s Predicting in float32.", error)
            precision = "float32"
        if engine == "openvino":
            return load_graph(graph, precision)
        return compile_graph(engine, lambda: persist.load_network(self.path / "backbone.keras"), graph, precision)

    @cached_property
    def head(self) -> persist.Scorer:
        """Features float32 (n, d) -> logits (n, classes), the temperature applied."""
        return persist.load_head(self.path, self.about["head"])

    @cached_property
    def front(self) -> Front:
        """What features pass through before the head."""
        return load_front(self.path / front.FILE) if front.FILE in self.about["files"] else Front()

    @cached_property
    def calibration(self) -> calibrate.Calibration:
        """From the head's logits, the temperature applied, to probabilities."""
        if calibrate.FILE in self.about["files"]:
            return calibrate.load_curves(self.path / calibrate.FILE)
        return calibrate.Calibration(self.multilabel)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float64 (n, classes), of features (n, d)."""
        expected = int(self.about["head"]["features"])
        if features.shape[1] != expected:
            raise BundleError(f"X has {features.shape[1]} features, but the head is expecting {expected}.")
        return self.calibration.probabilities(self.head(self.front.apply(features)))

    def features(self, images: np.ndarray) -> np.ndarray:
        """Features float32 (n, d) of images uint8 (n, height, width, 3)."""
        found = self.engine.infer(images)
        return np.concatenate([found[name].reshape(len(images), -1) for name in self.about["outputs"]], axis=1)

    def split(self) -> dict[bytes, int]:
        """Digest -> split code of every image it was fitted and measured on."""
        return read_split(self.path / "split.npz")


def save_bundle(directory: Path, about: dict[str, Any], sources: dict[str, Path]) -> Bundle:
    """Put a bundle together and make it visible whole.

    directory : must not exist; about : all of `bundle.json` but schema and checksums
    sources : name in the bundle -> file or directory to take; they are copied
    """
    remove_stale(directory.parent)
    with atomic_directory(directory) as temporary:
        for name, source in sources.items():
            _copy(source, temporary / name)
        seal(temporary, about)
    return load_bundle(directory)


def seal(directory: Path, about: dict[str, Any]) -> None:
    """Write `bundle.json` with the schema and the checksum of every file in `directory`."""
    files = {
        path.relative_to(directory).as_posix(): digest_file(path).hex()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ABOUT
    }
    content = {"schema": SCHEMA, **about, "files": files}
    write_json(directory / ABOUT, content | {"digest": digest_json(content)})


def load_bundle(path: Path) -> Bundle:
    """Load a bundle's directory (or its `bundle.json`) or `.featx` file and verify every checksum.

    Raises
    ------
    BundleError
        When it is truncated, changed, of a newer schema, or not a bundle.
    """
    if path.name == ABOUT:
        path = path.parent
    if path.is_file():
        return _load_packed(path)
    about = _read_about(path)
    _verify(path, about)
    return Bundle(path, about)


def _read_about(directory: Path) -> dict[str, Any]:
    path = directory / ABOUT
    if not path.is_file():
        raise BundleError(f"{directory} is not a bundle: it has no {ABOUT}. featx fit-head makes one.")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        schema = int(about["schema"])
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is damaged: {error}. Take the bundle from where it came again.") from error
    if schema > SCHEMA:
        raise BundleError(
            f"{directory} has bundle schema {schema} and this featx reads up to {SCHEMA}. "
            "Update it: pip install --upgrade featx"
        )
    claimed = about.pop("digest", None)
    if claimed != digest_json(about):
        raise BundleError(f"{path} was changed after it was written. Take the bundle from where it came again.")
    absent = [name for name in _NEEDED if name not in about]
    if absent:
        raise BundleError(f"{path} says nothing of {', '.join(absent)}. Take the bundle from where it came again.")
    return dict(about) | {"digest": claimed}


def _verify(directory: Path, about: dict[str, Any]) -> None:
    for name, expected in about["files"].items():
        if not _is_plain(name):
            raise BundleError(f"{directory} names the file {name!r}, which would lie outside of it. Do not use it.")
        path = directory / name
        if not path.is_file():
            raise BundleError(f"{directory} lacks {name}. Take the bundle from where it came again.")
        if digest_file(path).hex() != expected:
            raise BundleError(
                f"{path} is damaged or was changed: its checksum does not hold. "
                "Take the bundle from where it came again."
            )


def _is_plain(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and ":" not in name


def _load_packed(path: Path) -> Bundle:
    """Unpack into a temporary folder that goes with the bundle object."""
    folder = Path(tempfile.mkdtemp(prefix="featx-"))
    try:
        _extract(path, folder)
        bundle = load_bundle(folder)
    except BaseException:  # Ctrl-C too must leave nothing behind in the temporary folder
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(bundle, shutil.rmtree, folder, ignore_errors=True)
    return bundle


def pack(bundle: Bundle, out: Path) -> None:
    """Write a bundle as one `.featx` file: a zip, stored, with `bundle.json` first."""
    names = [ABOUT, *bundle.about["files"]]
    with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            archive.write(bundle.path / name, name)


def unpack(path: Path, directory: Path) -> None:
    """Unpack a `.featx` file into a directory that must not exist, which appears only when every checksum holds.

    Only the files that it declares are written.
    """
    if directory.exists():
        raise BundleError(f"{directory} exists already. Name a folder that does not.")
    with atomic_directory(directory) as temporary:
        _extract(path, temporary)
        _verify(temporary, _read_about(temporary))


def _extract(path: Path, directory: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            if ABOUT not in names:
                if _begins_as_packed(path):  # cut off behind a file that is a zip itself, whose end was taken for ours
                    raise zipfile.BadZipFile("its end is missing")
                raise BundleError(f"{path} is not a bundle: it has no {ABOUT}.")
            outside = [name for name in names if not _is_plain(name)]
            if outside:
                raise BundleError(f"{path} holds {outside[0]!r}, which would lie outside of it. Do not use it.")
            declared = {ABOUT, *json.loads(archive.read(ABOUT)).get("files", {})}
            for name in names:
                if name in declared:
                    archive.extract(name, directory)
    except (*_NO_ZIP, OSError, ValueError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} is not a whole .featx file: {error}. Copy it again.") from error


def _begins_as_packed(path: Path) -> bool:
    """Whether the first file in a zip is `bundle.json`, where `pack` puts it."""
    with open(path, "rb") as file:
        return file.read(30 + len(ABOUT))[30:] == ABOUT.encode()


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def write_split(path: Path, digests: np.ndarray, split: np.ndarray) -> None:
    """Write which image is in which part: digest 'S32' (n,), split uint8 (n,)."""
    names = np.ascontiguousarray(digests.astype("S32")).view(np.uint8).reshape(-1, 32)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, digest=names, split=split.astype(np.uint8))


def read_split(path: Path) -> dict[bytes, int]:
    """Digest (32 bytes) -> split code."""
    try:
        with np.load(path, allow_pickle=False) as held:
            return {row.tobytes(): int(code) for row, code in zip(held["digest"], held["split"], strict=True)}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path} is damaged: {error}. Remove it; the split is then made anew.") from error


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
            found.append(_read_about(path.parent) | {"path": path.parent})
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
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    return Path(max(rivals, key=lambda about: sign * about["score"]["value"])["path"])


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
