"""The campaign: disturb, run again undisturbed, compare with what an undisturbed run makes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import commands
import faults
import states

KINDS = (*faults.CALLS, "hdf5", "sqlite")
ONCE_ONLY = {"read", "hdf5", "sqlite"}  # a disk that is full or read-only stays so; a sector fails by itself


@dataclass
class Worker:
    """The process that runs the commands, with `faults.c` in it."""

    root: Path
    training: bool = False

    def __enter__(self) -> Worker:
        self.root.mkdir(parents=True, exist_ok=True)
        library = faults.build(self.root)
        package = Path(__file__).parent.parent.parent
        more = {"LD_PRELOAD": str(library), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        path = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
        arguments = [sys.executable, str(Path(__file__).with_name("worker.py")), *["training"] * self.training]
        with open(self.root / "worker.err", "w") as errors:
            self._process = subprocess.Popen(
                arguments,
                env={**os.environ, **more, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def ask(self, **task: Any) -> dict[str, Any]:
        """What the process answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({key: str(v) if isinstance(v, Path) else v for key, v in task.items()}),
              file=self._process.stdin, flush=True)  # fmt: skip
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError((self.root / "worker.err").read_text()[-3000:])
        found: dict[str, Any] = json.loads(line)
        return found


@dataclass
class Report:
    """How many trials there were, by name, and what was found wrong.

    same : trials that left what another one had left, with which the next run was right
    """

    same: int = 0
    trials: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def count(self, name: str) -> None:
        """One more trial."""
        self.trials[name] = self.trials.get(name, 0) + 1
        total = sum(self.trials.values())
        if total % 200 == 0 and name != "mutated images":
            print(f"{total} trials, the last: {name}", file=sys.stderr, flush=True)

    def blame(self, where: str, what: str) -> None:
        """Something is wrong."""
        self.wrong.append(f"{where}: {what}")
        print(f"WRONG {where}: {what}", flush=True)


