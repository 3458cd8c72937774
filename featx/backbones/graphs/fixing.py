"""Fix a graph to one image size, so that operations that only compute shapes fold away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.backbones.graphs.reading import ImageInput
from featx.errors import BackboneError

if TYPE_CHECKING:
    import openvino


LOOKED_AT = 2  # images: so that a first axis of 2 is the batch, and one of anything else is not


def fix_shape(model: openvino.Model, takes: ImageInput, size: tuple[int, int], name: str) -> int:
    """Give the input a fixed shape, in place, and fold what only computed shapes; returns the images at once.

    Raises
    ------
    BackboneError
        A size that the network refuses.
    """
    reason: RuntimeError | None = None
    for batch in dict.fromkeys((LOOKED_AT, takes.batch or 1)):
        try:
            model.reshape(takes.shape(batch, size))
            fold_constants(model)
        except RuntimeError as error:
            reason = error
            continue
        if _gives_rows(model, batch):
            return batch
    raise BackboneError(_explain_size(name, takes, size)) from reason


def _explain_size(name: str, takes: ImageInput, size: tuple[int, int]) -> str:
    height, width = takes.size
    if height and width and (height, width) != size:
        return (
            f"{name} takes images of {height} x {width} pixels only; got {size[0]} x {size[1]}. Leave out "
            "--input-size, or export the network with dynamic axes."
        )
    return (
        f"{name} does not work with images of {size[0]} x {size[1]} pixels: a part of it has a constant shape. Choose "
        "the --input-size that it was exported for, or export it with dynamic axes."
    )


def _gives_rows(model: openvino.Model, batch: int) -> bool:
    """Whether the first output still has a row for each image: a constant reshape can mix them without an error."""
    shape = model.outputs[0].get_partial_shape()
    return bool(shape.rank.is_static and len(shape) and (shape[0].is_dynamic or shape[0].get_length() == batch))


def fold_constants(model: openvino.Model) -> None:
    """Compute what does not depend on the image, in place."""
    from openvino.passes import ConstantFolding, Manager

    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)
