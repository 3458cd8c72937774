"""Two checkouts of featx against each other: the same commands in turn, in CPU seconds of whole processes.

    git worktree add /tmp/before COMMIT
    python benchmarks/bench_checkouts.py /tmp/before [--rounds 5]

Whether a change made featx slower: its start, `predict`, an extraction, a fit on cached features. CPU seconds count
every core and every child process, so that another program on the machine disturbs them less than the wall clock does.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import compare, in_process, report, run_command, write_photos

HERE = Path(__file__).resolve().parent.parent
MOST = 1.05  # of the CPU seconds of before: less than that is noise


def environment(checkout: str) -> dict[str, str]:
    """The environment in which Python imports featx from `checkout`."""
    return {**os.environ, "PYTHONPATH": checkout, "CUDA_VISIBLE_DEVICES": "-1"}


def run_featx(checkout: str, folder: str, arguments: tuple[str, ...], fresh: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run one command of `checkout`; `fresh` are folders in `folder` that are removed first."""
    for name in fresh:
        shutil.rmtree(Path(folder) / name, ignore_errors=True)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "featx", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(checkout), capture_output=True, text=True, check=False)
    after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"featx {' '.join(arguments)} of {checkout} failed: {done.stderr[-1000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_seconds": round(cpu, 3), "seconds": round(seconds, 3)}


def prepare(folder: str, images: int) -> dict[str, Any]:
    """Photographs, their features and a bundle, which every command below finds."""
    write_photos(Path(folder) / "photos", images, (500, 400), classes=4)
    run_command([sys.executable, "-m", "featx", "data", "digits", "--out", "digits"], folder)
    for data in ("photos", "digits"):
        run_command([sys.executable, "-m", "featx", "fit-head", data, "--clf", "logreg", "--no-html"], folder)
    return {}


COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "featx --help": (("--help",), ()),
    "predict": (("predict", "photos/class0/00000.jpg", "--model", "runs/photos/1-logreg"), ()),
    "extract, nothing to do": (("extract", "digits"), ()),
    "extract": (("extract", "photos", "--cache", "new"), ("new",)),
    "fit-head": (("fit-head", "digits", "--clf", "logreg", "--runs", "other", "--no-html"), ("other",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=400)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        in_process(prepare, (folder, options.images))
        cases = {
            f"{name}: {which}": (run_featx, (str(checkout), folder, *command))
            for name, command in COMMANDS.items()
            for which, checkout in (("now", HERE), ("before", options.before.resolve()))
        }
        results = compare(cases, options.rounds)
    goals = {
        f"{name}: CPU seconds now / before": (
            MOST,
            results[f"{name}: now"]["cpu_seconds"] / results[f"{name}: before"]["cpu_seconds"],
            "max",
        )
        for name in COMMANDS
    }
    report("No command needs more processor time than before", results, goals)


if __name__ == "__main__":
    main()
