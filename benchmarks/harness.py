"""What every benchmark shares: cases run in turn in processes of their own, medians, ratios, memory, the machine.

A case is a function that returns {"seconds": ..., ...}. It runs in a fresh process, so that its peak memory is its own
and no case warms the caches of another; cases are interleaved (A B A B ...): a machine that slows down slows them all.
Each result has `cpu_seconds` of its process and the children of that, imports and all, beside whatever it measured by
the wall; the load of the machine is looked at before the first case.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# Settings of a machine's shell that slow NumPy's matrix products: every case would suffer, and unevenly.
for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_LOAD = "FEATX_BENCHMARK_LOAD"
Case = Callable[..., dict[str, Any]]
LIBRARIES = (
    "featx",
    "tensorflow",
    "keras",
    "openvino",
    "scikit-learn",
    "numpy",
    "scipy",
    "pillow",
    "h5py",
    "hdf5plugin",
    "ray",
)


def compare(cases: dict[str, tuple[Case, tuple[Any, ...]]], rounds: int = 3) -> dict[str, dict[str, Any]]:
    """Run every case once per round, in turn; returns the median of every number by case, and peak memory in MB."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
    for turn in range(rounds):
        for name, (case, arguments) in cases.items():
            found[name].append(in_process(case, arguments))
            print(f"round {turn + 1}/{rounds} {name}: {found[name][-1]}", file=sys.stderr, flush=True)
    return {name: _medians(results) for name, results in found.items()}


def _medians(results: list[dict[str, Any]]) -> dict[str, Any]:
    first = results[0]
    return {
        name: statistics.median(one[name] for one in results) if isinstance(first[name], int | float) else first[name]
        for name in first
    }


def in_process(case: Case, arguments: tuple[Any, ...] = ()) -> dict[str, Any]:
    """Run a case in a fresh process. Work that prepares the cases goes here too: what this process holds, they inherit.

    (A child starts with the peak memory of its parent, so a parent that has loaded data would count for every case.)
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sender, case, arguments))
    process.start()
    sender.close()
    try:
        result: dict[str, Any] = receiver.recv()
    except EOFError:  # killed, by the system when memory runs out
        process.join()
        result = {"failed": f"the process ended with status {process.exitcode}"}
    process.join()
    if "failed" in result:
        raise SystemExit(f"{case.__name__} failed: {result['failed']}")
    return result


def _run(sender: Any, case: Case, arguments: tuple[Any, ...]) -> None:
    start = cpu_seconds()
    try:
        result = case(*arguments)
    except BaseException as error:
        sender.send({"failed": f"{type(error).__name__}: {error}"})
        raise
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    result.setdefault("cpu_seconds", round(cpu_seconds() - start, 3))
    result["peak_mb"] = round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
    sender.send(result)


def cpu_seconds() -> float:
    """User and system seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def load_before() -> float | None:
    """The load of the machine before the first case; a busy one is named, since seconds of the wall lie there."""
    if _LOAD not in os.environ and hasattr(os, "getloadavg"):
        os.environ[_LOAD] = f"{os.getloadavg()[0]:.2f}"  # what the cases load themselves counts for none of them
        if is_busy(float(os.environ[_LOAD])):
            text = f"The machine is busy (load {os.environ[_LOAD]}): compare CPU seconds, not seconds."
            print(text, file=sys.stderr, flush=True)
    return float(os.environ[_LOAD]) if _LOAD in os.environ else None


def is_busy(load: float, cores: int = 0) -> bool:
    """Whether more than a quarter of the cores had something else to do."""
    return load > 0.25 * (cores or os.cpu_count() or 1)


def run_command(command: Sequence[str], folder: str) -> dict[str, Any]:
    """Run a command to its end in `folder`; returns the seconds of the whole process, its `stdout` and `stderr`."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:6])} ended with status {done.returncode}: {done.stderr[-2000:]}")
    return {"seconds": seconds, "stdout": done.stdout, "stderr": done.stderr}


def featx_command(*arguments: str) -> list[str]:
    """Return the command line `featx ...` of this installation."""
    return [sys.executable, "-m", "featx", *arguments]


def count_imported(command: Sequence[str], folder: str, libraries: Sequence[str]) -> dict[str, Any]:
    """Run a Python command and return which of `libraries` it imported: {"imports <library>": 1 or 0}."""
    done = run_command([command[0], "-X", "importtime", *command[1:]], folder)
    lines = (line.rpartition("|")[2].strip() for line in done["stderr"].splitlines() if line.startswith("import time:"))
    seen = {line.partition(".")[0] for line in lines}
    return {f"imports {library}": int(library in seen) for library in libraries}


load_before()  # of the module: before any case runs


def rows_arguments(description: str | None, rows: Sequence[int], steps: Sequence[str]) -> argparse.Namespace:
    """What a benchmark of stores of several sizes is given: `rows`, `only` some of the steps, and a `folder`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=list(rows))
    parser.add_argument("--only", nargs="+", metavar="STEP", help=f"Of: {'; '.join(steps)}.")
    parser.add_argument("--folder", help="Where the files are written (default: a temporary folder).")
    return parser.parse_args()


def report(
    claim: str,
    results: dict[str, Any],
    goals: dict[str, tuple[float, float, str]],
    figures: dict[str, float] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Print one JSON object: the claim, the medians, other figures, the goals.

    goals : name -> (goal, figure reached, "min" or "max")
    figures : ratios and other numbers that no goal is set for
    notes : what a reader has to know of how it was measured
    """
    judged = {
        name: {
            "goal": goal,
            "kind": kind,
            "reached": round(reached, 3),
            "met": bool(reached >= goal if kind == "min" else reached <= goal),
        }
        for name, (goal, reached, kind) in goals.items()
    }
    found: dict[str, Any] = {"claim": claim, "machine": machine(), "results": results}
    if figures:
        found["figures"] = {name: round(figure, 3) for name, figure in figures.items()}
    found["goals"] = judged
    if notes:
        found["notes"] = list(notes)
    print(json.dumps(found, indent=1))


def machine() -> dict[str, Any]:
    """Processor, cores, memory and versions; the load before it all, and the CPU seconds until now, of children too."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "date": time.strftime("%Y-%m-%d"),
        "load": load_before(),
        "cpu_seconds": round(cpu_seconds(), 1),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        **versions,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def write_photos(folder: Path, count: int, size: tuple[int, int], classes: int = 2, seed: int = 0) -> None:
    """Write `count` different JPEG files of about `size` (width, height), cut from scikit-learn's two photographs.

    Real photographs decode at the rate of photographs; noise or flat colour would not.
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(image) for image in load_sample_images().images]
    random = np.random.default_rng(seed)
    for number in range(count):
        path = folder / f"class{number % classes}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo = photos[number % 2]
        share = random.uniform(0.6, 1.0)
        width, height = int(photo.width * share), int(photo.height * share)
        left, top = int(random.integers(photo.width - width + 1)), int(random.integers(photo.height - height + 1))
        part = photo.resize(size, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
        part.save(path, quality=90)
