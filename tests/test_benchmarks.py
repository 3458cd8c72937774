"""The benchmark for machines with a GPU runs in its small form on any machine; the page of performance is short."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fitted import call

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
DOCS = BENCHMARKS.parent / "docs"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmarks can be imported; what they drop from the environment for all that they start comes back."""
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.mark.slow
def test_the_benchmark_of_gpus_runs_without_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What needs TensorFlow runs in this process, which has it; one step in a process of its own, as all do there."""
    import gpu
    import harness

    def run_here(command: Sequence[str], folder: str) -> dict[str, Any]:
        assert command[1:3] == ["-m", "featx"]
        done = call(*command[3:], cwd=Path(folder))
        assert done.status == 0, done.err
        return {"seconds": 1.0, "stdout": done.out}

    def in_process(case: Any, arguments: tuple[Any, ...] = ()) -> dict[str, Any]:
        return case(*arguments) if case is gpu.first_batch else harness.in_process(case, arguments)

    monkeypatch.setattr(gpu, "run_command", run_here)
    monkeypatch.setattr(gpu, "in_process", in_process)
    steps = ("extract float32", "decode alone", "first batch")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--small", "--only", *steps])
    gpu.main()
    found = json.loads(capsys.readouterr().out)
    assert set(found["steps"]) == set(steps)
    assert found["steps"]["extract float32"]["computed"] == 40
    assert found["steps"]["decode alone"]["images_per_second"] > 0
    assert found["steps"]["first batch"]["one_image_ms"] > 0
    assert not [one for one in found["steps"].values() if "failed" in one]


def test_the_page_of_performance_is_what_the_results_give_and_short_enough_to_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import summarize

    monkeypatch.setattr(sys, "argv", ["summarize.py", "--no-run", "--out", str(tmp_path / "performance.md")])
    summarize.main()
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert set(written) >= {"performance.md", "performance-tables.md", "enough.md"}
    assert written == {name: (DOCS / name).read_text(encoding="utf-8") for name in written}
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert len(page.split()) <= 1500
    goals = [goal for path in (BENCHMARKS / "results").glob("*.json") for goal in json.loads(path.read_text())["goals"]]
    assert len(goals) > 60
    assert all(f"- {goal.replace('images per second', 'images/s')}: " in page for goal in goals)
