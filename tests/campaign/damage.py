"""Flipped bits in everything that is kept, and kills at random moments."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from driver import Campaign

# what is flipped -> (command whose start holds it, where it is, command that reads it)
PLACES = {
    "part": ("fit", "cache/*/*@*/*.h5", "fit"),
    "graph": ("extract", "cache/*/graph/*/graph.*", "extract"),
    "network": ("fit", "cache/*/graph/*.keras", "fit"),
    "index": ("extract", "cache/index.sqlite", "extract"),
    "key": ("extract", "cache/*/key.json", "extract"),
    "bundle": ("pack", "runs/*/*/**/*", "pack"),
}


def flip_bits(campaign: Campaign, count: int, places: Sequence[str] = tuple(PLACES), seed: int = 0) -> None:
    """Flip one bit in a file at a time and run what reads it: the right result, or one sentence that refuses."""
    chance = random.Random(seed)
    for n in range(count):
        name = places[n % len(places)]
        start, pattern, command = PLACES[name]
        if campaign.is_over():
            return
        expected = campaign.expected(command)
        folder = campaign.fresh(start)
        path = chance.choice(sorted(path for path in folder.glob(pattern) if path.is_file() and path.stat().st_size))
        status, content = path.stat(), bytearray(path.read_bytes())
        place, bit = chance.randrange(len(content)), chance.randrange(8)
        content[place] ^= 1 << bit
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
        where = f"{name}: bit {bit} of byte {place} of {path.relative_to(folder)}"
        ended = campaign.worker.ask(do="run", folder=folder, command=command)
        campaign.report.count(f"flip {name}")
        if ended.get("fault") or "status" not in ended:
            campaign.report.blame(where, str(ended.get("fault") or ended))
        elif ended["status"] == 0:
            compared = campaign.worker.ask(do="compare", folder=folder, expected=expected)
            if compared.get("difference") or "difference" not in compared:
                campaign.report.blame(where, f"read as another value: {compared}")


def kill_at_random(campaign: Campaign, count: int, seed: int = 0) -> None:
    """SIGKILL at a random moment of an extraction in a process of its own."""
    import commands

    chance = random.Random(seed)
    package = Path(__file__).parent.parent.parent
    environment = {**os.environ, "PYTHONPATH": str(package), "TF_CPP_MIN_LOG_LEVEL": "3"}
    campaign.expected("extract")
    for n in range(count):
        if campaign.is_over():
            return
        folder = campaign.fresh("extract")
        (folder / "tmp").mkdir()
        arguments = [sys.executable, "-m", "featx", *commands.COMMANDS["extract"].arguments]
        process = subprocess.Popen(
            arguments, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(chance.uniform(0.3, 1.8))
        process.send_signal(signal.SIGKILL)
        process.wait()
        campaign.report.count("SIGKILL at random")
        campaign.check_next("extract", folder, f"killed at random, {n}")
    shutil.rmtree(campaign.root / "trial", ignore_errors=True)
