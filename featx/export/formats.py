"""The formats: one row and one module each, whose libraries are imported on use.

A format's module has two functions: `convert` writes a network to a file, `load` runs that file as somebody would who
has the format's own runtime and no featx.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, get_args

import numpy as np

from featx.config import ExportPrecision
from featx.errors import ExportError, UsageError
from featx.io.counting import agreeing, enumerated

if TYPE_CHECKING:
    import keras

    from featx.backbones.graphs.cut import CutGraph

    Network: TypeAlias = keras.Model | CutGraph

Runner = Callable[[np.ndarray], np.ndarray]
"""uint8 (n, height, width, 3), RGB -> probabilities float32 (n, classes), for any n"""


class _Converter(Protocol):
    """The module of a format; what its functions take is said in `Format`."""

    def convert(self, network: Network | Path, path: Path, precision: str, images: np.ndarray) -> None: ...

    def load(self, path: Path) -> Runner: ...


PRECISIONS: tuple[str, ...] = get_args(ExportPrecision)
MODULES = {"ai-edge-litert": "ai_edge_litert"}  # packages that are imported under another name


@dataclass(frozen=True)
class Format:
    """A row of the table.

    module : what converts and loads it; file : the model's name in the folder of an export
    precisions : what it can be written in; packages : what that takes, by the names that pip knows
    dtype : of the images that it takes
    source : a format that it is made of: where that is exported, too, it need not be written once more
    """

    name: str
    module: str
    file: str
    precisions: tuple[str, ...]
    packages: tuple[str, ...]
    dtype: str = "uint8"
    source: str = ""

    def convert(self, network: Network | Path, path: Path, precision: str, images: np.ndarray) -> None:
        """Write a network.

        network : float32 (n, height, width, 3) in [0, 255] -> {"probabilities": float32 (n, classes)}; or, to
            OpenVINO alone, a graph of its own, which takes uint8; or the same in the format `source`
        path : a file or folder that does not exist; what is written takes uint8 images in batches of any size
        images : uint8 (n, height, width, 3), by which the ranges of int8 are measured
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the converters use what their own libraries deprecate
            self._module().convert(network, path, precision, images)

    def load(self, path: Path) -> Runner:
        """What runs the file at `path` in the format's own runtime."""
        return self._module().load(path)

    def _module(self) -> _Converter:
        converter: _Converter = importlib.import_module(self.module)
        return converter


FORMATS: Mapping[str, Format] = {
    row.name: row
    for row in (
        Format("savedmodel", "featx.export.savedmodel", "model", ("float32",), ("tensorflow",)),
        Format("onnx", "featx.export.onnx", "model.onnx", PRECISIONS, ("onnx", "onnxruntime", "tf2onnx")),
        Format("openvino", "featx.export.openvino", "model.xml", ("float32", "float16"), ("openvino",)),
        Format(
            "litert",
            "featx.export.litert",
            "model.tflite",
            PRECISIONS,
            ("tensorflow", "ai-edge-litert"),
            source="savedmodel",
        ),
        Format("keras", "featx.export.keras_file", "model.keras", ("float32",), ("tensorflow", "keras"), "float32"),
    )
}


def choose_formats(names: Sequence[str], precision: str) -> list[Format]:
    """The rows of these formats, each once.

    Raises
    ------
    UsageError
        No format, an unknown one, or one that does not have the precision.
    ExportError
        A format whose packages are not installed.
    """
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        asked = f"No format {unknown[0]!r}" if unknown else "No format"
        raise UsageError(f"{asked}. Choose one or several of {', '.join(FORMATS)}: --format onnx")
    chosen = [FORMATS[name] for name in dict.fromkeys(names)]
    for row in chosen:
        if precision not in row.precisions:
            others = [other.name for other in FORMATS.values() if precision in other.precisions]
            if not others:
                known = dict.fromkeys(name for other in FORMATS.values() for name in other.precisions)
                raise UsageError(f"No precision {precision!r}. Choose one of {', '.join(known)}: --precision float16")
            raise UsageError(
                f"--format {row.name} is written in {' or '.join(row.precisions)}, not {precision}. "
                f"{precision} is available with --format {' or '.join(others)}."
            )
        missing = [package for package in row.packages if not _installed(package)]
        if missing:
            raise ExportError(
                f"--format {row.name} needs {enumerated(missing)}, which {agreeing(len(missing), 'is', 'are')} not "
                f"installed: pip install {' '.join(missing)}"
            )
    return chosen


def _installed(package: str) -> bool:
    return importlib.util.find_spec(MODULES.get(package, package)) is not None
