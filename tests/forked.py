"""Processes of their own that have TensorFlow already: forks of one that has imported it and used nothing of it.

Importing TensorFlow takes 2.5 seconds of a core, more than most commands on small images. A fork can be killed,
interrupted and given an environment as any process; where importing itself is tested, `sys.executable` is right.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PRELOADED = ["keras", "featx.cli.app"]


class Forked:
    """`python -m featx ...`, or `python -c code ...`, with what `subprocess.Popen` has of it; output goes to files."""

    def __init__(self, arguments: Sequence[object], cwd: Path, env: Mapping[str, str], code: str = "") -> None:
        context: Any = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
        if hasattr(os, "fork"):
            context.set_forkserver_preload(_PRELOADED)
        outputs = [str(cwd / f".forked-{time.monotonic_ns()}-{name}") for name in ("out", "err")]
        self._outputs = list(map(Path, outputs))
        for path in self._outputs:  # it may be killed before it opens them
            path.touch(0o600)
        self._process = context.Process(
            target=_run, args=(code, list(map(str, arguments)), str(cwd), dict(env), outputs)
        )
        self._process.start()
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float = 250) -> tuple[str, str]:
        """Wait for its end; what it wrote to stdout and stderr."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, "it runs for too long"
        out, err = (path.read_text(encoding="utf-8") for path in self._outputs)
        for path in self._outputs:
            path.unlink()
        return out, err


def run(arguments: Sequence[object], cwd: Path, env: Mapping[str, str], code: str = "") -> Any:
    """Run one to its end; as what `subprocess.run` returns."""
    process = Forked(arguments, cwd, env, code)
    out, err = process.communicate()
    return subprocess.CompletedProcess(list(arguments), process.returncode, out, err)


def _run(code: str, arguments: list[str], cwd: str, env: dict[str, str], outputs: list[str]) -> None:
    """In the fork."""
    gc.freeze()  # looking over what it has from its parent would copy the memory of all of it
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None  # which TMPDIR says
    for number, (path, stream) in enumerate(zip(outputs, (sys.stdout, sys.stderr), strict=True), start=1):
        stream.flush()
        opened = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["-c", *arguments]
    exec(code or "from featx.cli.app import main; main()", {"__name__": "__main__"})
