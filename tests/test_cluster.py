"""Extraction on a cluster: how work is shared out, workers that die, and what is left when a run ends early.

Most tests have a cluster of workers in this process. Those that are slow have Ray: two nodes on this machine.
"""

from __future__ import annotations

import heapq
import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cached import extract, extract_views, list_stores, plan
from conftest import environment, save_backbone
from fitted import Outcome, call
from PIL import Image

from featx.api.functions import extract as extract_files
from featx.config import AugmentOptions, DataOptions, FeaturesOptions, Pipeline, check_options
from featx.dataset import ImageSet, read_images
from featx.errors import ClusterError, EngineError, FeatxError, StoreError, UsageError
from featx.extraction.flow import Extraction
from featx.extraction.ray import coordinator, placement
from featx.extraction.ray import flow as package
from featx.extraction.ray.placement import Machine, WorkerPlacement, place_workers, reservation_size
from featx.extraction.ray.session import Cluster, WorkerDied
from featx.extraction.ray.worker import Worker
from featx.extraction.reservations import Reservations
from featx.io.digests import digest_file
from featx.io.remote import shared_remote
from featx.store.cache import Cache
from featx.store.store import FeatureStore
from featx.store.writer import PART_BYTES
from featx.workflow.prepare import augmenter_of

# --- sharing out -------------------------------------------------------------------------------------------------


