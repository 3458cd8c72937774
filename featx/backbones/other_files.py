"""What to do with network files and folders in unsupported formats."""

from __future__ import annotations

from pathlib import Path

ACCEPTED = "Give a .weights.h5, a legacy Keras .h5, or a .keras file."
_WHOLE = {".onnx", ".tflite", ".xml", ".pb"}
_TORCH = {".pt", ".pth", ".ckpt", ".safetensors"}


def describe_other_file(path: Path) -> str:
    """The sentence on a file or folder that is given as a backbone and is none: what it is, and what to do."""
    if path.is_dir():
        return (
            f"{path} is a folder without a network: no saved_model.pb (SavedModel) and no config.json (KerasHub, "
            "Hugging Face) is in it. Name the folder that has one."
        )
    if path.name == "saved_model.pb":
        return f"{path} is a part of a SavedModel. Give its folder: --backbone {path.parent}"
    with open(path, "rb") as file:
        start = file.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        return _describe_hdf5(path)
    if path.suffix.lower() in _TORCH:
        return f"{path} is a PyTorch file, which needs its code. Export it there as .onnx: torch.onnx.export"
    if start.startswith(b"PK\3\4"):
        return f"{path} is a zip file, as .keras files are. If it is one, rename it: {path.with_suffix('.keras').name}"
    return f"{path} is not a network that featx reads: .keras, .onnx, .xml, .tflite. See featx backbones."


def describe_other_weights(path: Path) -> str:
    """The sentence on a file or folder that is given as weights and is none: what it is, and what to do."""
    saved = path.parent if path.name == "saved_model.pb" else path
    if path.name.startswith("variables.") and (path.parent.parent / "saved_model.pb").exists():
        saved = path.parent.parent
    if (saved / "saved_model.pb").is_file():
        part = "a" if saved == path else "a part of a"
        return f"{path} is {part} SavedModel, which is a whole network. Give it alone: --backbone {saved}"
    if path.is_dir():
        return f"{path} is a folder, and not a weights file. {ACCEPTED}"
    if path.suffix.lower() in _WHOLE:
        return f"{path} is a whole network, or its layers. Give it alone: --backbone {path}"
    if path.suffix.lower() in _TORCH:
        return f"{path} is a PyTorch file. Export the network there as .onnx, and give that as --backbone."
    if path.suffix in {".index", ".data-00000-of-00001"}:
        return f"{path} is part of a TensorFlow checkpoint. Load it in Keras, then: model.save_weights('x.weights.h5')"
    return f"{path} is not a weights file. {ACCEPTED}"


def _describe_hdf5(path: Path) -> str:
    whole = (
        f'python -c "import keras; keras.saving.load_model({path.name!r}).save({path.with_suffix(".keras").name!r})"'
    )
    weights = f"with --backbone NAME --weights {path}"
    holds = _holds_model(path)
    if holds is None:
        return (
            f"{path} is an HDF5 file. If it is a whole Keras model, convert it to a .keras file: {whole} . "
            f"If it is weights, give it {weights}"
        )
    if holds:
        return f"{path} is a whole Keras model in the old HDF5 format. Convert it to a .keras file: {whole}"
    return f"{path} holds weights without their network. Give it {weights}"


def _holds_model(path: Path) -> bool | None:
    """Whether an HDF5 file holds a network with its weights; None where it cannot be read."""
    import h5py

    try:
        with h5py.File(path, locking=False) as file:
            return "model_config" in file.attrs
    except OSError:
        return None
