"""The heavy stage: images x backbone -> feature store, each image once.

`extract` reads as the flow: digest the files, open the store that belongs to these settings, see which rows are
missing, compute those. Nothing here imports TensorFlow when no row is missing.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from featx.augment import Augmenter
from featx.backbones import BackboneSpec, Output, cut, identify, resolve, resolve_outputs
from featx.dataset import Digests, ImageSet, digest_images, require_usable
from featx.dataset.digests import digest_contents, whole
from featx.engines import Engine, choose_engine, compile_graph, effective_precision
from featx.errors import StoreError
from featx.files import MTIME_TRUST_NS, StatIndex, atomic_path, digest_file, digest_json
from featx.images import Alter, Batch, decoder_identity, decoder_version, iter_batches
from featx.options import FeaturesOptions
from featx.progress import Progress, no_progress
from featx.store import FeatureStore, FeatureTable, Key, Leases, StoredFeatures, TableWriter, identities

_CLAIM = 512  # images a process reserves at a time
_WAIT = 0.5  # seconds between looks at what other processes have finished
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a run would do, decided before anything is computed.

    rows : positions in `ImageSet.paths` to compute, one per digest; outputs : the layers and poolings that miss any
    unique : different readable images; bytes : that the new features will take on disk (0 while a shape is unknown)
    seconds : it will take at the rate of the last run (None before one); free_bytes : on the cache's disk
    """

    rows: np.ndarray
    outputs: tuple[Output, ...]
    unique: int
    duplicates: int
    bytes: int
    reason: str
    seconds: float | None = None
    free_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        """What `featx extract --dry-run --json` prints; what only a first run can tell is None."""
        known = self.bytes > 0 or not len(self.rows)
        return {
            "reason": self.reason,
            "rows": len(self.rows),
            "reused": self.unique - len(self.rows),
            "duplicates": self.duplicates,
            "seconds": self.seconds,
            "bytes": self.bytes if known else None,
            "free_bytes": self.free_bytes,
        }


@dataclass
class Extraction:
    """The features of an image set, and how they came to be.

    Attributes
    ----------
    images : the `ImageSet`: paths, labels, classes and what else is known of each image
    bad : {"path", "reason"} of every image that could not be read
    outputs : the layers and poolings that were asked for
    computed, reused : different images that passed the network now, and that were in the store already
    duplicates : readable images that have the content of another one
    seconds : of the whole, and `stages` of decoding, inference and writing
    store : the `FeatureStore`; digests, readable : 'S32' (n,) and bool (n,), by which its rows are found
    views : uint16 (n,), which view of its image a row is; 0 where the rows are the images themselves
    """

    images: ImageSet
    digests: np.ndarray
    readable: np.ndarray
    bad: list[dict[str, str]]
    outputs: tuple[Output, ...]
    options: FeaturesOptions
    store: FeatureStore
    spec: BackboneSpec
    engine: str
    duplicates: int = 0
    computed: int = 0
    reused: int = 0
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "infer": 0.0, "write": 0.0})
    views: np.ndarray | int = 0

    def features(self, output: Output, rows: np.ndarray) -> StoredFeatures:
        """The stored features of some rows of `images` (positions), not yet read."""
        return self.store.table(output.layer, output.pooling).read(self.digests[rows], self.view(rows))

    def view(self, rows: np.ndarray) -> np.ndarray:
        """Which view of its image each of these rows is: uint16 (n,)."""
        return np.asarray(np.broadcast_to(np.asarray(self.views, np.uint16), len(self.digests))[rows])

    def as_json(self) -> dict[str, Any]:
        """What `featx extract --json` prints."""
        layers = {}
        for output in self.outputs:
            table = self.store.table(output.layer, output.pooling)
            shape = [len(np.unique(self.digests[self.readable])), *(table.parts[0].row_shape if table.parts else ())]
            dtype = str(np.result_type(*{part.dtype for part in table.parts})) if table.parts else None
            layers[output.name] = {"shape": shape, "dtype": dtype, "path": str(table.directory)}
        return {
            "images": int(self.readable.sum()),
            "duplicates": self.duplicates,
            "computed": self.computed,
            "reused": self.reused,
            "bad": self.bad,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.computed / self.seconds, 1) if self.computed and self.seconds else None,
            "stages": {name: round(value, 3) for name, value in self.stages.items()},
            "engine": self.engine,
            "store": str(self.store.directory),
            "layers": layers,
        }


