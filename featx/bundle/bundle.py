"""Bundle: one model that predicts anywhere.

    bundle.json       classes, layer, pooling, metrics, provenance, and the checksum of every other file
    licenses/         texts of the licence of the network's weights, where they came with one
    backbone.keras    preprocessing + backbone up to the layer + pooling, to fine-tune
    graph/            the same as the engine runs it, to predict fast
    head.npz          a linear head: kernel and bias, standardisation and temperature folded in
    head.skops        another scikit-learn head; head.keras : a dense head; head.joblib : a classifier that skops cannot
                      write, a pickle, which is neither packed nor loaded unasked
    front.npz         what the features pass through before the head, where they do: unit length, principal components
    calibration.npz   curves from logits to probabilities, where there is more than the temperature
    training.csv      the epochs of a dense head or a fine-tune: losses, accuracies, learning rate, seconds
    split.npz         which image was in which part: digest (n, 32) uint8, split (n,) uint8; of a fine-tune also
                      trained_before and chosen_before (m, 32) uint8: what the models have seen that it comes from
    coverage.npz      what the head answers to the val images, and their labels: sets of classes are calibrated by it
    reference.npz     features of up to 2,000 training images, by which unknown images are found, and of as many val
                      images, with which new ones are compared (`novelty`)

A directory, or the same files in one `.featx` (a stored zip). No cache, network or training image is needed to predict,
and with a linear head and OpenVINO neither scikit-learn nor TensorFlow is imported. Nothing is unpickled unasked.
"""

from __future__ import annotations

import logging
import shutil
import weakref
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from featx.backbones import Output
from featx.bundle.archive import extract_archive
from featx.bundle.coverage import COVERAGE_FILE, load_coverage
from featx.bundle.faults import at_fault, blamed
from featx.bundle.heads import require_plugin, require_shareable
from featx.bundle.manifest import Manifest
from featx.bundle.novelty import FILE, Reference, load_reference
from featx.bundle.sealing import MANIFEST, digested, read_manifest, seal, verify_files, without_folders
from featx.bundle.split import SeenImages, read_seen, read_split
from featx.dataset import TRAIN, VAL
from featx.engines.choice import choose_engine, compile_graph, effective_precision, graph_size, load_graph
from featx.engines.protocol import Engine
from featx.errors import BundleError, EngineError
from featx.heads import persist
from featx.heads.calibration import CALIBRATION_FILE, Calibration, load_curves
from featx.heads.transform import TRANSFORM_FILE, Transform, load_transform
from featx.io.counting import counted
from featx.io.files import atomic_directory, atomic_path, make_folder, remove_stale
from featx.io.shown import as_json
from featx.io.temporary import make_temporary_folder
from featx.metrics.conformal import CalibrationScores

