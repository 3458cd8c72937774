"""The graph of --precision int8: quantised on the calibration images and compared with float32 before use."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.backbones import BackboneSpec
from featx.engines.choice import load_graph
from featx.engines.openvino import write_graph
from featx.engines.quantisation import INT8, kinds_to_leave, quantise
from featx.errors import DataError, EngineError
from featx.extraction.int8_cost import Int8Cost, Sampled, measure_cost
from featx.extraction.request import Request
from featx.images.batches import Decoding, iter_batches
from featx.images.sources import Pinned, Source, source_name
from featx.io.counting import agreeing, counted, counted_of
from featx.io.digests import digest_file
from featx.io.files import temporary_beside
from featx.io.urls import is_url
from featx.store.calibration import CalibrationImage, NetworkCalibration

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Quantising:
    """What an int8 graph is made by. request : where calibration images are looked for first, and their labels."""

    calibration: NetworkCalibration
    request: Request
    spec: BackboneSpec

    def write(self, graph: Path, convert: Callable[[Path], None]) -> None:
        """Write the int8 graph as a directory, and show what it costs.

        convert : writes the float32 graph as a directory

        Raises
        ------
        EngineError
            NNCF is missing or fails, or the features lose too much whatever is left in float32.
        DataError
            A calibration image is gone or was changed.
        """
        exact = temporary_beside(graph)
        try:
            convert(exact)
            self._write(exact, graph)
        finally:
            shutil.rmtree(exact, ignore_errors=True)

    def _write(self, exact: Path, graph: Path) -> None:
        measured = self._pixels(self.calibration.images.measured)
        tried: list[Int8Cost] = []
        for left in kinds_to_leave(exact):
            network = quantise(exact, measured.batches, len(measured.sources), left)
            rounded = temporary_beside(graph)
            try:
                write_graph(network, rounded)
                cost = self._cost(exact, rounded, measured, left)
            finally:
                shutil.rmtree(rounded, ignore_errors=True)
            tried.append(cost)
            if cost.acceptable:
                write_graph(network, graph, {INT8: cost.as_json()})
                _logger.warning("%s", cost)
                return
            _logger.info("%s That is not enough.", cost)
        raise EngineError(_refusal(tried, self.spec))

    def _cost(self, exact: Path, rounded: Path, measured: _Pixels, left: tuple[str, ...]) -> Int8Cost:
        images = self.calibration.images
        held = self._pixels(images.held)
        labels = [self._labels(some) for some in (images.measured, images.held)]
        sampled = Sampled(measured.batches, held.batches, *labels)
        engines = load_graph(exact, "float32"), load_graph(rounded, INT8)
        return measure_cost(*engines, sampled, len(images.measured), left)

    def _labels(self, images: Sequence[CalibrationImage]) -> np.ndarray | None:
        labels = self.request.images.labels
        if labels is None or labels.ndim > 1:
            return None
        rows = [self._rows.get(one.digest) for one in images]
        return np.array([-1 if row is None else labels[row] for row in rows], np.int64)

    @property
    def _rows(self) -> dict[str, int]:
        """Digest of each calibration image that is in the request -> its row."""
        images = self.calibration.images
        wanted = {bytes.fromhex(one.digest) for one in (*images.measured, *images.held)}
        rows = {digest: row for row, digest in enumerate(self.request.digests.tolist()) if digest in wanted}
        return {digest.hex(): row for digest, row in rows.items()}

    def _pixels(self, images: Sequence[CalibrationImage]) -> _Pixels:
        rows = self._rows
        found = [self.request.sources[rows[one.digest]] if one.digest in rows else _recorded(one) for one in images]
        return _Pixels(found, self.spec)


def quantising_of(calibration: NetworkCalibration | None, request: Request, spec: BackboneSpec) -> Quantising | None:
    """By what the graph of these features is quantised; None where it is not."""
    return None if calibration is None else Quantising(calibration, request, spec)


@dataclass(frozen=True)
class _Pixels:
    """Images that are decoded whenever they are asked for: some hundred large ones would not fit in memory."""

    sources: Sequence[Source]
    spec: BackboneSpec

    def batches(self, size: int) -> Iterator[np.ndarray]:
        reading = Decoding(self.spec.input_size, self.spec.resize, size)
        for batch in iter_batches(self.sources, range(len(self.sources)), reading):
            if batch.unreadable:
                row, reason = batch.unreadable[0]
                name = source_name(self.sources[row], row)
                raise DataError(f"int8 was to be calibrated on {name}: {reason}. Put it back and run again.")
            yield batch.images


def _recorded(image: CalibrationImage) -> Source:
    """Where an image was that is not among those given."""
    if is_url(image.path):
        return Pinned(image.path, bytes.fromhex(image.digest))
    try:
        if digest_file(image.path).hex() == image.digest:
            return image.path
        reason = "has changed"
    except OSError:
        reason = "is gone"
    raise DataError(
        f"int8 features of this network are calibrated on {image.path}, which {reason}. Put it back, or extract "
        "into another --cache."
    )


def _refusal(tried: Iterable[Int8Cost], spec: BackboneSpec) -> str:
    *_, last = tried
    left = f", even with {', '.join(last.left)} left in float32" if last.left else ""
    loss = (
        f", and {counted_of(last.lost, last.images, 'answer')} of a quick head {agreeing(last.lost, 'is', 'are')} lost"
        if last.lost
        else ""
    )
    return (
        f"int8 ruins the features of {spec.label}{left}: their cosine to float32 is {last.cosine:.3f} (median of "
        f"{counted(last.images, 'image')}){loss}. Choose --precision float32 or bfloat16."
    )
