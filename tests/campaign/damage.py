"""Flipped bits in everything that is kept, mutated images, and kills at random moments."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from driver import Campaign, Report

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


def _originals() -> Iterator[bytes]:
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "TGA", "ICO", "JPEG2000"):
        for image in (Image.fromarray(pixels), Image.fromarray(pixels[..., 0])):
            file = io.BytesIO()
            image.save(file, kind)
            yield file.getvalue()


def mutate(content: bytes, chance: random.Random) -> bytes:
    """A file with some bytes changed, doubled, left out or cut off."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        place, way = chance.randrange(max(1, len(data))), chance.randrange(5)
        if way == 0:
            data[place : place + 1] = bytes([chance.randrange(256)])
        elif way == 1:
            data[place : place + 4] = chance.choice(
                (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\1\0\0")
            )
        elif way == 2:
            del data[place : place + chance.randrange(1, 64)]
        elif way == 3:
            data[place:place] = data[place : place + chance.randrange(1, 64)]
        else:
            del data[max(8, place) :]
    return bytes(data)


def decode_mutated(folder: Path, count: int, report: Report, seed: int = 0, until: float | None = None) -> None:
    """Decode mutated images: pixels of the size asked for, or a reason, within ten seconds."""
    import numpy as np

    from featx.errors import DataError
    from featx.images.decoder import load_image

    folder.mkdir(parents=True, exist_ok=True)
    chance, originals = random.Random(seed), list(_originals())
    for n in range(count):
        if until is not None and time.monotonic() > until:
            return
        content = mutate(originals[n % len(originals)], chance)
        path = folder / "mutated"
        path.write_bytes(content)
        report.count("mutated images")
        start = time.monotonic()
        try:
            with warnings.catch_warnings(action="ignore"):
                pixels = load_image(path, (16, 16), "stretch")
            if pixels.shape != (16, 16, 3) or pixels.dtype != np.uint8:
                report.blame(f"mutated image {n}", f"{pixels.dtype} {pixels.shape}")
        except DataError:
            pass
        except Exception as error:
            report.blame(f"mutated image {n}", f"{type(error).__name__}: {error}")
        if time.monotonic() - start > 10:
            report.blame(f"mutated image {n}", f"took {time.monotonic() - start:.0f} s")


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
