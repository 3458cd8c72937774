"""Which files are graphs, by name alone."""

from __future__ import annotations

from pathlib import Path

FORMATS = {".onnx": "ONNX", ".xml": "OpenVINO IR", ".tflite": "TensorFlow Lite"}
SAVED_MODEL = "saved_model.pb"


def is_graph(path: Path) -> bool:
    """Whether a path looks like a graph file: by its suffix, or a SavedModel's folder."""
    return path.suffix.lower() in FORMATS or (path / SAVED_MODEL).is_file()


def graph_format(path: Path) -> str:
    """What people call the format of a graph file."""
    return FORMATS.get(path.suffix.lower(), "SavedModel")


def graph_files(path: Path) -> list[Path]:
    """The files that a graph is read from: weights may lie beside it, named in it."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if path.suffix == ".xml":
        return [path, path.with_suffix(".bin")]
    if path.suffix.lower() != ".onnx":
        return [path]
    content = path.read_bytes()
    beside = (file for file in path.parent.iterdir() if file.is_file() and file != path)
    return [path, *sorted(file for file in beside if file.name.encode() in content)]