def cores_of(placements: Sequence[WorkerPlacement]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for one in placements:
        found.setdefault(one.node, []).append(one.threads)
    return found


def test_every_core_has_a_worker_unless_fewer_are_wanted() -> None:
    machines = [Machine("a", "one", 4), Machine("b", "two", 2), Machine("c", "head", 0)]
    assert cores_of(place_workers(machines, 0, use_gpus=True)) == {"a": [1, 1, 1, 1], "b": [1, 1]}
    assert cores_of(place_workers(machines, 3, use_gpus=True)) == {"a": [2, 2], "b": [2]}
    assert cores_of(place_workers(machines, 1, use_gpus=True)) == {"a": [4]}
    assert cores_of(place_workers([Machine("a", "one", 7)], 3, use_gpus=True)) == {"a": [3, 2, 2]}


def test_cores_are_never_oversold_and_none_lies_idle_where_a_worker_is() -> None:
    for cores in product(range(6), repeat=3):
        machines = [Machine(str(number), "host", count) for number, count in enumerate(cores)]
        for wanted in range(1, sum(cores) + 1):
            placed = place_workers(machines, wanted, use_gpus=False)
            assert len(placed) == wanted
            for node, threads in cores_of(placed).items():
                assert sum(threads) == cores[int(node)]
                assert max(threads) - min(threads) <= 1


def test_a_worker_per_gpu_where_gpus_may_be_used() -> None:
    machines = [Machine("a", "one", 16, gpus=2), Machine("b", "two", 3)]
    placed = place_workers(machines, 0, use_gpus=True)
    assert [(one.node, one.threads, one.gpus) for one in placed] == [("a", 8, 1), ("a", 8, 1), *[("b", 1, 0)] * 3]
    assert len(place_workers(machines, 0, use_gpus=False)) == 19
    assert {one.gpus for one in place_workers(machines, 0, use_gpus=False)} == {0}


def test_what_a_cluster_cannot_give_is_refused() -> None:
    with pytest.raises(UsageError, match=r"cluster_workers must be at most 2, .* got 3"):
        place_workers([Machine("a", "one", 2)], 3, use_gpus=True)
    with pytest.raises(ClusterError, match="No machine of the cluster has a core"):
        place_workers([Machine("a", "one", 0)], 0, use_gpus=True)


def simulate(rows: int, rates: Sequence[float], row_bytes: float) -> tuple[list[int], list[float]]:
    """Sizes of all reservations, and when each worker ends, of workers that never wait for the coordinator."""
    known: list[float | None] = [None] * len(rates)
    sizes, ends = [], [0.0] * len(rates)
    events = [(0.0, number) for number in range(len(rates))]
    while rows:
        now, number = heapq.heappop(events)
        everyone = [rate for rate in known if rate is not None]
        total = sum(everyone) / len(everyone) * len(rates) if everyone else 0.0
        size = reservation_size(rows, known[number], total, row_bytes)
        assert 1 <= size <= rows
        rows -= size
        sizes.append(size)
        ends[number] = now + size / rates[number]
        known[number] = rates[number]
        heapq.heappush(events, (ends[number], number))
    return sizes, ends


@pytest.mark.parametrize("rates", [[40.0], [40.0, 40.0], [10.0] * 16, [5.0, 20.0, 400.0]])
def test_reservations_make_whole_parts_and_end_together(rates: list[float]) -> None:
    rows = int(sum(rates) * 600)  # ten minutes
    sizes, ends = simulate(rows, rates, row_bytes=2560)
    assert sum(sizes) == rows
    assert max(ends) - min(ends) <= 2 * placement.LEAST_SECONDS + placement.FIRST / min(rates)
    assert max(ends) <= 600 + 2 * placement.LEAST_SECONDS + placement.FIRST / min(rates)
    assert max(sizes) <= max(rates) * placement.MOST_SECONDS
    whole = rows / (sum(rates) / len(rates) * placement.MOST_SECONDS)
    assert len(sizes) <= 1.5 * whole + 10 * len(rates)


def test_reservations_of_large_maps_are_of_the_bytes_of_a_part() -> None:
    row_bytes = 200_000.0
    sizes, _ = simulate(10_000, [100.0, 100.0], row_bytes)
    assert max(sizes) == PART_BYTES // row_bytes


# --- reservations ------------------------------------------------------------------------------------------------


@pytest.fixture
def options(tiny_backbone: Path, cache: Path) -> FeaturesOptions:
    return FeaturesOptions(backbone=str(tiny_backbone), layer=("high",), cache=str(cache))


def read(folder: Path) -> ImageSet:
    return read_images(str(folder), DataOptions())


def test_reservations_are_handed_out_once_and_leased_until_they_are_finished(
    options: FeaturesOptions, image_folder: Callable[..., Path]
) -> None:
    done = extract(read(image_folder(10)), options)
    store = Cache(options.cache).store(done.store.key)
    shutil.rmtree(store.directory / "high@avg")
    table = store.table("high", "avg")
    with store.leases() as mine, store.leases() as other:
        queue = Reservations(np.arange(20), done.request, {"high@avg": table}, mine)
        other.claim(done.digests[[2, 3]])
        first = queue.reserve(6)
        assert first.tolist() == [0, 1, 4, 5]  # 2 and 3 are another's
        second = queue.reserve(14)
        assert sorted(second.tolist()) == list(range(6, 20))
        assert other.of_others().tolist() == sorted(done.digests[[*first, *second]].tolist())
        assert (len(queue.reserve(5)), queue.remaining) == (0, 2)
        queue.finish(first)
        queue.give_back(second[:3])
        other.claim(np.empty(0, "V32"))
        queue.look_again()
        third = queue.reserve(100)
        fourth = queue.reserve(100)
        assert sorted([*third, *fourth]) == [2, 3, 6, 7, 8]
        assert other.of_others().tolist() == sorted(done.digests[[2, 3, *range(6, 20)]].tolist())
        queue.release()
        assert not len(other.of_others())
        assert queue.remaining == 0


# --- workers in this process -------------------------------------------------------------------------------------


class Inline(Cluster):
    """A cluster in this process, which computes when an answer is asked for.

    before : called before every reservation with its number; what it raises is what becomes of the call
    """

    def __init__(self, before: Callable[[int], None] = lambda _: None, cores: Sequence[int] = (1, 1)) -> None:
        self.cores, self.before = list(cores), before
        self.calls: dict[object, tuple[Any, str, tuple[Any, ...]]] = {}
        self.dead: set[Any] = set()
        self.hired: list[WorkerPlacement] = []
        self.reservations = 0
        self.most_in_flight = 0
        self.seen: list[np.ndarray] = []

    def machines(self) -> list[Machine]:
        return [Machine(f"node{number}", f"host{number}", cores) for number, cores in enumerate(self.cores)]

    def hire(self, kind: type, placement: WorkerPlacement, *arguments: Any) -> Any:
        self.hired.append(placement)
        return kind(*arguments)

    def call(self, worker: Any, method: str, *arguments: Any) -> Any:
        answer = object()
        self.calls[answer] = worker, method, arguments
        self.most_in_flight = max(self.most_in_flight, sum(one[0] is worker for one in self.calls.values()))
        return answer

    def interrupt(self, worker: Any, method: str) -> None:
        getattr(worker, method)()

    def dismiss(self, worker: Any) -> None:
        self.dead.add(worker)

    def wait(self, answers: Sequence[Any], count: int, seconds: float) -> list[Any]:
        return list(answers[:count])

    def result(self, answer: Any) -> Any:
        worker, method, arguments = self.calls.pop(answer)
        if worker in self.dead:
            raise WorkerDied("it is dead already")
        try:
            if method == "compute":
                self.reservations += 1
                self.before(self.reservations)
            return getattr(worker, method)(*arguments)
        except WorkerDied:
            self.dead.add(worker)
            raise


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch, options: FeaturesOptions) -> Callable[..., Extraction]:
    """Extracts on an inline cluster, seven images to a reservation."""
    monkeypatch.setattr(coordinator, "reservation_size", lambda remaining, *_: min(remaining, 7))
    monkeypatch.setattr(coordinator, "_LOOK", 0.05)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")

    def run(images: ImageSet, cluster: Inline, **more: Any) -> Extraction:
        @contextmanager
        def connect(address: str) -> Iterator[Inline]:
            assert address == "local"
            yield cluster

        monkeypatch.setattr(package, "connect", connect)
        return extract(images, replace(options, cluster="local", **more))

    return run


