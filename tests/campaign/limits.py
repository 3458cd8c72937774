"""Real limits of a system: full, read-only and forbidden folders, and of a process; `python tests/campaign/limits.py`.

Needs root, to mount file systems and to become another user. Every command has to end in one sentence that names the
folder, and, where the limit is gone, with the result of a run without it.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import commands
import worker

NOBODY = 65534
FREE = (0, 4_096, 20_480, 81_920)  # bytes that are left on a file system that is full
FILE_SIZES = (0, 1_024, 16_384, 65_536)
MEMORY = (8 << 20, 64 << 20, 256 << 20)  # beyond what the process has already

PREDICT = ("predict", "pictures", "--model", commands.BUNDLE, "--out", "out/answers.csv", "--force")
REPORT = ("evaluate", "pictures", "--model", commands.BUNDLE, "--out", "out/report.html")
# name -> (command, the folders that it writes into)
CASES = {
    "extract-cold": ("extract-cold", ("cache",)),
    "fit": ("fit", ("cache", "runs", "tmp")),
    "finetune": ("finetune", ("cache", "runs", "tmp")),
    "pack": ("pack", ("out",)),
    "export": ("export", ("out", "tmp")),
    "predict": ("predict", ("out",)),
    "report": ("report", ("runs", "tmp")),
}


def _prepare_commands() -> None:
    """Let results go to a folder of their own, and add the commands that the campaign has not."""
    for name, option in (("pack", "packed.featx"), ("export", "exported")):
        one = commands.COMMANDS[name]
        moved = tuple(f"out/{option}" if word == option else word for word in one.arguments)
        commands.COMMANDS[name] = replace(one, arguments=moved)
    commands.COMMANDS["predict"] = commands.Command("bundle", PREDICT)
    html = tuple(word for word in commands.FIT if word != "--no-html")
    commands.COMMANDS["report"] = commands.Command("features", ("fit-head", *html))


@contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    """A file system of its own in place of a folder, with what is in that."""
    kept = folder.with_name(f"{folder.name}.kept")
    if folder.exists():
        folder.rename(kept)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", folder], check=True)
    try:
        if kept.exists():
            shutil.copytree(kept, folder, copy_function=shutil.copy2, dirs_exist_ok=True)
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path, free: int) -> Path:
    """Fill the file system of a folder but for `free` bytes."""
    left = os.statvfs(folder)
    path = folder / "filling"
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, left.f_bavail * left.f_frsize - free))
    return path


class Trials:
    """Runs of commands under limits, and what was found wrong.

    root : where to work
    """

    def __init__(self, root: Path) -> None:
        self.root, self.count, self.wrong = root, 0, 0

    def run(self, name: str, folder: Path, limit: Callable[[], None] | None = None) -> commands.Ended:
        """How a command ends in a process of its own."""

        def work() -> tuple[commands.Ended, list[str]]:
            os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
            os.environ["HOME"] = str(folder)
            os.chdir(folder)
            if limit is not None:
                limit()
            ended = commands.call(commands.COMMANDS[name].arguments)
            for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_AS):  # the answer is a file, too
                resource.setrlimit(kind, (resource.getrlimit(kind)[1],) * 2)
            return ended, sorted(sys.modules.keys() - before)

        before = set(sys.modules)
        found = worker.in_child(work)
        if not isinstance(found, tuple):
            return commands.Ended(-1, "", f"Traceback {found}")
        if limit is None:
            worker.import_also(found[1])
        return found[0]

    def fresh(self, name: str) -> Path:
        """A copy of what a command begins with."""
        folder = self.root / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        commands.copy(self.root / "starts" / commands.COMMANDS[name].start, folder)
        for one in ("tmp", "out", "runs", "cache"):
            (folder / one).mkdir(exist_ok=True)
        return folder

    def judge(self, where: str, ended: commands.Ended, words: tuple[str, ...]) -> None:
        """Success, or one sentence with one of the words."""
        self.count += 1
        lines = [line for line in ended.err.splitlines() if line.startswith("featx: ")]
        good = ended.fault is None and (
            ended.status == 0 or (len(lines) == 1 and any(word in lines[0] for word in words))
        )
        self.wrong += not good
        print(
            f"{'      ' if good else 'WRONG '}{where}: {ended.status} {ended.sentence if good else ended}", flush=True
        )

    def check_next(self, where: str, name: str, folder: Path, expected: Path) -> None:
        """Without the limit the command ends well, with what a run makes that never met it."""
        again = self.run(name, folder)
        found = commands.difference(commands.result(folder), commands.result(expected))
        left = [one for one in commands.leftovers(folder) if not one.startswith(".tmp")]
        if (again.status and "exists already" not in again.err) or found or left:
            self.wrong += 1
            print(f"WRONG {where}: the next run: {again} {found} left {left}", flush=True)


def try_full_and_read_only(trials: Trials, name: str, place: str, expected: Path) -> None:
    """A folder that is a file system of its own, which is full, or read-only."""
    command = CASES[name][0]
    for free in (*FREE, None):
        folder = trials.fresh(command)
        where = f"{name}, {place} {'is read-only' if free is None else f'has {free:,} bytes left'}"
        with mounted(folder / place) as mount:
            filled = fill(mount, free) if free is not None else None
            if free is None:
                subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
            trials.judge(where, trials.run(command, folder), (place,))
            if filled is not None:
                filled.unlink()
            else:
                subprocess.run(["mount", "-o", "remount,rw", mount], check=True)
            trials.check_next(where, command, folder, expected)


def try_forbidden(trials: Trials, name: str, place: str) -> None:
    """A folder that belongs to somebody else."""
    command = CASES[name][0]
    folder = trials.fresh(command)
    subprocess.run(["chown", "-R", str(NOBODY), folder], check=True)
    subprocess.run(["chown", "-R", "0", folder / place], check=True)
    subprocess.run(["chmod", "-R", "go-w", folder / place], check=True)
    trials.judge(f"{name}, {place} is forbidden", trials.run(command, folder, lambda: os.setuid(NOBODY)), (place,))


def try_process_limits(trials: Trials, name: str) -> None:
    """Limits of the size of a file, of memory, and of processes."""
    command = CASES[name][0]
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

    def limit(kind: int, value: int, user: int = 0) -> Callable[[], None]:
        def work() -> None:
            if user:
                os.setuid(user)
            resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        return work

    for value in FILE_SIZES:
        ended = trials.run(command, trials.fresh(command), limit(resource.RLIMIT_FSIZE, value))
        trials.judge(f"{name}, files of {value:,} bytes at most", ended, (*CASES[name][1], "tmp", "cache", "runs"))
    for value in MEMORY:
        ended = trials.run(command, trials.fresh(command), limit(resource.RLIMIT_AS, size + value))
        trials.judge(f"{name}, {value >> 20} MB of memory more", ended, ("memory", "raise the limit"))
    folder = trials.fresh(command)
    subprocess.run(["chown", "-R", str(NOBODY), folder], check=True)
    ended = trials.run(command, folder, limit(resource.RLIMIT_NPROC, 1, NOBODY))
    trials.judge(f"{name}, one process", ended, ("threads",))


def main() -> int:
    """Try every case, or those that are named."""
    parser = argparse.ArgumentParser("limits", description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--what", default="full,forbidden,process")
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    worker.import_all(training=True)
    "".encode("cp437")  # of names in ZIP files; nobody may not read the home folder of root, where Python may be
    root = Path(tempfile.mkdtemp(prefix="limits-", dir="/dev/shm"))
    root.chmod(0o755)
    trials = Trials(root)
    try:
        worker.in_child(lambda: commands.prepare(root / "starts"))
        _prepare_commands()
        for name in given.cases:
            command, places = CASES[name]
            assert trials.run(command, trials.fresh(command)).status == 0
            (root / "trial").rename(root / name)
            for place in places:
                if "full" in given.what:
                    try_full_and_read_only(trials, name, place, root / name)
                if "forbidden" in given.what:
                    try_forbidden(trials, name, place)
            if "process" in given.what:
                try_process_limits(trials, name)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(f"{trials.count} trials, {trials.wrong} found wrong")
    return 1 if trials.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
