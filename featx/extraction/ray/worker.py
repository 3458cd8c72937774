"""A worker on a cluster machine: one compiled backbone that computes reservations.

Nothing here knows what carries reservations to it. A worker reads images where it runs and writes its own parts into
the shared cache folder, so that only names travel.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from featx.backbones import BackboneSpec, Output
from featx.config import FeaturesOptions
from featx.dataset import ImageSet
from featx.engines.protocol import Engine
from featx.errors import ClusterError
from featx.extraction.computed import Stages
from featx.extraction.network import open_engine
from featx.extraction.ray.placement import WorkerPlacement
from featx.extraction.request import Request
from featx.extraction.work import Tally, Tools, compute_rows
from featx.images.augment import Augmenter
from featx.images.batches import decoding_threads
from featx.images.decoder import decoder_identity
from featx.io.remote import shared_remote
from featx.store.cache import Cache
from featx.store.key import Key
from featx.store.table import TableFolder, identities
from featx.store.writer import TableWriter


@dataclass(frozen=True)
class Assignment:
    """What all reservations of a run have in common.

    options : with an absolute path of the cache
    outputs : the layers and poolings that the run computes
    key : of the store
    lease : a file that the coordinator has just made in the store: a machine that sees it shares the folder
    began : when the run began, in nanoseconds
    """

    options: FeaturesOptions
    spec: BackboneSpec
    outputs: tuple[Output, ...]
    key: Key
    lease: str
    augmenter: Augmenter | None
    began: int


@dataclass(frozen=True)
class Reservation:
    """Images that one worker is to compute.

    paths : of n images; digests : V32 (n,); views : uint16 (n,)
    present : by output, the identities (V34) of those that it has already
    """

    paths: tuple[str, ...]
    digests: np.ndarray
    views: np.ndarray
    present: dict[str, np.ndarray]


@dataclass(frozen=True)
class Report:
    """What became of a reservation. All rows that were computed are in finished parts.

    computed : images; all that can be read, unless the worker was stopped
    unreadable : position in the reservation and reason of images that cannot be read
    transient : those of them whose fault may pass
    seconds : of all of it, and `stages` of decoding, inference and writing
    row_bytes : of an image's features in the widest table
    warnings : what the worker logged
    """

    computed: int
    unreadable: tuple[tuple[int, str], ...]
    transient: frozenset[int]
    seconds: float
    stages: Stages
    row_bytes: float
    warnings: tuple[str, ...]


class _Lacking:
    """One layer and pooling as the coordinator has seen it when it made the reservation."""

    def __init__(self, present: np.ndarray) -> None:
        self._present = present

    def missing(self, digest: np.ndarray, view: np.ndarray | int = 0) -> np.ndarray:
        """Mask (n,) of the digests that have no row."""
        return ~np.isin(identities(digest, view), self._present)


class Worker:
    """One process of a cluster. It opens no part and no index: what it has to know comes with the reservation."""

    def __init__(self, assignment: Assignment, placement: WorkerPlacement, engine: str) -> None:
        self._assignment, self._placement, self._engine_name = assignment, placement, engine
        self._store = Cache(assignment.options.cache).store(assignment.key)  # its index stays closed
        self._stop = threading.Event()

    def start(self) -> tuple[str, int]:
        """Make sure that this machine can compute what the store holds, and compile the backbone: (host, process).

        Raises
        ------
        ClusterError
            The cache folder is not the coordinator's, or this machine decodes images differently.
        FeatxError
            What `open_engine` raises.
        """
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        if not self._placement.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        self._require_shared()
        self._require_same_pixels()
        self._engine = self._open_engine()
        return socket.gethostname(), os.getpid()

    def compute(self, reservation: Reservation) -> Report:
        """Decode, infer and write the images of a reservation; returns when all rows are in parts.

        Raises
        ------
        StoreError
            A full disk, a folder that may not be written to.
        """
        start, options = time.perf_counter(), self._options(reservation)
        tally, transient = Tally(), frozenset[int]()
        with _warnings() as warnings, TableWriter(self._folders(), options.storage, options.compression) as writer:
            tools = self._tools(reservation, options, writer)
            for done in compute_rows(self._rows(len(reservation.paths)), _request(reservation), tools):
                tally.add(done)
                transient |= done.transient
                if self._stop.is_set():  # what is decoded ahead is let go
                    break
        return Report(
            computed=tally.rows,
            unreadable=tuple(tally.unreadable.items()),
            transient=transient,
            seconds=time.perf_counter() - start,
            stages=tally.stages + Stages(write=writer.seconds),
            row_bytes=max(writer.bytes.values()) / max(1, tally.rows),
            warnings=tuple(warnings),
        )

    def stop(self) -> None:
        """Let `compute` end soon, from another thread: it takes no further image and writes what it has."""
        self._stop.set()

    def _rows(self, count: int) -> Iterator[int]:
        for row in range(count):
            if self._stop.is_set():
                return
            yield row

    def _options(self, reservation: Reservation) -> FeaturesOptions:
        wanted = self._assignment.options
        threads = wanted.workers or decoding_threads(reservation.paths, self._placement.threads)
        return replace(wanted, workers=threads)

    def _folders(self) -> dict[str, TableFolder]:
        outputs = self._assignment.outputs
        return {output.name: self._store.folder(output.layer, output.pooling) for output in outputs}

    def _tools(self, reservation: Reservation, options: FeaturesOptions, writer: TableWriter) -> Tools:
        wanted = self._assignment
        lacking = {name: _Lacking(present) for name, present in reservation.present.items()}
        return Tools(self._engine, lacking, writer, wanted.spec, options, wanted.augmenter, wanted.began)

    def _require_shared(self) -> None:
        if not Path(self._assignment.lease).exists():
            folder = Path(self._assignment.lease).parents[1]
            raise ClusterError(
                f"{folder} is not the folder that the command writes to: all machines have to share --cache under one "
                "path. Mount it there, or choose a shared folder."
            )

    def _require_same_pixels(self) -> None:
        wanted, augmenter = self._assignment.key, self._assignment.augmenter
        same_views = augmenter is None or augmenter.identity == wanted.views
        if decoder_identity() != wanted.decoder or not same_views:
            raise ClusterError(
                "This machine decodes images differently from the coordinator. Install the same versions of featx and "
                "Pillow on both."
            )

    def _open_engine(self) -> Engine:
        wanted = self._assignment
        options = replace(wanted.options, engine=cast("Any", self._engine_name))
        return open_engine(wanted.outputs, wanted.spec, options, self._store.graphs, self._placement.threads)


def _request(reservation: Reservation) -> Request:
    """The images of a reservation as a request of their own."""
    shared_remote().trust(reservation.paths)  # the coordinator has their digests, so it has read them or their status
    images = ImageSet("a reservation", "reservation", reservation.paths)
    return Request(images, reservation.digests, reservation.views)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what featx warns of meanwhile: nobody looks at a worker's own stderr."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("featx")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