NETWORK = "backbone.keras"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bundle:
    """A loaded, verified bundle.

    path : its directory; manifest : what `bundle.json` holds
    packed : the `.featx` file that the directory was unpacked from for a while; None where there is no such file
    """

    path: Path
    manifest: Manifest
    packed: Path | None = None

    @property
    def shown(self) -> Path:
        """Where it lies for people to read: its directory, or the `.featx` file, never a temporary folder."""
        return self.packed or self.path

    @property
    def name(self) -> str:
        """What it is called: the name of its directory, or that of its file without the ending."""
        whole = self.shown.resolve()
        return whole.stem if self.packed else whole.name

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that it knows, in the order of the columns of `probabilities`."""
        return self.manifest.classes

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The layers and poolings whose features the head takes, one after the other."""
        return self.manifest.outputs

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.manifest.backbone.input_size

    @property
    def multilabel(self) -> bool:
        """Whether it gives an image several labels."""
        return self.manifest.multilabel

    @property
    def thresholds(self) -> np.ndarray:
        """float64 (n classes,): from which probability on it gives each label, where it gives several."""
        return np.array(self.manifest.thresholds, np.float64)

    @property
    def temperature(self) -> float:
        """What logits are divided by before the softmax."""
        return float(self.manifest.head.temperature)

    @property
    def trainable(self) -> bool:
        """Whether its backbone can be trained: that of a graph file cannot."""
        return NETWORK in self.manifest.files

    @cached_property
    def engine(self) -> Engine:
        """The backbone, ready to run: the converted graph where OpenVINO is installed, else Keras' own.

        A precision that this machine does not have is replaced by float32.
        """
        graph, wanted = self.path / "graph", self.manifest.backbone.precision.split("/")[0]
        engine = choose_engine("auto" if self.trainable else "openvino")
        if engine == "openvino" and not graph.is_dir():
            engine = "tensorflow"
        try:
            precision = effective_precision(engine, wanted)
        except EngineError as error:
            _logger.warning("%s Predicting in float32.", error)
            precision = "float32"
        with blamed(self.shown, "its network cannot be loaded"):
            return self._load_engine(engine, precision)

    def _load_engine(self, engine: str, precision: str) -> Engine:
        graph = self.path / "graph"
        if engine != "openvino":
            return compile_graph(engine, lambda: persist.load_network(self.path / NETWORK), graph, precision)
        try:
            if graph_size(graph) != self.input_size:
                raise at_fault(self.shown, f"its graph takes images of another size than its {MANIFEST} says")
            return load_graph(graph, precision)
        except EngineError as error:
            raise at_fault(self.shown, str(error).split(". Delete")[0].rstrip(".")) from error

    @cached_property
    def head(self) -> persist.Scorer:
        """Features float32 (n, d) -> logits (n, classes), the temperature applied."""
        with blamed(self.shown, "its head cannot be used"):
            record = self.manifest.head
            require_plugin(self.shown, record)
            head = persist.load_head(self.path, record.kind, self.temperature, record.imports, record.clf)
            logits = head(self.transform.apply(np.zeros((1, self.manifest.head.features), np.float32)))
            self._require_numbers(np.asarray(logits), "head")
        return head

    @cached_property
    def transform(self) -> Transform:
        """What features pass through before the head."""
        with blamed(self.shown, f"its {TRANSFORM_FILE} cannot be used"):
            return load_transform(self.path / TRANSFORM_FILE) if TRANSFORM_FILE in self.manifest.files else Transform()

    @cached_property
    def calibration(self) -> Calibration:
        """From the head's logits, the temperature applied, to probabilities."""
        found = self.manifest.head.correction
        correction = None if found is None else np.array(found, np.float64)
        if CALIBRATION_FILE not in self.manifest.files:
            return Calibration(self.multilabel, correction=correction)
        with blamed(self.shown, f"its {CALIBRATION_FILE} cannot be used"):
            curves = replace(load_curves(self.path / CALIBRATION_FILE), correction=correction)
            self._require_numbers(curves.probabilities(np.zeros((1, len(self.classes)))), "calibration")
        return curves

    def _require_numbers(self, found: np.ndarray, what: str) -> None:
        if found.shape != (1, len(self.classes)):
            raise at_fault(
                self.shown,
                f"its {what} does not give one number for each of {counted(len(self.classes), 'class', 'classes')}",
            )
        if not np.isfinite(found).all():
            raise at_fault(self.shown, f"its {what} holds NaN or infinity")

    def reference(self) -> Reference:
        """What distances to training images are measured from."""
        found = load_reference(self.path)
        if found.rows.shape[1] != self.manifest.head.features:
            raise at_fault(self.shown, f"its {FILE} holds features of another length than its head takes")
        return found

    @cached_property
    def coverage(self) -> CalibrationScores:
        """What sets of classes are calibrated by; `BundleError` where it has no such images, and why."""
        return load_coverage(self.path, self.manifest)

    def check(self) -> None:
        """Use everything in it once, on a black image: `BundleError` where its files do not fit each other."""
        self.split()
        _ = self.engine  # loaded first: it shows whether images are of the size that the manifest says
        with blamed(self.path, "it takes images of a size that cannot be held"):
            black = np.zeros((1, *self.input_size, 3), np.uint8)
        features = self.features(black)
        with blamed(self.shown, "it cannot predict"):
            self._require_numbers(self.probabilities(features), "network")
        if FILE in self.manifest.files:
            self.reference()
        if COVERAGE_FILE in self.manifest.files:
            _ = self.coverage

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float64 (n, classes), of features (n, d)."""
        expected = self.manifest.head.features
        if features.shape[1] != expected:
            raise BundleError(f"X has {counted(features.shape[1], 'feature')}, but the head is expecting {expected}.")
        return self.calibration.probabilities(self.head(self.transform.apply(features)))

    def features(self, images: np.ndarray) -> np.ndarray:
        """Features float32 (n, d) of images uint8 (n, height, width, 3)."""
        engine = self.engine
        with blamed(self.shown, "its network cannot be run"):
            found = engine.infer(images)
            rows = [found[name].reshape(len(images), -1) for name in self.manifest.output_names]
        joined = np.concatenate(rows, axis=1)
        if joined.shape[1] != self.manifest.head.features:
            expected = self.manifest.head.features
            raise at_fault(
                self.shown, f"its network gives {counted(joined.shape[1], 'feature')} and its head takes {expected}"
            )
        return joined

    def split(self) -> dict[bytes, int]:
        """Digest -> split code of every image it was fitted and measured on."""
        try:
            digests, split = read_split(self.path / "split.npz")
            return dict(zip(digests.tolist(), split.tolist(), strict=True))
        except BundleError as error:
            raise at_fault(self.shown, str(error).split(". Remove")[0]) from error

    def seen(self) -> SeenImages:
        """The images that it was trained on or chosen by; a head that was fitted again was trained on val, too."""
        trained = (TRAIN, VAL) if self.manifest.head.refitted else (TRAIN,)
        return read_seen(self.path / "split.npz", trained, chosen=(VAL,))


def save_bundle(directory: Path, manifest: Manifest, sources: Mapping[str, Path]) -> Bundle:
    """Put a bundle together and make it visible whole.

    directory : must not exist; manifest : all but the checksums
    sources : name in the bundle -> file or directory to take; they are copied
    """
    remove_stale(directory.parent)
    with atomic_directory(directory) as temporary:
        for name, source in sources.items():
            make_folder((temporary / name).parent)
            _copy(source, temporary / name)
        seal(temporary, manifest)
    return load_bundle(directory)


def load_bundle(path: Path) -> Bundle:
    """Load a bundle's directory (or its `bundle.json`) or `.featx` file and verify every checksum.

    Raises
    ------
    BundleError
        When it is truncated, changed, of a newer schema, or not a bundle.
    """
    if path.name == MANIFEST:
        path = path.parent
    if path.is_file():
        return _load_packed(path)
    manifest = read_manifest(path)
    verify_files(path, manifest)
    return Bundle(path, manifest)


def is_bundle(path: Path) -> bool:
    """Whether there is a file, which may be a packed bundle, or a bundle's directory."""
    return path.is_file() or (path / MANIFEST).is_file()


