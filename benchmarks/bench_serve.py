"""Serving: how much of what the network can do do concurrent clients get?

    python benchmarks/bench_serve.py [--backbones EfficientNetLite0 ResNet50] [--images 512] [--rounds 3]

`featx serve` is asked by 16 clients, each sending one photograph after the other as a JPEG of the size the network
takes. What it is measured against is the engine alone, on as many images that are decoded and in memory. The clients
run on the same machine, and what they take is missing to the server.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import re
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import compare, cpu_seconds, featx_command, in_process, report, run_command, write_photos

if TYPE_CHECKING:
    from collections.abc import Iterator

GOAL = 0.85
CLIENTS = 16
DIFFERENT = 64  # photographs
BOUNDARY = "photograph"


def prepare(root: str, backbone: str) -> dict[str, Any]:
    """A bundle with a linear head."""
    weights = "bundled" if backbone == "EfficientNetLite0" else "random"
    command = featx_command("fit-head", "photos", "--clf", "logreg", "--strength", "1", "--backbone", backbone)
    done = run_command([*command, "--weights", weights, "--no-html", "--name", backbone, "--json"], root)
    return {"bundle": json.loads(done["stdout"])["bundle"]}


def engine_alone(root: str, bundle: str, images: int) -> dict[str, Any]:
    import numpy as np

    from featx.bundle.bundle import load_bundle

    model = load_bundle(Path(root) / bundle)
    height, width = model.input_size
    pixels = np.random.default_rng(0).integers(0, 256, (images, height, width, 3), np.uint8)
    model.engine.infer(pixels[: 2 * model.engine.handover])
    cpu, start = cpu_seconds(), time.perf_counter()
    model.engine.infer(pixels)
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    return {"seconds": seconds, "images_per_second": images / seconds, "CPU ms per image": 1e3 * cpu / images}


def serve(root: str, bundle: str, images: int, clients: int, workers: int = 1) -> dict[str, Any]:
    """Images per second of all clients together, and how long one waits for an answer."""
    forms = _forms(Path(root) / bundle, sorted(Path(root, "photos").rglob("*.jpg")))
    with _served(root, bundle, workers) as (address, pid), ThreadPoolExecutor(clients) as pool:

        def ask(share: int) -> list[float]:
            connection = http.client.HTTPConnection(*address)
            waits = [_post(connection, forms[number % len(forms)]) for number in range(share)]
            connection.close()
            return waits

        list(pool.map(ask, [4] * clients))
        cpu, start = _cpu_of(pid), time.perf_counter()
        waits = [wait for some in pool.map(ask, [images // clients] * clients) for wait in some]
        seconds, cpu = time.perf_counter() - start, _cpu_of(pid) - cpu
    return {
        "seconds": seconds,
        "images_per_second": len(waits) / seconds,
        "CPU ms per image": 1e3 * cpu / len(waits),
        "median wait, ms": 1e3 * statistics.median(waits),
        "95 % wait at most, ms": 1e3 * statistics.quantiles(waits, n=20)[-1],
    }


def _forms(bundle: Path, photos: list[Path]) -> list[bytes]:
    from PIL import Image

    height, width = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))["backbone"]["input_size"]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="photo.jpg"\r\n\r\n'.encode()
    forms = []
    for photo in photos[:DIFFERENT]:
        buffer = io.BytesIO()
        Image.open(photo).resize((width, height)).save(buffer, "JPEG", quality=90)
        forms.append(head + buffer.getvalue() + f"\r\n--{BOUNDARY}--\r\n".encode())
    return forms


def _post(connection: http.client.HTTPConnection, form: bytes) -> float:
    start = time.perf_counter()
    connection.request("POST", "/predict", form, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"the server answers {answer.status}: {content[:500]!r}")
    return time.perf_counter() - start


def _cpu_of(pid: int) -> float:
    """CPU seconds of a server and of its workers, as Linux counts them; 0 elsewhere."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    user, system = stat.read_text().rpartition(")")[2].split()[11:13]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK") + sum(_cpu_of(int(child)) for child in children)


@contextmanager
def _served(root: str, bundle: str, workers: int = 1) -> Iterator[tuple[tuple[str, int], int]]:
    command = featx_command("serve", bundle, "--port", "0", "--no-maps", "--workers", str(workers))
    process = subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"at http://([\d.]+):(\d+)", line):
                yield (found[1], int(found[2])), process.pid
                return
        raise RuntimeError("featx serve did not start")
    finally:
        process.terminate()
        process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["EfficientNetLite0", "ResNet50"])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        write_photos(Path(root) / "photos", DIFFERENT, (320, 320))
        cases: dict[str, Any] = {}
        for backbone in arguments.backbones:
            bundle = in_process(prepare, (root, backbone))["bundle"]
            cases[f"{backbone}, engine alone"] = (engine_alone, (root, bundle, arguments.images))
            cases[f"{backbone}, {arguments.clients} clients"] = (
                serve,
                (root, bundle, arguments.images, arguments.clients),
            )
            cases[f"{backbone}, {arguments.clients} clients, 2 workers"] = (
                serve,
                (root, bundle, arguments.images, arguments.clients, 2),
            )
            cases[f"{backbone}, 1 client"] = (serve, (root, bundle, max(1, arguments.images // 8), 1))
        results = compare(cases, arguments.rounds)
    goals, figures = {}, {}
    for backbone in arguments.backbones:
        alone = results[f"{backbone}, engine alone"]["images_per_second"]
        many = results[f"{backbone}, {arguments.clients} clients"]["images_per_second"]
        goals[f"{backbone}: {arguments.clients} clients / engine alone"] = (GOAL, many / alone, "min")
        two = results[f"{backbone}, {arguments.clients} clients, 2 workers"]["images_per_second"]
        figures[f"{backbone}: {arguments.clients} clients, 2 workers / engine alone"] = two / alone
        figures[f"{backbone}: CPU ms of an image, engine alone / {arguments.clients} clients"] = (
            results[f"{backbone}, engine alone"]["CPU ms per image"]
            / results[f"{backbone}, {arguments.clients} clients"]["CPU ms per image"]
            if results[f"{backbone}, {arguments.clients} clients"]["CPU ms per image"]
            else 0.0
        )
        one = results[f"{backbone}, 1 client"]["images_per_second"]
        figures[f"{backbone}: 1 client / engine alone"] = one / alone
    report("featx serve under concurrent clients, against its engine", results, goals, figures)


if __name__ == "__main__":
    main()