def rows_of(done: Extraction, number: int = 0) -> np.ndarray:
    return done.features(done.outputs[number], np.flatnonzero(done.readable)).asarray()


def in_one_process(images: ImageSet, options: FeaturesOptions, place: Path, **more: Any) -> Extraction:
    """The same in a cache of its own, which has the converted networks and no features."""
    shutil.copytree(options.cache, place, ignore=shutil.ignore_patterns("*@*"))
    return extract(images, replace(options, cache=str(place), **more))


def some(images: ImageSet, count: int) -> ImageSet:
    """The first images, without labels: a class may be left without any."""
    return replace(images.take(np.arange(count)), labels=None, classes=())


def clean(cache: Path) -> bool:
    return all(damage is None for store in list_stores(cache) for _, damage in store.verify())


def write_bad_ones(folder: Path) -> None:
    for name in ("cat/3-broken.png", "dog/9-broken.png"):
        (folder / name).write_bytes(b"no image " + name.encode())


def test_rows_are_those_of_one_process(
    on: Callable[..., Extraction],
    options: FeaturesOptions,
    image_folder: Callable[..., Path],
    tmp_path: Path,
) -> None:
    folder = image_folder(30)
    write_bad_ones(folder)
    shutil.copy(next(folder.glob("cat/*1.png")), folder / "dog" / "twin.png")
    images, cluster = read(folder), Inline()
    layers = ("high@avg", "low@flatten", "low@grid:2")
    extract(some(images, 12), options)  # one of the outputs has some of the rows already
    done = on(images, cluster, layer=layers)
    other = in_one_process(images, options, tmp_path / "other", layer=layers)
    for number in range(3):
        np.testing.assert_array_equal(rows_of(done, number), rows_of(other, number))
    assert (done.computed, done.reused, done.duplicates, done.bad) == (60, 0, 1, other.bad)
    assert done.store.table("high", "avg").rows == 60  # those 12 were not written twice
    assert cluster.most_in_flight == 2
    assert [one.threads for one in cluster.hired] == [1, 1]
    assert clean(Path(options.cache))
    assert not list(done.store.directory.glob("leases/*"))
    assert sum(worker["images"] for worker in done.as_json()["workers"]) == 60
    assert min(worker.images for worker in done.workers) >= 21
    assert plan(images, replace(options, layer=layers)).reason == "all 60 images have their features"
    again = on(images, Inline(cores=()), layer=layers)  # nothing to compute: nobody is asked
    assert (again.computed, again.reused, again.workers) == (0, 60, ())


