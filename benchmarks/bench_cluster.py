"""Two workers of one thread each, on a Ray of this machine, against one process on both cores; and a node that dies.

    python benchmarks/bench_cluster.py [--backbone MobileNetV2] [--images 2000] [--rounds 3]
    python benchmarks/bench_cluster.py --kill [--images 5000]

Seconds are those of computing: from the moment the engine is compiled (of the cluster: the first worker is ready) until
all features are in parts. What comes before, hashing, Ray, the engines, is `start`.

With --kill there are two nodes of one core each, and one of them is killed when a third of the images is done; the
store is compared row by row with that of one process.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench_extract import SETTINGS, _options
from harness import compare, in_process, report, write_photos

GOAL = 1.15
_NODES = """
import os, shutil, sys, tempfile
place = os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="featx-bench-", dir="/tmp")
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


def one_process(backbone: str, folder: str, cache: str) -> dict[str, Any]:
    """Extract with all cores."""
    work: Any = importlib.import_module("featx.extraction.work")
    opened: list[float] = []
    open_engine = work.open_engine

    def open_and_tell(*arguments: Any, **more: Any) -> Any:
        engine = open_engine(*arguments, **more)
        opened.append(time.perf_counter())
        return engine

    work.open_engine = open_and_tell
    begin = time.perf_counter()
    done = _extract(backbone, folder, cache)
    return _figures(done, begin, opened[0], time.perf_counter())


def on_cluster(backbone: str, folder: str, cache: str, address: str, workers: int) -> dict[str, Any]:
    """Extract on Ray."""
    ready: list[float] = []
    ends = 0.0

    def note(*_: Any, **counts: int) -> None:
        nonlocal ends
        ends = time.perf_counter()
        if counts.get("workers") and not ready:
            ready.append(ends)

    begin = time.perf_counter()
    done = _extract(backbone, folder, cache, note, cluster=address, cluster_workers=workers)
    return _figures(done, begin, ready[0], ends) | {"least of a worker": min(one.images for one in done.workers)}


def _extract(backbone: str, folder: str, cache: str, progress: Any = None, **more: Any) -> Any:
    from dataclasses import replace

    from featx.config import DataOptions
    from featx.dataset import read_images
    from featx.extraction.flow import extract
    from featx.io.progress import no_progress
    from featx.store.cache import Cache

    options = replace(_options(backbone, "float32", cache), **more)
    with Cache(cache) as opened:
        return extract(read_images(folder, DataOptions()), options, opened, progress or no_progress)


def _figures(done: Any, begin: float, ready: float, end: float) -> dict[str, Any]:
    seconds = end - ready
    (table,) = done.store.tables().values()
    return {
        "seconds": seconds,
        "images_per_second": done.computed / seconds,
        "start": ready - begin,
        **asdict(done.stages),
        "parts": len(table.parts),
    }


def fresh(run: Any, backbone: str, folder: str, graph: str, *more: Any) -> dict[str, Any]:
    """Run a case with a cache of its own, which has the converted network already."""
    import shutil

    with tempfile.TemporaryDirectory() as cache:
        shutil.copytree(graph, cache, dirs_exist_ok=True)
        found: dict[str, Any] = run(backbone, folder, cache, *more)
        return found


def convert(backbone: str, folder: str, cache: str) -> dict[str, Any]:
    """Fill a cache with the converted network and what is known of it, and with no features."""
    _extract(backbone, folder, cache)
    for part in Path(cache).glob("*/*@*/*.h5"):
        part.unlink()
    return {"seconds": 0.0}


