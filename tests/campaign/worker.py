"""A process that has imported everything, and forks for each disturbed command: seconds of imports are paid once.

It has no threads, so that forking is safe: TensorFlow and OpenVINO start theirs in the child. What a child has imported
in a run without a fault is imported here for all that follow. Networks are trained op by op, since nothing is gained by
tracing a graph for two steps, and no speed is measured; what is asked of the disk is the same.

Reads one JSON object per line, `{folder, command, kind, n, action, journal}`, and answers with how it ended.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pickle
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import commands
import faults
import states

SECONDS = 300  # on a machine that does much else


def import_all(training: bool) -> None:
    """What every command imports; the rest follows its first run (`import_also`)."""
    import h5py  # noqa: F401

    import featx.cli.app
    import featx.extraction.repair
    import featx.workflow.publish
    from featx.backbones.libraries import import_openvino

    import_openvino()
    if training:
        from featx.backbones.runtime import import_keras

        import_keras()
        import featx.finetune.flow
        import featx.inference.speed

        featx.inference.speed._LEAST_SECONDS = 0


def import_also(names: Iterable[str]) -> None:
    """Import what a child has imported, and keep all of it where the memory of children stays shared."""
    from featx.io.lazy import hidden

    with hidden("openvino_telemetry"):
        for name in names:
            with suppress(Exception):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()


def in_child(work: Callable[[], Any]) -> Any:
    """What a function returns in a process of its own; its exit status, negative, where it ended without an answer."""
    with tempfile.TemporaryFile() as answer:
        child = os.fork()
        if child == 0:
            signal.alarm(SECONDS)
            gc.disable()
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
        if "tensorflow" in sys.modules:
            sys.modules["tensorflow"].config.run_functions_eagerly(True)
        before = set(sys.modules)
        kind = task.get("kind", "any")
        if task.get("journal"):
            faults.record(folder, Path(task["journal"]))
        else:
            faults.arm(folder, kind, task.get("n", 0), task.get("action", faults.ONCE))
        ended = commands.call(commands.COMMANDS[task["command"]].arguments)
        seen = faults.disarm(kind)
        more = _compared(task) if ended.status == 0 and task.get("expected") else {}
        left, imported = commands.leftovers(folder), sorted(sys.modules.keys() - before)
        return {**asdict(ended), "fault": ended.fault, "seen": seen, "left": left, "imported": imported, **more}

    found = _answer(in_child(work))
    if not task.get("n"):
        import_also(found.get("imported", ()))
    return found | {"state": states.state_of(Path(task["folder"]))}


def results(task: dict[str, Any]) -> dict[str, Any]:
    """How what is in a folder differs from what is in another one."""
    return _answer(in_child(lambda: _compared(task)))


def _compared(task: dict[str, Any]) -> dict[str, Any]:
    found, expected = (commands.result(Path(task[name])) for name in ("folder", "expected"))
    return {"difference": commands.difference(found, expected)}


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