def test_a_worker_that_dies_loses_nothing(
    on: Callable[..., Extraction],
    options: FeaturesOptions,
    image_folder: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    images = read(image_folder(30))

    def die(number: int) -> None:
        if number in {2, 5}:
            raise WorkerDied("killed")

    cluster = Inline(die)
    done = on(images, cluster)
    assert (done.computed, done.reused) == (60, 0)
    assert len(cluster.hired) == 4
    assert caplog.text.count("A worker on host") == 2
    assert "has died (killed). Its 14 images are computed again." in caplog.text
    np.testing.assert_array_equal(rows_of(done), rows_of(in_one_process(images, options, tmp_path / "other")))
    assert done.store.table("high", "avg").rows == 60


def test_what_a_worker_wrote_before_it_died_is_not_computed_again(
    on: Callable[..., Extraction], image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = Worker.compute
    died: list[int] = []

    def compute_and_die(self: Worker, reservation: Any) -> Any:
        report = compute(self, reservation)
        if not died:
            died.append(report.computed)
            raise WorkerDied("between writing and reporting")
        return report

    monkeypatch.setattr(Worker, "compute", compute_and_die)
    done = on(read(image_folder(20)), Inline())
    assert died == [7]
    assert (done.computed, done.reused) == (33, 7)
    assert done.store.table("high", "avg").rows == 40


def test_a_worker_that_never_starts_does_not_hold_up_the_end(
    on: Callable[..., Extraction], image_folder: Callable[..., Path]
) -> None:
    """Its cores are taken by others, maybe for hours, while another worker has computed everything."""
    hired: list[Any] = []

    class Busy(Inline):
        idle = 0

        def hire(self, kind: type, placement: WorkerPlacement, *arguments: Any) -> Any:
            hired.append(super().hire(kind, placement, *arguments))
            return hired[-1]

        def wait(self, answers: Sequence[Any], count: int, seconds: float) -> list[Any]:
            ready = [answer for answer in answers if self.calls[answer][0] is hired[0]]
            self.idle += not ready
            assert self.idle < 20, "it waits for the other worker"
            return ready[:count]

    cluster = Busy()
    done = on(read(image_folder(10)), cluster)
    assert (done.computed, len(done.workers), cluster.dead) == (20, 1, {hired[1]})


def test_a_machine_that_is_gone_is_left_out(on: Callable[..., Extraction], image_folder: Callable[..., Path]) -> None:
    def lose_a_machine(number: int) -> None:
        if number == 3:
            cluster.cores.pop()
        if number >= 3 and not cluster.dead:
            raise WorkerDied("gone")

    cluster = Inline(lose_a_machine, cores=(1, 1))
    done = on(read(image_folder(30)), cluster)
    assert (done.computed, len(done.workers)) == (60, 2)


def test_no_worker_left_is_a_sentence_and_the_next_run_goes_on(
    on: Callable[..., Extraction], options: FeaturesOptions, image_folder: Callable[..., Path]
) -> None:
    images = read(image_folder(30))

    def die(number: int) -> None:
        if number > 3:
            cluster.cores.clear()
            raise WorkerDied("the power is off")

    cluster = Inline(die)
    with pytest.raises(ClusterError, match=r"No worker is left; .* \(the power is off\)\. What was finished is kept"):
        on(images, cluster)
    assert clean(Path(options.cache))
    here = extract(images, options)  # in one process
    assert (here.computed, here.reused) == (39, 21)
    assert not list(here.store.directory.glob("leases/*"))


def test_images_that_kill_every_worker_end_the_run_when_all_others_are_done(
    on: Callable[..., Extraction], options: FeaturesOptions, image_folder: Callable[..., Path], monkeypatch: Any
) -> None:
    images = read(image_folder(30))
    poison = images.paths[17]
    compute = Worker.compute

    def compute_unless(self: Worker, reservation: Any) -> Any:
        if poison in reservation.paths:
            raise WorkerDied("out of memory")
        return compute(self, reservation)

    monkeypatch.setattr(Worker, "compute", compute_unless)
    with pytest.raises(ClusterError, match=r"3 workers have died over the same .*\(out of memory\).*--cluster-workers"):
        on(images, Inline(cores=(1, 1, 1)))
    monkeypatch.undo()
    left = plan(images, options)
    assert images.paths.index(poison) in left.rows
    assert len(left.rows) <= 14


@pytest.mark.parametrize(
    ("error", "expected", "said"),
    [
        (StoreError("No space left on the disk."), StoreError, "On host1: No space left on the disk."),
        (OSError(116, "Stale file handle"), ClusterError, "A worker on host1 failed: OSError: .*Stale file handle"),
    ],
)
def test_what_a_worker_raises_ends_the_run_and_names_its_machine(
    on: Callable[..., Extraction],
    options: FeaturesOptions,
    image_folder: Callable[..., Path],
    error: Exception,
    expected: type[FeatxError],
    said: str,
) -> None:
    images = read(image_folder(20))

    def fail(number: int) -> None:
        if number == 3:
            raise error

    with pytest.raises(expected, match=said):
        on(images, Inline(fail))
    assert len(plan(images, options).rows) == 40 - 14  # what was reported is there


def test_ctrl_c_lets_workers_write_what_they_have(
    on: Callable[..., Extraction],
    options: FeaturesOptions,
    image_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = read(image_folder(20))
    stopped: list[Worker] = []
    monkeypatch.setattr(Worker, "stop", lambda self: stopped.append(self))

    def interrupt(number: int) -> None:
        if number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        on(images, Inline(interrupt))
    assert len(set(map(id, stopped))) == 2
    assert len(plan(images, options).rows) == 7  # of the one that was interrupted; the others have ended theirs
    assert clean(Path(options.cache))


def test_a_worker_that_is_told_to_stop_takes_no_further_image(
    on: Callable[..., Extraction], options: FeaturesOptions, image_folder: Callable[..., Path], monkeypatch: Any
) -> None:
    images = read(image_folder(20))
    compute, reports = Worker.compute, []

    def compute_stopped(self: Worker, reservation: Any) -> Any:
        self.stop()
        reports.append(compute(self, reservation))
        raise StoreError("enough")

    monkeypatch.setattr(Worker, "compute", compute_stopped)
    with pytest.raises(StoreError, match="enough"):
        on(images, Inline())
    assert reports[0].computed == 0
    assert len(plan(images, options).rows) == 40


def test_other_processes_leave_alone_what_is_handed_out(
    on: Callable[..., Extraction], options: FeaturesOptions, image_folder: Callable[..., Path]
) -> None:
    images = read(image_folder(20))
    store = plan_store(images, options)
    seen: list[int] = []
    with store.leases() as other:
        done = on(images, Inline(lambda _: seen.append(len(other.of_others()))))
    assert (done.computed, done.reused) == (39, 1)
    assert seen[0] >= 4 * 7  # two reservations of each worker
    assert len(seen) == 6
    assert min(seen) >= 4  # at least the one that is computed


def plan_store(images: ImageSet, options: FeaturesOptions) -> FeatureStore:
    """The store of these options, with its folder."""
    return extract(some(images, 1), options).store


def test_the_cluster_waits_for_another_process_and_counts_its_rows(
    on: Callable[..., Extraction], options: FeaturesOptions, image_folder: Callable[..., Path]
) -> None:
    images = read(image_folder(10))
    store = plan_store(images, options)
    taken = np.array([digest_file(Path(path)) for path in images.paths[3:6]], "V32")
    with store.leases() as other:
        other.claim(taken)

        def finish() -> None:
            give_up = time.monotonic() + 20
            while store.table("high", "avg").rows < 17 or len(other.of_others()):
                assert time.monotonic() < give_up, "the cluster holds its leases while it waits"
                time.sleep(0.02)
            other.claim(np.empty(0, "V32"))

        thread = threading.Thread(target=finish)
        thread.start()
        found = on(images, Inline())
        thread.join()
    assert (found.computed, found.reused) == (19, 1)


def test_views_are_computed_on_a_cluster_too(
    on: Callable[..., Extraction],
    options: FeaturesOptions,
    image_folder: Callable[..., Path],
    tmp_path: Path,
) -> None:
    images = read(image_folder(8))
    augmenter = augmenter_of(Pipeline(augment=AugmentOptions(views=3, rotation=30, flip="horizontal")))
    rows = np.arange(16)
    done = on(images, Inline())
    views = extract_views(done, rows, augmenter, 3)  # its options say: on the cluster
    assert sum(worker.images for worker in views.extraction.workers) == 48
    here = in_one_process(images, options, tmp_path / "other")
    other = extract_views(here, rows, augmenter, 3)
    np.testing.assert_array_equal(views.features(done.outputs[0]).asarray(), other.features(here.outputs[0]).asarray())


def test_images_on_urls_are_read_where_they_are_computed(
    on: Callable[..., Extraction], options: FeaturesOptions, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    store = pytest.importorskip("fsspec").filesystem("memory")
    folder = image_folder(8)
    for path in folder.rglob("*.png"):
        store.pipe(f"/cluster/{path.parent.name}/{path.name}", path.read_bytes())
    try:
        done = on(read_images("memory://cluster", DataOptions()), Inline())
    finally:
        store.rm("/cluster", recursive=True)
    assert {path.split(":")[0] for path in done.images.paths} == {"memory"}
    np.testing.assert_array_equal(rows_of(done), rows_of(in_one_process(read(folder), options, tmp_path / "other")))


def test_a_worker_of_one_core_reads_several_urls_at_once(
    on: Callable[..., Extraction], image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = pytest.importorskip("fsspec").filesystem("memory")
    for path in image_folder(8).rglob("*.png"):
        store.pipe(f"/several/{path.parent.name}/{path.name}", path.read_bytes())
    original, together, met = shared_remote().read, threading.Barrier(4), []

    def read_together(url: str, most: int | None = None) -> bytes:
        if threading.current_thread().name.startswith("featx-decode") and len(met) < 4:
            with suppress(threading.BrokenBarrierError):
                met.append(together.wait(0.5))
        return original(url, most)

    monkeypatch.setattr(shared_remote(), "read", read_together)
    try:
        done = on(read_images("memory://several", DataOptions()), Inline())
    finally:
        store.rm("/several", recursive=True)
    assert {one.threads for one in place_workers(Inline().machines(), 0, use_gpus=False)} == {1}
    assert (done.computed, len(met) >= 4) == (16, True)


def test_a_replaced_file_is_not_taken_for_the_one_that_was_hashed(
    on: Callable[..., Extraction], image_folder: Callable[..., Path]
) -> None:
    folder = image_folder(10)
    images = read(folder)

    def replace_one(number: int) -> None:
        if number == 1:
            Image.new("RGB", (16, 16), "red").save(images.paths[15])

    done = on(images, Inline(replace_one))
    assert [one["path"] for one in done.bad] == [images.paths[15]]
    assert "it was replaced while featx ran" in done.bad[0]["reason"]
    assert on(images, Inline()).computed == 1


def test_a_machine_with_another_folder_or_other_pixels_is_told_apart(
    on: Callable[..., Extraction], options: FeaturesOptions, image_folder: Callable[..., Path], monkeypatch: Any
) -> None:
    images = read(image_folder(3))
    assignments: list[Any] = []
    hire = Inline.hire

    def lead_astray(self: Inline, kind: type, place: WorkerPlacement, assignment: Any, *more: Any) -> Any:
        assignments.append(assignment)
        wrong = assignment.lease.replace("leases", "elsewhere")
        return hire(self, kind, place, replace(assignment, lease=wrong), *more)

    monkeypatch.setattr(Inline, "hire", lead_astray)
    with pytest.raises(ClusterError, match=r"On host0: .* is not the folder that the command writes to"):
        on(images, Inline())
    monkeypatch.setattr(Inline, "hire", hire)
    worker = Worker(replace(assignments[0], lease=options.backbone), WorkerPlacement("n", "h", 1), "openvino")
    monkeypatch.setattr("featx.extraction.ray.worker.decoder_identity", lambda: "another Pillow")
    with pytest.raises(ClusterError, match=r"differently from the coordinator\. .* same versions of featx and Pillow"):
        worker.start()


def test_warnings_of_workers_are_passed_on_once(
    on: Callable[..., Extraction],
    image_folder: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = save_backbone(tmp_path / "large.keras", scale=1e5)
    images = read(image_folder(10))
    done = on(images, Inline(), backbone=str(large))
    assert rows_of(done).dtype == np.float32
    assert np.abs(rows_of(done)).max() > 65_504
    from_coordinator = [record for record in caplog.records if record.name.endswith("coordinator")]
    assert [record.getMessage() for record in from_coordinator if record.levelno == logging.WARNING] == [
        "high@avg does not fit float16 (values too large or too small for it): stored as float32 from here on."
    ]


def test_an_engine_that_a_worker_lacks_is_an_error_of_its_machine(
    on: Callable[..., Extraction], image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise EngineError("This processor has no bfloat16 arithmetic.")

    monkeypatch.setattr("featx.extraction.ray.worker.open_engine", refuse)
    with pytest.raises(EngineError, match="On host0: This processor has no bfloat16"):
        on(read(image_folder(3)), Inline())


def test_images_in_memory_stay_here(options: FeaturesOptions) -> None:
    from featx.dataset.memory import images_in_memory

    images = images_in_memory(np.zeros((2, 16, 16, 3), np.uint8))
    with pytest.raises(UsageError, match="Images in memory are not sent to a cluster"):
        extract(images, replace(options, cluster="local"))


# --- the command line --------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path, options: FeaturesOptions) -> Callable[..., Outcome]:
    def run(*arguments: object) -> Outcome:
        common = ["extract", "images", "--backbone", options.backbone, "--layer", "high", "--cache", options.cache]
        return call(*common, *map(str, arguments), cwd=tmp_path)

    return run


@pytest.mark.parametrize("address", ["somewhere", "ray://10.0.0.1:10001", "host:port", "http://10.0.0.1:6379", ""])
def test_an_address_that_is_none_is_refused_before_anything_is_read(
    address: str, command: Callable[..., Outcome]
) -> None:
    done = command("--cluster", address)
    assert (done.status, done.out) == (2, "")
    assert done.sentence.startswith("featx: features.cluster must be local or HOST:PORT")
    assert ("leave out ray://" in done.sentence) == address.startswith("ray")


def test_workers_without_a_cluster_are_refused(command: Callable[..., Outcome]) -> None:
    done = command("--cluster-workers", 2)
    assert done.status == 2
    assert "cluster_workers belongs to features.cluster" in done.sentence
    with pytest.raises(UsageError, match="must be at least 0, got -1"):
        check_options(Pipeline(features=FeaturesOptions(cluster="local", cluster_workers=-1)))


def test_without_ray_it_says_what_to_install(
    command: Callable[..., Outcome], image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    image_folder(2)
    monkeypatch.setitem(sys.modules, "ray", None)
    done = command("--cluster", "local")
    assert (done.status, done.out) == (1, "")
    assert done.sentence.endswith("Type: pip install 'featx[ray]'")
    assert command().status == 0
    assert command("--cluster", "local").status == 0  # with nothing to compute Ray is not needed


def test_an_address_where_nobody_answers_is_a_sentence(
    command: Callable[..., Outcome], image_folder: Callable[..., Path]
) -> None:
    pytest.importorskip("ray")
    image_folder(2)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        done = command("--cluster", address)
    assert (done.status, done.out) == (1, "")
    assert done.sentence.startswith(f"featx: Cannot connect to {address}")


def test_the_options_are_keywords_too(
    image_folder: Callable[..., Path], options: FeaturesOptions, on: Callable[..., Extraction], monkeypatch: Any
) -> None:
    folder = image_folder(4)
    on(some(read(folder), 1), Inline())  # sets the inline cluster up
    done = extract_files(
        str(folder), backbone=options.backbone, layer="high", cache=options.cache, cluster="local", cluster_workers=1
    )
    assert (done.computed, [worker.images for worker in done.workers]) == (7, [7])


# --- Ray ---------------------------------------------------------------------------------------------------------

_NODES = """
import os, shutil, sys, tempfile
place = os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="featx-test-", dir="/tmp")
os.mkdir(place + "/ray")
from ray.cluster_utils import Cluster
options = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=options)
node = cluster.add_node(**options)
print(cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "kill":
        cluster.remove_node(node, allow_graceful=False)
        print("killed", flush=True)
cluster.shutdown()
shutil.rmtree(place, ignore_errors=True)
"""
COUNT = 16 * 16


class Nodes:
    """A cluster of two nodes on this machine, one core each."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._line()

    def kill_one(self) -> None:
        """Take the second node off the net, with all its processes."""
        assert self._process.stdin is not None
        self._process.stdin.write("kill\n")
        self._process.stdin.flush()
        assert self._line() == "killed"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    pytest.importorskip("ray")
    env = environment(RAY_USAGE_STATS_ENABLED="0")
    process = subprocess.Popen(
        [sys.executable, "-c", _NODES],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield Nodes(process)
    process.communicate(timeout=60)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that take some time to decode, two of them damaged: a worker is at them when it is killed."""
    folder = tmp_path_factory.mktemp("photos")
    slope = np.add.outer(np.arange(800), np.arange(800)) % 251
    for shade in range(0, 256, 16):
        pixels = np.stack([slope, slope.T, np.full_like(slope, shade)], axis=2).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "png", compress_level=1)
        for number in range(COUNT // 16):
            path = folder / ("cat" if number % 2 else "dog") / f"{shade:03}-{number:02}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(file.getvalue() + b"%d" % number)  # what stands behind a PNG file's end is not decoded
    write_bad_ones(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(
    photos: Path, warm_cache: Path, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[np.ndarray, np.ndarray]:
    """Digests and features of all photos, as one process computes them."""
    place = tmp_path_factory.mktemp("undisturbed") / "cache"
    shutil.copytree(warm_cache, place)
    options = FeaturesOptions(backbone=str(tiny_backbone), layer=("high",), cache=str(place))
    extract(read(photos), options)
    return all_rows(place)


@pytest.fixture
def begin(photos: Path, tmp_path: Path, options: FeaturesOptions) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts an extraction of the photos."""
    running: list[subprocess.Popen[str]] = []

    def start(*more: str) -> subprocess.Popen[str]:
        features = ["--backbone", options.backbone, "--layer", "high", "--cache", options.cache]
        command = [sys.executable, "-m", "featx", "extract", str(photos), *features, "--json", *more]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
            process.communicate()


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    found: dict[str, Any] = json.loads(output)
    return found | {"stderr": errors}


def all_rows(cache: Path) -> tuple[np.ndarray, np.ndarray]:
    (table,) = (table for store in list_stores(cache) for table in store.tables().values() if table.rows)
    digests = np.unique(np.concatenate([part.digest for part in table.parts]))
    return digests, table.read(digests).asarray()


def first_part(cache: Path, process: subprocess.Popen[str]) -> Path:
    """The first part that a worker writes."""
    give_up = time.monotonic() + 60
    while not (parts := list(cache.glob("*/high@avg/*.h5"))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return parts[0]


def check_whole(cache: Path, undisturbed: tuple[np.ndarray, np.ndarray]) -> None:
    digests, features = all_rows(cache)
    np.testing.assert_array_equal(digests, undisturbed[0])
    np.testing.assert_array_equal(features, undisturbed[1])
    assert clean(cache)
    assert not list(cache.glob("*/leases/*"))


@pytest.mark.slow
def test_a_killed_worker_costs_time_alone(
    nodes: Nodes, begin: Callable[..., Any], cache: Path, undisturbed: tuple[np.ndarray, np.ndarray]
) -> None:
    process = begin("--cluster", nodes.address)
    part = first_part(cache, process)
    writer = re.search(r"-(\d+)-[0-9a-f]{8}\.h5$", part.name)
    assert writer is not None
    os.kill(int(writer[1]), signal.SIGKILL)
    done = finish(process)
    assert done["images"] == done["computed"] + done["reused"] == COUNT
    assert [Path(one["path"]).name for one in done["bad"]] == ["3-broken.png", "9-broken.png"]
    assert "has died" in done["stderr"]
    assert len(done["workers"]) == 2
    check_whole(cache, undisturbed)


@pytest.mark.slow
def test_interrupted_on_a_cluster_and_finished_here(
    nodes: Nodes, begin: Callable[..., Any], cache: Path, undisturbed: tuple[np.ndarray, np.ndarray]
) -> None:
    process = begin("--cluster", nodes.address)
    first_part(cache, process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, json.loads(output)["error"]["kind"]) == (130, "interrupted")
    *counts, sentence = errors.strip().splitlines()
    assert sentence == "Interrupted. What was finished is kept: run the same command again to go on."
    assert all(re.fullmatch(r"extract: \d+ of 258 images|", line) for line in counts), errors  # after ten seconds
    kept = len(all_rows(cache)[0])
    assert 0 < kept < COUNT
    done = finish(begin())
    assert (done["computed"], done["reused"]) == (COUNT - kept, kept)
    check_whole(cache, undisturbed)


@pytest.mark.slow
def test_begun_here_and_finished_by_the_node_that_is_left(
    nodes: Nodes,
    begin: Callable[..., Any],
    cache: Path,
    options: FeaturesOptions,
    photos: Path,
    undisturbed: tuple[np.ndarray, np.ndarray],
) -> None:
    images = read(photos)
    extract(some(images, 30), options)
    process = begin("--cluster", nodes.address)
    give_up = time.monotonic() + 60
    while len(list(cache.glob("*/high@avg/*.h5"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.02)
    nodes.kill_one()
    done = finish(process)
    assert done["images"] == done["computed"] + done["reused"] == COUNT
    assert done["reused"] >= 30
    check_whole(cache, undisturbed)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_a_ray_of_this_machine_leaves_nothing_behind(
    begin: Callable[..., Any], cache: Path, undisturbed: tuple[np.ndarray, np.ndarray]
) -> None:
    pytest.importorskip("ray")
    before = set(Path("/tmp").glob("featx-ray-*"))
    done = finish(begin("--cluster", "local", "--cluster-workers", "1"))
    assert done["computed"] == COUNT
    # how far it is, where that takes long, and nothing else
    progress = r"extract: \d+ of \d+ images|extract is done, the next step goes on: \d+ s"
    assert not [line for line in done["stderr"].splitlines() if not re.fullmatch(progress, line)]
    assert len(done["workers"]) == 1
    assert set(Path("/tmp").glob("featx-ray-*")) <= before
    check_whole(cache, undisturbed)