@dataclass(frozen=True)
class Job:
    """Everything that is settled before the first image is decoded."""

    options: FeaturesOptions
    spec: BackboneSpec
    outputs: tuple[Output, ...]
    engine: str
    store: FeatureStore
    index: StatIndex
    decoder: str
    augmenter: Augmenter | None = None
    began: int = field(default_factory=time.time_ns)


def plan(images: ImageSet, options: FeaturesOptions, progress: Progress = no_progress) -> Plan:
    """What `extract` would do; nothing is computed."""
    job = settle(options)
    digests, bad = _digest(images, job, progress)
    return estimate(plan_extraction(job.store, job.outputs, digests, bad), job)


def estimate(found: Plan, job: Job) -> Plan:
    """A plan with the seconds that it will take and the space that there is."""
    rate = usual_rate(job.index, job.store)
    seconds = len(found.rows) / rate if rate else None if len(found.rows) else 0.0
    return replace(found, seconds=seconds, free_bytes=_free_bytes(job.store.directory))


def usual_rate(index: StatIndex, store: FeatureStore) -> float | None:
    """Images per second of the last extraction into a store, by this machine's memory; None before one."""
    rate: float | None = index.recall("images_per_second", store.key.digest)
    return rate


def extract(images: ImageSet, options: FeaturesOptions, progress: Progress = no_progress) -> Extraction:
    """Make sure that the store holds the features of every readable image.

    Raises
    ------
    DataError
        When no image can be read, or a class is left without one.
    """
    start = time.perf_counter()
    job = settle(options)
    digests, bad = _digest(images, job, progress)
    todo = plan_extraction(job.store, job.outputs, digests, bad)
    done = Extraction(
        images, digests, np.ones(len(images), bool), [], job.outputs, options, job.store, job.spec, job.engine
    )
    compute(todo, job, bad, done, progress)
    _conclude(done, bad, todo)
    done.seconds = time.perf_counter() - start
    return done


def compute(todo: Plan, job: Job, bad: dict[int, str], done: Extraction, progress: Progress) -> None:
    """Compute and write the planned rows of `done`, if there are any, and count them there.

    bad : rows that cannot be read, and why; those that show it now are added
    """
    if not len(todo.rows):
        return
    start = time.perf_counter()
    _check_space(todo, job.store.directory)
    made_of = {**asdict(job.spec), "engine": job.engine, "resize": job.options.resize}
    job.store.open(made_of | ({"augment": job.augmenter.as_json()} if job.augmenter else {}))
    _compute(todo, job, bad, done, progress)
    if done.computed:
        rate = done.computed / (time.perf_counter() - start)
        job.index.remember("images_per_second", job.store.key.digest, rate)


def settle(options: FeaturesOptions) -> Job:
    """Decide all that can be decided before an image is looked at."""
    cache = Path(options.cache)
    index = StatIndex(cache / "index.sqlite")
    spec = resolve(options)
    outputs = resolve_outputs(options, spec)
    key = make_key(options, spec, outputs, index)
    return Job(
        options, spec, outputs, choose_engine(options.engine), FeatureStore(cache, key), index, decoder_version()
    )