@dataclass
class Campaign:
    """Trials of one command after the other.

    step : every n-th call is one of `step`; seconds : after which no new trial begins, None for all
    """

    worker: Worker
    root: Path
    report: Report
    step: int = 1
    until: float | None = None
    _expected: dict[str, Path] = field(default_factory=dict)
    _checked: set[tuple[str, str]] = field(default_factory=set)

    def expected(self, name: str) -> Path:
        """The folder that an undisturbed run leaves."""
        if name not in self._expected:
            folder = self.fresh(name)
            ended = self.worker.ask(do="run", folder=folder, command=name)
            assert ended.get("status") == 0, ended
            if ended["left"]:
                self.report.blame(f"{name}, undisturbed", f"left {ended['left']}")
            self._expected[name] = folder.rename(self.root / f"expected-{name}")
        return self._expected[name]

    def fresh(self, name: str) -> Path:
        """A copy of what a command begins with."""
        target = self.root / "trial"
        shutil.rmtree(target, ignore_errors=True)
        commands.copy(self.root / "starts" / commands.COMMANDS[name].start, target)
        return target

    def is_over(self) -> bool:
        """Whether no new trial begins."""
        return self.until is not None and time.monotonic() > self.until

    def prepare(self, whole: bool = True) -> None:
        """Make what commands begin with, once. whole : not only what `extract` begins with"""
        shutil.rmtree(self.root / "starts", ignore_errors=True)
        made = self.worker.ask(do="prepare", folder=self.root / "starts", whole=whole)
        assert made == {"made": None}, made

    def fail_every(self, name: str, kind: str, action: int) -> None:
        """The n-th call of a kind fails, for every n."""
        self.expected(name)
        for n in self._numbers(name, kind):
            folder = self.fresh(name)
            where = f"{name}, {kind} {n} {('once', 'from here on', 'kill')[action]}"
            ended = self.worker.ask(do="run", folder=folder, command=name, kind=kind, n=n, action=action)
            self.report.count(f"{name} {kind}" if action != faults.KILL else f"{name} kill")
            killed = action == faults.KILL and ended.get("died") == -137
            if not killed and (ended.get("fault") or "status" not in ended):
                self.report.blame(where, str(ended.get("fault") or ended))
            elif not killed and action == faults.ONCE and kind not in {"unlink", "read"} and ended["left"]:
                self.report.blame(where, f"left {ended['left']}")
            if kind == "read" and "could not be" in ended.get("out", "") + ended.get("err", ""):
                continue  # fitted without an image, and reported so: the next run has one more
            self.check_next(name, folder, where, ended["state"])

    def _numbers(self, name: str, kind: str) -> Iterator[int]:
        seen = self.worker.ask(do="run", folder=self.fresh(name), command=name, kind=kind)["seen"]
        for n in range(1, seen + 1, self.step):
            if self.is_over():
                return
            yield n

    def check_next(self, name: str, folder: Path, where: str, state: str | None = None) -> None:
        """The next run has to end well, with the same rows and bundles as an undisturbed one.

        state : of the folder; one that was right before is right again
        """
        aside = name == "repair" and where.startswith(("repair, read", "repair, hdf5"))
        known = (f"{name} {aside}", state or states.state_of(folder))
        if known in self._checked:
            self.report.same += 1
            return
        again = self.worker.ask(do="run", folder=folder, command=name, expected=self.expected(name))
        if name == "pack" and "exists already" in again.get("err", ""):
            again = {"status": 0}
        if again.get("status") != 0 or again.get("fault"):
            self.report.blame(where, f"the next run ended with {again}")
            return
        if aside:  # a part that cannot be read at all is set aside, and the next extraction computes its rows
            self.worker.ask(do="run", folder=folder, command="extract")
        compared = again
        if aside or "difference" not in again:
            compared = self.worker.ask(do="compare", folder=folder, expected=self.expected(name))
        if compared.get("difference") or "difference" not in compared:
            self.report.blame(where, f"the next run made something else: {compared}")
        else:
            self._checked.add(known)

    def lose_power(self, name: str) -> None:
        """The power goes after every call, and what was not flushed is lost, with or without the names."""
        start, journal = self.fresh(name), self.root / "journal"
        (start / "tmp").mkdir()
        disk = faults.Disk.of(start)
        ended = self.worker.ask(do="run", folder=start, command=name, journal=journal)
        assert ended.get("status") == 0, ended
        calls = list(faults.read_journal(journal))
        for n, one in enumerate(calls, 1):
            disk.apply(*one)
            if (n % self.step and n < len(calls)) or one[0] in "WT":  # what was only written is lost anyway
                continue
            for names in ("all", "kept"):
                if self.is_over():
                    return
                folder = self.root / "trial"
                shutil.rmtree(folder, ignore_errors=True)
                disk.write(folder, names)
                restore_times(self.root / "starts" / commands.COMMANDS[name].start, folder)
                self.report.count(f"{name} power")
                where = f"{name}, power lost after call {n} of {len(calls)} {one[:3]}, {names} names"
                if n == len(calls):
                    self._check_kept(name, folder, where)
                self.check_next(name, folder, where)

    def _check_kept(self, name: str, folder: Path, where: str) -> None:
        """What a command that has ended has made is on the disk."""
        compared = self.worker.ask(do="compare", folder=folder, expected=self.expected(name))
        if compared.get("difference") or "difference" not in compared:
            self.report.blame(where, f"the result is lost: {compared}")


def restore_times(source: Path, target: Path) -> None:
    """Give files that were not touched their times, which is how they are known."""
    for path in (source / "pictures").rglob("*"):
        if (target / path.relative_to(source)).exists():
            shutil.copystat(path, target / path.relative_to(source))
    shutil.copystat(source / "tiny.keras", target / "tiny.keras")


def _actions(what: str) -> list[int]:
    """How calls fail: once, from there on, or first the one and then the other."""
    words = what.split(",")
    names = {"once": faults.ONCE, "lasting": faults.FROM_HERE}
    return [action for name, action in names.items() if name in words or "faults" in words]


def disturb(
    campaign: Campaign, names: Sequence[str], share: float | None, what: str, kinds: Sequence[str] = KINDS
) -> None:
    """Kills, power losses and faults of every kind at every command in `names`.

    share : seconds for each command; what : which of the three, or of the faults only those `once` or only the
    `lasting` ones; kinds : of calls that fail
    """
    for name in names:
        campaign.until = None if share is None else time.monotonic() + share
        if "kills" in what:
            campaign.fail_every(name, "any", faults.KILL)
        if "power" in what:
            campaign.lose_power(name)
        for action in _actions(what):
            for kind in kinds if action == faults.ONCE else [kind for kind in kinds if kind not in ONCE_ONLY]:
                campaign.fail_every(name, kind, action)
        print({key: n for key, n in campaign.report.trials.items() if key.startswith(f"{name} ")}, flush=True)
    campaign.until = None