def with_a_node_killed(backbone: str, folder: str, cache: str) -> dict[str, Any]:
    """Extract on two nodes, of which one dies on the way."""
    process = subprocess.Popen(
        [sys.executable, "-c", _NODES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    answers = process.stdout
    address = answers.readline().strip()
    killed: list[int] = []

    def note(stage: str, done: int, total: int, /, **_: int) -> None:
        if stage == "extract" and 3 * done > total and not killed:
            print("kill", file=process.stdin, flush=True)
            answers.readline()
            killed.append(done)

    begin = time.perf_counter()
    done = _extract(backbone, folder, cache, note, cluster=address)
    seconds = time.perf_counter() - begin
    process.communicate(timeout=120)
    return {"seconds": seconds, "computed": done.computed, "reused": done.reused, "computed before": killed[0]}


def differences(one: str, other: str) -> dict[str, Any]:
    """Rows that two stores do not share, that differ, or whose checksum mismatch."""
    import numpy as np

    from featx.store.cache import Cache

    tables = []
    for cache in (one, other):
        (store,) = Cache(cache).stores()
        damaged = [damage for _, damage in store.verify() if damage is not None]
        (table,) = store.tables().values()
        digests = np.unique(np.concatenate([part.digest for part in table.parts]))
        tables.append((digests, table.read(digests).asarray(), len(damaged), table.rows))
    (names, rows, *_), (other_names, other_rows, *_) = tables
    same_names = np.array_equal(names, other_names)
    return {
        "seconds": 0.0,
        "rows": len(names),
        "absent": 0 if same_names else len(np.setxor1d(names, other_names)),
        "differ": int((rows != other_rows).any(axis=1).sum()) if same_names else len(names),
        "damaged parts": sum(table[2] for table in tables),
        "doubled": tables[1][3] - len(other_names),
    }


def compare_speeds(arguments: argparse.Namespace, root: str, graph: str) -> None:
    """Print the seconds of one process and of a cluster of two workers."""
    folder = f"{root}/photos"
    common = (arguments.backbone, folder, graph)
    cases: dict[str, Any] = {
        "one process": (fresh, (one_process, *common)),
        "two workers on Ray": (fresh, (on_cluster, *common, "local", 2)),
    }
    results = compare(cases, arguments.rounds)
    ratio = results["two workers on Ray"]["seconds"] / results["one process"]["seconds"]
    report(
        f"Extraction of {arguments.images} JPEG files of 500x400 with {arguments.backbone} on a cluster of one machine",
        results,
        {"two workers of one thread / one process on both cores, seconds": (GOAL, ratio, "max")},
        notes=[
            "Seconds are of computing; start is what comes before: hashing, the engine, on the cluster Ray's workers.",
            "Peak memory does not count Ray's processes.",
        ],
    )


def compare_stores(arguments: argparse.Namespace, root: str, graph: str) -> None:
    """Print what the store of a cluster that lost a node lacks."""
    import shutil

    folder, caches = f"{root}/photos", (f"{root}/one", f"{root}/cluster")
    for cache in caches:
        shutil.copytree(graph, cache)
    results = {
        "one process": in_process(one_process, (arguments.backbone, folder, caches[0])),
        "two nodes, one killed": in_process(with_a_node_killed, (arguments.backbone, folder, caches[1])),
    }
    found = in_process(differences, caches)
    report(
        f"{arguments.images} images on two nodes of one core, one of which is killed",
        results,
        {
            "rows that are in one of the stores alone": (0, found["absent"], "max"),
            "rows with other values than those of one process": (0, found["differ"], "max"),
            "parts that cache verify finds damaged": (0, found["damaged parts"], "max"),
        },
        figures={"rows": found["rows"], "rows that are in two parts": found["doubled"]},
        notes=["Seconds of the cluster are those of the whole, with its start; those of one process are of computing."],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=SETTINGS, default="MobileNetV2")
    parser.add_argument("--images", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kill", action="store_true", help="Two nodes, one of which is killed.")
    arguments = parser.parse_args()
    arguments.images = arguments.images or (5000 if arguments.kill else 2000)
    with tempfile.TemporaryDirectory() as root:
        write_photos(Path(root) / "photos", arguments.images, (200, 160) if arguments.kill else (500, 400))
        write_photos(Path(root) / "warm", 8, (500, 400), seed=1)
        graph = f"{root}/graph"
        in_process(convert, (arguments.backbone, f"{root}/warm", graph))
        (compare_stores if arguments.kill else compare_speeds)(arguments, root, graph)


if __name__ == "__main__":
    main()