def make_key(options: FeaturesOptions, spec: BackboneSpec, outputs: tuple[Output, ...], index: StatIndex) -> Key:
    """The key of the features that these options give; needs no TensorFlow once the backbone is known here."""
    identity = identify(spec, index, outputs)
    engine = choose_engine(options.engine)
    precision = effective_precision(engine, options.precision)
    return Key(
        backbone=identity.backbone,
        architecture=identity.architecture,
        weights=identity.weights,
        input_size=identity.input_size,
        resize=options.resize,
        decoder=decoder_identity(),
        preprocessing=identity.preprocessing,
        precision=precision if precision == "float32" else f"{precision}/{engine}",
        storage=options.storage,
    )


def _digest(images: ImageSet, job: Job, progress: Progress) -> tuple[np.ndarray, dict[int, str]]:
    """Digests 'S32' of all files, and the rows already known to be unreadable with the reason."""
    found = _digest_sources(images, job.index, lambda done: progress("hash", done, len(images)))
    bad = dict(found.bad)
    known = job.index.known_bad(job.decoder)
    if known:
        for row in np.flatnonzero(np.isin(found.digest, np.array(list(known), "S32"))):
            bad.setdefault(int(row), known[whole(found.digest[row])])
    return found.digest, bad


def _digest_sources(images: ImageSet, index: StatIndex, progress: Callable[[int], None]) -> Digests:
    if images.contents is not None:
        return digest_contents(images.contents, progress)
    return digest_images(images.paths, index, progress)


def plan_extraction(
    store: FeatureStore,
    outputs: tuple[Output, ...],
    digests: np.ndarray,
    bad: dict[int, str],
    views: np.ndarray | int = 0,
) -> Plan:
    """Decide which rows to compute: of every different readable image (and view), those that any output misses."""
    readable = np.ones(len(digests), bool)
    readable[list(bad)] = False
    rows = np.flatnonzero(readable)
    unique, first = np.unique(identities(digests, views)[rows], return_index=True)
    first = np.sort(rows[first])  # in the order of the files, which the disk likes
    tables = {output: store.table(output.layer, output.pooling) for output in outputs}
    view = np.broadcast_to(views, len(digests))
    absent = {output: table.missing(digests[first], view[first]) for output, table in tables.items()}
    wanted = tuple(output for output in outputs if absent[output].any())
    missing = np.logical_or.reduce([absent[output] for output in outputs])
    size = sum(int(absent[output].sum()) * _row_bytes(tables[output]) for output in wanted)
    what = "images" if np.ndim(views) == 0 else "views"
    reason = (
        f"{int(missing.sum())} of {len(unique)} {what} lack {', '.join(o.name for o in wanted)}"
        if wanted
        else f"all {len(unique)} {what} have their features"
    )
    return Plan(first[missing], wanted, len(unique), len(rows) - len(unique), size, reason)


def _row_bytes(table: FeatureTable) -> int:
    if not table.parts:
        return 0
    part = table.parts[-1]
    return int(np.prod(part.row_shape)) * part.dtype.itemsize


def _free_bytes(directory: Path) -> int:
    place = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    return shutil.disk_usage(place).free


def _check_space(plan: Plan, directory: Path) -> None:
    free = _free_bytes(directory)
    if plan.bytes > free:
        raise StoreError(
            f"The features of {len(plan.rows)} images take {plan.bytes / 1e9:.1f} GB and the disk of {directory} has "
            f"{free / 1e9:.1f} GB free. Free some space, or choose another folder with --cache."
        )


def open_engine(outputs: tuple[Output, ...], spec: BackboneSpec, options: FeaturesOptions, graph: Path) -> Engine:
    """The cut network, ready to run. It is built once: its converted graph and `.keras` file are kept in `graph`."""
    engine = choose_engine(options.engine)
    precision = effective_precision(engine, options.precision)
    return compile_graph(
        engine,
        lambda: _save_network(spec, outputs, graph),
        graph / _graph_name(outputs),
        precision,
        options.infer_batch,
    )


