"""Serving under attack: do others get their answers while a server is flooded, and does its memory stay flat?

    python benchmarks/bench_attack.py [--seconds 60] [--half-open 1000] [--slow 100] [--tall 32]

`featx serve --host 0.0.0.0` is asked by 16 clients, each with a connection of its own for every request. After a
while another process opens connections that send one byte and no more, posts a byte at a time, and sends small
files of tall images (64 x 1,000,000 pixels, and 500 x 99,000), all of them again whenever they end. All come from this
machine, for which the share of one address does not count, so the server has nothing but the limit of all to go by.
"""

from __future__ import annotations

import argparse
import http.client
import multiprocessing
import os
import re
import resource
import socket
import statistics
import struct
import subprocess
import tempfile
import threading
import time
import zlib
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench_serve import BOUNDARY, _forms, prepare
from harness import featx_command, in_process, report, write_photos

CLIENTS = 16
HEAD = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"


def tall_png(width: int, height: int) -> bytes:
    """A PNG file of black pixels."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(1 + 3 * width)) for _ in range(height)) + packer.flush()
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(one)) + name + one + struct.pack(">I", zlib.crc32(name + one)) for name, one in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def as_form(content: bytes) -> bytes:
    """A form with one image."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="image"\r\n\r\n'.encode()
    return head + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def attack(port: int, half_open: int, slow: int, tall: int, seconds: float) -> None:
    """Keep so many connections of each kind at the server."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    until = time.monotonic() + seconds
    files = [as_form(tall_png(64, 1_000_000)), as_form(tall_png(500, 99_000))]
    senders = [threading.Thread(target=_send_tall, args=(port, files[n % 2], until), daemon=True) for n in range(tall)]
    for sender in senders:
        sender.start()
    held: list[tuple[socket.socket, bool]] = []
    while time.monotonic() < until:
        open_ones = [one for one in held if _goes_on(*one)]
        slow_now = sum(posts for _, posts in open_ones)
        wanted = [True] * (slow - slow_now) + [False] * (half_open - (len(open_ones) - slow_now))
        held = open_ones + [(one, posts) for posts in wanted if (one := _begin(port, posts)) is not None]
        time.sleep(0.5)


def _begin(port: int, posts: bool) -> socket.socket | None:
    try:
        one = socket.create_connection(("127.0.0.1", port), timeout=2)
        one.sendall(f"{HEAD}Content-Length: 100000\r\n\r\n".encode() if posts else b"G")
        one.setblocking(False)
        return one
    except OSError:
        return None


def _goes_on(one: socket.socket, posts: bool) -> bool:
    """Whether the server still has the connection; a slow post sends its next byte."""
    try:
        if one.recv(4096):
            pass
        one.close()
        return False
    except BlockingIOError:
        pass
    except OSError:
        return False
    if posts:
        with suppress(OSError):
            one.send(b"-")
    return True


def _send_tall(port: int, form: bytes, until: float) -> None:
    while time.monotonic() < until:
        with suppress(OSError, http.client.HTTPException):
            _ask(port, form)
        time.sleep(0.1)


def _ask(port: int, form: bytes) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        connection.request("POST", "/predict", form, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def measure(root: str, bundle: str, attackers: tuple[int, int, int], seconds: float) -> dict[str, Any]:
    """What the clients get before and during the attack, and what the server takes."""
    forms = _forms(Path(root) / bundle, sorted(Path(root, "photos").rglob("*.jpg")))
    log = Path(root) / "log"
    with log.open("w") as output:
        command = featx_command("serve", bundle, "--port", "0", "--host", "0.0.0.0", "--no-maps")
        process = subprocess.Popen(command, cwd=root, stderr=output)
    try:
        port = _port(log)
        quiet = _ask_for(port, forms, seconds / 5)
        before = _memory(process.pid)
        attacker = multiprocessing.get_context("spawn").Process(target=attack, args=(port, *attackers, seconds))
        attacker.start()
        time.sleep(3)
        peaks: list[float] = []
        watching = threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, peaks, watching))
        watcher.start()
        busy = _ask_for(port, forms, seconds)
        watching.set()
        watcher.join()
        attacker.join()
    finally:
        process.terminate()
        process.wait()
    half = len(peaks) // 2
    return {
        "seconds": seconds,
        "answers before": len(quiet[0]),
        "answers during": len(busy[0]),
        "failures during": sum(busy[1].values()),
        "kinds of failures": dict(busy[1]),
        "median wait before, ms": 1e3 * statistics.median(quiet[0]),
        "median wait during, ms": 1e3 * statistics.median(busy[0]),
        "longest wait during, ms": 1e3 * max(busy[0]),
        "memory before, MB": before,
        "memory at most, first half, MB": max(peaks[:half]),
        "memory at most, second half, MB": max(peaks[half:]),
        "log, kB": log.stat().st_size / 1e3,
    }


def _ask_for(port: int, forms: list[bytes], seconds: float) -> tuple[list[float], Counter[str]]:
    """The seconds of every answer that clients got, and what failed."""
    waits: list[float] = []
    failures: Counter[str] = Counter()
    until = time.monotonic() + seconds

    def ask(first: int) -> None:
        number = first
        while time.monotonic() < until:
            start = time.perf_counter()
            try:
                status = _ask(port, forms[number % len(forms)])
            except (OSError, http.client.HTTPException) as error:
                failures[type(error).__name__] += 1
                continue
            if status != 200:
                failures[str(status)] += 1
            waits.append(time.perf_counter() - start)
            number += CLIENTS

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return waits, failures


def _watch(pid: int, peaks: list[float], ended: threading.Event) -> None:
    while not ended.wait(0.2):
        peaks.append(_memory(pid))


def _memory(pid: int) -> float:
    """Megabytes that a process has in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _port(log: Path) -> int:
    for _ in range(600):
        if found := re.search(r"at http://[\d.]+:(\d+)", log.read_text()):
            return int(found[1])
        time.sleep(0.1)
    raise RuntimeError(f"featx serve did not start: {log.read_text()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--half-open", type=int, default=1000)
    parser.add_argument("--slow", type=int, default=100)
    parser.add_argument("--tall", type=int, default=32)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        write_photos(Path(root) / "photos", 64, (320, 320))
        bundle = in_process(prepare, (root, "EfficientNetLite0"))["bundle"]
        attackers = (arguments.half_open, arguments.slow, arguments.tall)
        result = measure(root, bundle, attackers, arguments.seconds)
    goals = {
        "failures of the others": (0, result["failures during"], "max"),
        "memory, second half / first half": (
            1.1,
            result["memory at most, second half, MB"] / result["memory at most, first half, MB"],
            "max",
        ),
    }
    report("featx serve while it is flooded", {"attack": result}, goals, {})


if __name__ == "__main__":
    main()
