"""A process that has imported everything, and forks for each disturbed command: seconds of imports are paid once.

Reads one JSON object per line, `{folder, command, kind, n, action, journal}`, and answers with how it ended.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import commands
import faults

SECONDS = 120


def import_all(training: bool) -> None:
    """What the commands would import."""
    import importlib

    import featx.cli.app

    for module, _ in featx.cli.app._COMMANDS.values():
        importlib.import_module(f"featx.cli.{module}")
    import h5py  # noqa: F401
    import openvino  # noqa: F401
    import sklearn.linear_model  # noqa: F401

    import featx.extraction.repair
    import featx.workflow.publish

    if training:
        from featx.backbones.runtime import import_keras

        import_keras()
        import featx.finetune.flow


def in_child(work: Callable[[], Any]) -> Any:
    """What a function returns in a process of its own; its exit status, negative, where it ended without an answer."""
    with tempfile.TemporaryFile() as answer:
        child = os.fork()
        if child == 0:
            signal.alarm(SECONDS)
            try:
                pickle.dump(work(), answer)
                answer.flush()
            except BaseException:
                pickle.dump({"error": traceback.format_exc()}, answer)
                answer.flush()
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        answer.seek(0)
        return pickle.load(answer) if status == 0 else -os.waitstatus_to_exitcode(status)


def disturbed(task: dict[str, Any]) -> dict[str, Any]:
    """Run a command with its fault; how it ended, how many calls there were, and what it left."""

    def work() -> dict[str, Any]:
        folder = Path(task["folder"])
        (folder / "tmp").mkdir(exist_ok=True)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
        os.chdir(folder)
        kind = task.get("kind", "any")
        if task.get("journal"):
            faults.record(folder, Path(task["journal"]))
        else:
            faults.arm(folder, kind, task.get("n", 0), task.get("action", faults.ONCE))
        ended = commands.call(commands.COMMANDS[task["command"]].arguments)
        seen = faults.disarm(kind)
        return {**asdict(ended), "fault": ended.fault, "seen": seen, "left": commands.leftovers(folder)}

    return _answer(in_child(work))


def results(task: dict[str, Any]) -> dict[str, Any]:
    """How what is in a folder differs from what is in another one."""

    def work() -> dict[str, Any]:
        found, expected = (commands.result(Path(task[name])) for name in ("folder", "expected"))
        return {"difference": commands.difference(found, expected)}

    return _answer(in_child(work))


def made(task: dict[str, Any]) -> dict[str, Any]:
    """Make what commands begin with."""
    return _answer(in_child(lambda: {"made": commands.prepare(Path(task["folder"]), task["whole"])}))


def _answer(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {"died": found}


def main() -> None:
    """Answer lines until there are no more."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import_all("training" in sys.argv)
    gc.freeze()  # children look for garbage among what is theirs
    faults.patch_packages()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        task = json.loads(line)
        if task["do"] == "prepare":
            found = made(task)
        else:
            found = disturbed(task) if task["do"] == "run" else results(task)
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