def _save_network(spec: BackboneSpec, outputs: tuple[Output, ...], graph: Path) -> Any:
    """Build the cut network and keep it as a `.keras` file, which bundles are made of."""
    model = cut(spec, outputs)
    path = graph / f"{_graph_name(outputs)}.keras"
    if not path.exists():
        with atomic_path(path) as temporary:
            model.save(temporary)
    return model


def _graph_name(outputs: tuple[Output, ...]) -> str:
    return digest_json([output.name for output in outputs])[:16]


def _compute(todo: Plan, job: Job, bad: dict[int, str], done: Extraction, progress: Progress) -> None:
    """Decode, infer and write the planned rows; others may share the work, and what they finish counts as reused."""
    tables = {output.name: job.store.table(output.layer, output.pooling) for output in todo.outputs}
    engine = open_engine(todo.outputs, job.spec, job.options, job.store.graph)
    writer = TableWriter(tables, job.options.storage, job.options.compression)
    total, size, resize = len(todo.rows), job.spec.input_size, job.options.resize
    alter = _alter(job.augmenter, done)
    with job.store.leases() as leases, writer:
        queue = _WorkQueue(todo.rows, done, tables, leases)
        while queue.remaining:
            claims, workers = queue.claim(), job.options.workers
            for decoded in iter_batches(done.images.sources, claims, size, resize, engine.handover, workers, alter):
                leases.give_sign()
                batch = _leave_changed(decoded, job, done)
                _note_bad(batch, job, bad, done)
                _infer(batch, engine, tables, writer, done)
                reused = todo.unique - total + queue.done_by_others
                progress("extract", done.computed + queue.done_by_others, total, reused=reused, bad=len(bad))
            if queue.remaining:  # all of it is leased by others: show them ours, then look again
                writer.wait()
                queue.release()
                time.sleep(_WAIT)
        progress("extract", total, total)
    done.stages["write"] = writer.seconds


def _alter(augmenter: Augmenter | None, done: Extraction) -> Alter | None:
    if augmenter is None:
        return None
    views = done.view(np.arange(len(done.digests)))
    return lambda row, image: augmenter(image, bytes(done.digests[row]), int(views[row]))


def _leave_changed(batch: Batch, job: Job, done: Extraction) -> Batch:
    """Take out images whose file was replaced since it was hashed: their pixels are not those of their digest."""
    if done.images.contents is not None:
        return batch
    rows = [*batch.rows.tolist(), *(row for row, _ in batch.bad)]
    changed = {row for row in rows if _has_changed(done.images.paths[row], done.digests[row], job.began)}
    if not changed:
        return batch
    keep = ~np.isin(batch.rows, list(changed))
    bad = [(row, reason) for row, reason in batch.bad if row not in changed]
    bad += [(row, "it was replaced while featx ran: run the same command again") for row in sorted(changed)]
    return replace(batch, rows=batch.rows[keep], images=batch.images[keep], bad=bad, passing=batch.passing | changed)


def _has_changed(path: str, digest: bytes, began: int) -> bool:
    try:
        status = os.stat(path)
        if max(status.st_mtime_ns, status.st_ctime_ns) < began - MTIME_TRUST_NS:
            return False
        return digest_file(Path(path)) != whole(digest)
    except OSError:  # gone, which decoding has noticed if it mattered
        return False


def _note_bad(batch: Batch, job: Job, bad: dict[int, str], done: Extraction) -> None:
    bad |= dict(batch.bad)
    lasting = [(whole(done.digests[row]), reason) for row, reason in batch.bad if row not in batch.passing]
    job.index.remember_bad(job.decoder, lasting)


