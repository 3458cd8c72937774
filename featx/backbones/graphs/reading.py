"""Read a graph file as one network from image to tensors, or explain in one sentence why that is impossible.

OpenVINO reads all four formats. What is asked of a network: one input, which is an RGB image, channels first or last,
of a fixed size or of any; every operation known; no control flow. More than that is found out when it is cut.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from featx.backbones.graphs.formats import FORMATS, graph_format, is_graph
from featx.backbones.libraries import import_openvino
from featx.errors import BackboneError
from featx.io.counting import counted

if TYPE_CHECKING:
    import openvino

Layout = Literal["NCHW", "NHWC"]
_UNKNOWN = re.compile(r"No (?:conversion rule found for operations: |translator found for )([\w.:-]+)")
_CONTROL_FLOW = {"If", "Loop", "TensorIterator"}


@dataclass(frozen=True)
class ImageInput:
    """What a network takes.

    layout : where the channels are
    size : (height, width) in pixels; None where the network leaves a side open
    batch : images that it takes at once; None for any number
    dtype : of the pixels, as OpenVINO names it: f32, f16, u8, ...
    """

    layout: Layout
    size: tuple[int | None, int | None]
    batch: int | None
    dtype: str

    def shape(self, batch: int, size: tuple[int, int]) -> list[int]:
        """The shape of the input for so many images of (height, width)."""
        return [batch, 3, *size] if self.layout == "NCHW" else [batch, *size, 3]


def read_graph(path: Path) -> tuple[openvino.Model, ImageInput]:
    """The network of a graph file as it is written there, and what it takes.

    Raises
    ------
    BackboneError
        No file, one that OpenVINO cannot read, several inputs, an input that is no image, control flow.
    """
    if not is_graph(path):
        raise BackboneError(f"No graph file {path}. featx reads {', '.join(FORMATS)} files and SavedModel folders.")
    if not path.exists():
        raise BackboneError(f"No backbone file {path}. Check the name, or the folder you are in.")
    if path.suffix == ".xml" and not path.with_suffix(".bin").is_file():
        raise BackboneError(f"{path.name} lacks its weights: {path.with_suffix('.bin').name} has to be beside it.")
    model = _read(path)
    _refuse_control_flow(model, path.name)
    return model, find_image_input(model, path.name)


def _read(path: Path) -> openvino.Model:
    openvino = import_openvino()
    try:
        return openvino.Core().read_model(path)
    except RuntimeError as error:
        raise BackboneError(_explain(error, path)) from error


def _explain(error: RuntimeError, path: Path) -> str:
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
    missing = [found[1] for line in lines if (found := _UNKNOWN.match(line))]
    if missing:
        return (
            f"{path.name} uses operations that OpenVINO does not know: {missing[0]}. Export the network with standard "
            "operations, or convert it to a .keras file."
        )
    reason = lines[-1] if lines else "unknown reason"
    return f"{path.name} cannot be read as {graph_format(path)}: {reason}. Is the file complete?"


def _refuse_control_flow(model: openvino.Model, name: str) -> None:
    found = sorted({node.get_type_name() for node in model.get_ops()} & _CONTROL_FLOW)
    if found:
        raise BackboneError(
            f"{name} has control flow ({', '.join(found)}), so what runs depends on the image. Export the network "
            "without it: traced, for inference."
        )


def find_image_input(model: openvino.Model, name: str) -> ImageInput:
    """The one input of a network, which has to be an RGB image.

    Raises
    ------
    BackboneError
        Several inputs, or one of another shape: text towers, sounds, greyscale.
    """
    if len(model.inputs) != 1:
        inputs = ", ".join(sorted(port.get_any_name() for port in model.inputs))
        raise BackboneError(
            f"{name} has {counted(len(model.inputs), 'input')} ({inputs}); featx needs a network with one, the image. "
            "Export the image tower alone."
        )
    port = model.inputs[0]
    shape = [None if one.is_dynamic else one.get_length() for one in port.get_partial_shape()]
    layout = _layout(shape)
    if layout is None:
        written = " x ".join("?" if side is None else str(side) for side in shape)
        raise BackboneError(f"{name} does not take RGB images: its input is {written}, not n x 3 x height x width.")
    sides = (shape[2], shape[3]) if layout == "NCHW" else (shape[1], shape[2])
    return ImageInput(layout, sides, shape[0], port.get_element_type().get_type_name())


def _layout(shape: Sequence[int | None]) -> Layout | None:
    if len(shape) != 4:
        return None
    first, last = shape[1] == 3, shape[3] == 3
    if first and last:  # three pixels wide: nobody means that
        return "NCHW" if (shape[2] or 0) > 3 else None
    return "NCHW" if first else "NHWC" if last else None