def _load_packed(path: Path) -> Bundle:
    """Unpack into a temporary folder that goes with the bundle object."""
    folder = make_temporary_folder()
    try:
        extract_archive(path, folder)
        bundle = replace(load_bundle(folder), packed=path)
    except BaseException:  # Ctrl-C too must leave nothing behind in the temporary folder
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(bundle, shutil.rmtree, folder, ignore_errors=True)
    return bundle


def pack(bundle: Bundle, out: Path, keep_paths: bool = False) -> Manifest:
    """Write a bundle as one `.featx` file: a zip, stored, with `bundle.json` first; return what that holds.

    keep_paths : whether the command and options that made it keep the folders in their paths, which may name people

    Raises
    ------
    BundleError
        One of its files is a link, which may lead to what nobody means to give away; or its head is a pickle.
    """
    require_shareable(bundle.shown, bundle.manifest.head)
    names = [MANIFEST, *bundle.manifest.files]
    for name in names:
        _refuse_links(bundle.path, name)
    remove_stale(out.parent, deep=False)
    with (
        atomic_path(out) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive,
    ):
        manifest = bundle.manifest if keep_paths else digested(without_folders(bundle.manifest))
        archive.writestr(MANIFEST, as_json(manifest.as_json(), indent=2) + "\n")
        for name in bundle.manifest.files:
            archive.write(bundle.path / name, name)
    return manifest


def _refuse_links(directory: Path, name: str) -> None:
    parts = PurePosixPath(name).parts
    for end in range(1, len(parts) + 1):
        path = directory.joinpath(*parts[:end])
        if path.is_symlink():
            raise BundleError(f"{path} is a link, and links are not packed. Replace it with the file that it leads to.")


def _copy(source: Path, target: Path) -> None:
    if not source.is_dir():
        shutil.copyfile(source, target)
        return
    target.mkdir()
    for one in source.iterdir():  # and not `copytree`, which hides why it fails
        _copy(one, target / one.name)