def _infer(
    batch: Batch, engine: Engine, tables: dict[str, FeatureTable], writer: TableWriter, done: Extraction
) -> None:
    """Features of a batch, of which each table takes the rows that it misses."""
    done.stages["decode"] += batch.seconds
    if not len(batch.rows):
        return
    start = time.perf_counter()
    features = engine.infer(batch.images)
    done.stages["infer"] += time.perf_counter() - start
    digests, views = done.digests[batch.rows], done.view(batch.rows)
    for name, table in tables.items():
        new = np.flatnonzero(table.missing(digests, views))
        if len(new):
            paths = [done.images.paths[row] for row in batch.rows[new]]
            writer.add(name, digests[new], paths, features[name][new], views[new])
    done.computed += len(batch.rows)


class _WorkQueue:
    """Rows still to compute, handed out in reservations that other processes respect."""

    def __init__(self, rows: np.ndarray, done: Extraction, tables: dict[str, FeatureTable], leases: Leases) -> None:
        self._done, self._tables, self._leases = done, tables, leases
        self._open = deque(rows[start : start + _CLAIM] for start in range(0, len(rows), _CLAIM))
        self._mine = deque[np.ndarray](maxlen=64)  # enough to cover what is not yet in a part
        self.done_by_others = 0

    @property
    def remaining(self) -> int:
        """Reservations not yet handed out."""
        return len(self._open)

    def claim(self) -> Iterator[int]:
        """Rows to compute now. Ends when nothing is left, or when others work on all that is left."""
        for _ in range(len(self._open)):
            chunk, leased = self._reserve(self._open.popleft())
            if len(leased):
                self._open.append(leased)
            yield from chunk.tolist()

    def release(self) -> None:
        """End the own reservations: all of their rows are visible, or of images that cannot be read."""
        self._mine.clear()
        self._leases.claim(np.empty(0, "S32"))

    def _reserve(self, chunk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with self._leases.exclusive():
            for table in self._tables.values():
                table.refresh()
            names, views = self._done.digests[chunk], self._done.view(chunk)
            absent = np.logical_or.reduce([table.missing(names, views) for table in self._tables.values()])
            self.done_by_others += int((~absent).sum())
            others = np.isin(names, self._leases.of_others())
            self._mine.append(names[absent & ~others])
            self._leases.claim(np.concatenate(self._mine))
        return chunk[absent & ~others], chunk[absent & others]


def _conclude(done: Extraction, bad: dict[int, str], todo: Plan) -> None:
    _spread_bad(done.digests, bad)
    done.readable[list(bad)] = False
    done.bad = [{"path": done.images.paths[row], "reason": bad[row]} for row in sorted(bad)]
    require_usable(done.images, done.readable)
    unique = len(np.unique(done.digests[done.readable]))
    done.duplicates = int(done.readable.sum()) - unique
    done.reused = unique - done.computed
    _logger.info("%s; computed %d, reused %d, bad %d", todo.reason, done.computed, done.reused, len(bad))
    if done.computed:
        spent = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in done.stages.items())
        slowest = max(done.stages, key=lambda stage: done.stages[stage])
        _logger.info("%s: the bottleneck is %s", spent, slowest)


def _spread_bad(digests: np.ndarray, bad: dict[int, str]) -> None:
    """A copy of a bad image is bad for the same reason: only one of them was decoded."""
    reasons = {bytes(digests[row]): reason for row, reason in bad.items() if digests[row] != b""}
    if reasons:
        for row in np.flatnonzero(np.isin(digests, np.array(list(reasons), "S32"))):
            bad.setdefault(int(row), reasons[bytes(digests[row])])


def frozen_files(extraction: Extraction, outputs: tuple[Output, ...]) -> dict[str, Path]:
    """The network cut at these outputs as files of a bundle: `backbone.keras`, and `graph` where the engine has one."""
    graph = extraction.store.graph
    name = _graph_name(outputs)
    if not (graph / f"{name}.keras").exists():
        _save_network(extraction.spec, outputs, graph)
    files = {"backbone.keras": graph / f"{name}.keras"}
    if extraction.engine == "openvino":
        open_engine(outputs, extraction.spec, extraction.options, graph)  # converts where it has not been
        files["graph"] = graph / name
    return files
