"""Mutated images: files of every format and layout of the generated table, with bytes changed, doubled or left out.

Each is read, or refused with one sentence: no other error, no end of the process, nothing printed, within ten seconds
and 2 GB. `python tests/campaign --commands "" --kills 0 --flips 0 --images 10000`; an image depends on its number
and the seed alone.
"""

from __future__ import annotations

import os
import random
import re
import resource
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))
import worker

if TYPE_CHECKING:
    from driver import Report

STEP = 13  # every so many cells of the table are the originals
TOGETHER = 250  # images of one process
SECONDS, MEGABYTES = 10, 2_000
_SIZES = {1: "B", 2: "H", 4: "I"}
# Words of Python's own errors: they are no reason that anybody could use.
_OF_PYTHON = re.compile(
    r"\bobject has|operand|NoneType|attribute|argument|iterable|tuple|unpack|__|index out|[a-z]Error\b"
)


@cache
def originals() -> dict[str, list[bytes]]:
    """Sound files by their format, of those that are read."""
    from format_cells import cells

    found: dict[str, list[bytes]] = {}
    for number, cell in enumerate(cell for cell in cells() if not cell.refusal):
        if number % STEP == 0 or len(found.get(cell.format, ())) < STEP:
            found.setdefault(cell.format, []).append(cell.make())
    return found


def mutate(content: bytes, chance: random.Random) -> bytes:
    """A file with some bytes changed, doubled, left out or cut off, mostly of its header, where the sizes are."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        header = len(data) if chance.randrange(2) else min(len(data), 200)
        place, way = chance.randrange(max(1, header)), chance.randrange(6)
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
        elif way == 4:
            size = chance.choice((1, 2, 4))
            number = chance.choice((0, 1, 7, 255, 4_096, 65_535, 1_000_000, (1 << 31) - 1)) & ((1 << 8 * size) - 1)
            data[place : place + size] = struct.pack(chance.choice("<>") + _SIZES[size], number)
        else:
            del data[max(8, place) :]
    return bytes(data)


def image(n: int, seed: int) -> tuple[str, bytes]:
    """The format of image n, and its bytes."""
    chance = random.Random(f"{seed} {n}")
    formats = sorted(originals())
    name = formats[n % len(formats)]
    return name, mutate(chance.choice(originals()[name]), chance)


@dataclass(frozen=True)
class _Read:
    """What came of an image. fault : what is wrong with that, None for nothing"""

    n: int
    format: str
    sound: bool
    fault: str | None


def read(n: int, seed: int, path: Path) -> _Read:
    """Read an image in one of three ways, by its number."""
    from featx.errors import DataError
    from featx.images.decoder import check_image, load_image

    name, content = image(n, seed)
    path.write_bytes(content)
    start, reason, fault = time.monotonic(), "", None
    try:
        with warnings.catch_warnings(action="ignore"):
            if n % 3 == 0:
                reason = check_image(str(path)) or ""
            else:
                pixels = load_image(str(path), (16, 16), "stretch" if n % 3 == 1 else "pad:1:bilinear:minmax")
                if pixels.shape != (16, 16, 3) or str(pixels.dtype) != "uint8":
                    fault = f"{pixels.dtype} {pixels.shape}"
    except DataError as error:
        reason = str(error)
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
    reason = reason.removeprefix(f"{path}: ")
    if _OF_PYTHON.search(reason) or not reason.isprintable() or len(reason) > 400:
        fault = f"a reason of no use: {reason!r}"
    if time.monotonic() - start > SECONDS:
        fault = f"took {time.monotonic() - start:.0f} s"
    return _Read(n, name, not reason, fault)


def _read_some(numbers: range, seed: int, folder: Path) -> list[_Read]:
    """Read images in this process, which writes down how far it has come."""
    with open(folder / "printed", "wb") as printed:
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
    found, memory, said = [], _megabytes(), 0
    for n in numbers:
        (folder / "begun").write_text(str(n))
        one = read(n, seed, folder / "mutated")
        grown, size = _megabytes() - memory, (folder / "printed").stat().st_size
        if grown > MEGABYTES:
            one = _Read(n, one.format, one.sound, f"took {grown:,} MB")
            memory += grown
        if size > said:
            text = (folder / "printed").read_bytes()[said:].decode(errors="replace")
            one = _Read(n, one.format, one.sound, f"something was printed: {text[-200:]!r}")
        said = size
        found.append(one)
    return found


def _megabytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _in_children(count: int, seed: int, folder: Path) -> Iterator[_Read]:
    first = 0
    while first < count:
        numbers = range(first, min(first + TOGETHER, count))
        found = worker.in_child(partial(_read_some, numbers, seed, folder))
        if isinstance(found, list):
            yield from found
            first = numbers.stop
            continue
        last = int((folder / "begun").read_text())
        yield _Read(last, image(last, seed)[0], False, f"ended the process: {str(found)[-400:]}")
        first = last + 1  # those before it are read again
        if last > numbers.start:
            yield from worker.in_child(partial(_read_some, range(numbers.start, last), seed, folder))


def decode_mutated(folder: Path, count: int, report: Report, seed: int = 0, apart: bool = True) -> None:
    """Read mutated images and report what is wrong. apart : in processes of their own, of which one may end"""
    folder.mkdir(parents=True, exist_ok=True)
    if not count:
        return
    sound: dict[str, list[bool]] = {}
    originals()
    import featx.images.decoder  # noqa: F401 - once for all children

    with tempfile.TemporaryDirectory(dir=folder) as place:
        here = (read(n, seed, Path(place, "mutated")) for n in range(count))
        for one in _in_children(count, seed, Path(place)) if apart else here:
            report.count("mutated images")
            sound.setdefault(one.format, []).append(one.sound)
            if one.fault is not None:
                report.blame(f"mutated image {one.n} ({one.format}, seed {seed})", one.fault)
    if apart:
        counts = ", ".join(f"{name} {sum(some)} of {len(some)}" for name, some in sorted(sound.items()))
        print(f"read although mutated: {counts}", flush=True)
