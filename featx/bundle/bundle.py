"""Bundle: one model that predicts anywhere.

    bundle.json       classes, layer, pooling, metrics, provenance, and the checksum of every other file
    backbone.keras    preprocessing + backbone up to the layer + pooling, to fine-tune
    graph/            the same as the engine runs it, to predict fast
    head.npz          a linear head: kernel and bias, standardisation and temperature folded in
    head.skops        another scikit-learn head; head.keras : a dense head
    front.npz         what the features pass through before the head, where they do: unit length, principal components
    calibration.npz   curves from logits to probabilities, where there is more than the temperature
    training.csv      the epochs of a dense head or a fine-tune: losses, accuracies, learning rate, seconds
    split.npz         which image was in which part: digest (n, 32) uint8, split (n,) uint8; of a fine-tune also
                      trained_before and chosen_before (m, 32) uint8: what the models have seen that it comes from
    reference.npz     features of up to 2,000 training images, by which unknown images are found (`novelty`)

A directory, or the same files in one `.featx` (a stored zip). No cache, network or training image is needed to predict,
and with a linear head and OpenVINO neither scikit-learn nor TensorFlow is imported. Nothing is ever unpickled.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from featx.backbones import Output
from featx.bundle.archive import extract_archive
from featx.bundle.manifest import Manifest
from featx.bundle.sealing import MANIFEST, read_manifest, seal, verify_files
from featx.bundle.split import SeenImages, read_seen, read_split
from featx.dataset import TRAIN, VAL
from featx.engines.choice import choose_engine, compile_graph, effective_precision, load_graph
from featx.engines.protocol import Engine
from featx.errors import BundleError, EngineError
from featx.heads import persist
from featx.heads.calibration import CALIBRATION_FILE, Calibration, load_curves
from featx.heads.transform import TRANSFORM_FILE, Transform, load_transform
from featx.io.files import atomic_directory, atomic_path, remove_stale

NETWORK = "backbone.keras"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bundle:
    """A loaded, verified bundle.

    path : its directory; manifest : what `bundle.json` holds
    """

    path: Path
    manifest: Manifest

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
        if engine == "openvino":
            return load_graph(graph, precision)
        return compile_graph(engine, lambda: persist.load_network(self.path / NETWORK), graph, precision)

    @cached_property
    def head(self) -> persist.Scorer:
        """Features float32 (n, d) -> logits (n, classes), the temperature applied."""
        return persist.load_head(self.path, self.manifest.head.kind, self.temperature)

    @cached_property
    def transform(self) -> Transform:
        """What features pass through before the head."""
        return load_transform(self.path / TRANSFORM_FILE) if TRANSFORM_FILE in self.manifest.files else Transform()

    @cached_property
    def calibration(self) -> Calibration:
        """From the head's logits, the temperature applied, to probabilities."""
        if CALIBRATION_FILE in self.manifest.files:
            return load_curves(self.path / CALIBRATION_FILE)
        return Calibration(self.multilabel)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float64 (n, classes), of features (n, d)."""
        expected = self.manifest.head.features
        if features.shape[1] != expected:
            raise BundleError(f"X has {features.shape[1]} features, but the head is expecting {expected}.")
        return self.calibration.probabilities(self.head(self.transform.apply(features)))

    def features(self, images: np.ndarray) -> np.ndarray:
        """Features float32 (n, d) of images uint8 (n, height, width, 3)."""
        found = self.engine.infer(images)
        return np.concatenate([found[name].reshape(len(images), -1) for name in self.manifest.output_names], axis=1)

    def split(self) -> dict[bytes, int]:
        """Digest -> split code of every image it was fitted and measured on."""
        return read_split(self.path / "split.npz")

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
    folder = Path(tempfile.mkdtemp(prefix="featx-"))
    try:
        extract_archive(path, folder)
        bundle = load_bundle(folder)
    except BaseException:  # Ctrl-C too must leave nothing behind in the temporary folder
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(bundle, shutil.rmtree, folder, ignore_errors=True)
    return bundle


def pack(bundle: Bundle, out: Path) -> None:
    """Write a bundle as one `.featx` file: a zip, stored, with `bundle.json` first."""
    names = [MANIFEST, *bundle.manifest.files]
    with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            archive.write(bundle.path / name, name)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
