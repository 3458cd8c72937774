"""The benchmark for machines with a GPU runs in its small form on any machine, so that it works where there is one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_benchmark_of_gpus_runs_without_one() -> None:
    command = [sys.executable, "benchmarks/gpu.py", "--small", "--only", "extract float32", "first batch"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=280, check=True)
    found = json.loads(done.stdout)
    assert set(found["steps"]) == {"extract float32", "first batch"}
    assert found["steps"]["extract float32"]["computed"] == 40
    assert found["steps"]["first batch"]["one_image_ms"] > 0
    assert not [one for one in found["steps"].values() if "failed" in one]
