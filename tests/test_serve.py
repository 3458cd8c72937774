"""featx serve: the answers of featx predict over HTTP, many at once, and every bad request refused with a sentence."""

from __future__ import annotations

import asyncio
import base64
import errno
import http.client
import importlib.util
import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import environment
from fitted import Lab, call, make_lab
from PIL import Image
from serving import gated, same_answers, served, several_labels
from unkind import bomb, encode, gradient, make_unkind_folder

from featx.bundle.bundle import Bundle, pack
from featx.errors import UsageError
from featx.inference.explain import Explainer
from featx.inference.predict import AnswerOptions, Predicted, predict
from featx.serve.batching import Batcher
from featx.serve.connections import Connections, Watched
from featx.serve.keys import WrongKeys
from featx.serve.limits import Limits
from featx.serve.repeats import Repeats
from featx.serve.service import Service, Terms

Files = list[tuple[str, tuple[str, bytes]]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_lab(tmp_path_factory.getbasetemp() / "lab").bundle("logreg")


@pytest.fixture(scope="module")
def client(bundle: Bundle) -> Iterator[httpx.Client]:
    with served(bundle) as one:
        yield one


def form(*contents: bytes, names: Sequence[str] = ()) -> Files:
    names = names or [f"{number}.png" for number in range(len(contents))]
    return [("images", (name, content)) for name, content in zip(names, contents, strict=True)]


def contents(lab: Lab, step: int = 9) -> list[bytes]:
    return [Path(path).read_bytes() for path in lab.pictures[::step]]


def expected(bundle: Bundle, images: Sequence[bytes], names: Sequence[str], **options: Any) -> dict[str, Any]:
    """What `featx predict --json` says of the same files, under these names."""
    found = Predicted.of(predict(bundle, list(images), AnswerOptions(**options))).as_json()
    for one in found["predictions"] + found["bad"]:
        one["path"] = names[int(one["path"].removeprefix("image ")) - 1]
    return json.loads(json.dumps(found))


# --- answers ---------------------------------------------------------------------------------------------------------


def test_answers_are_those_of_featx_predict(client: httpx.Client, lab: Lab, bundle: Bundle) -> None:
    images = contents(lab)
    names = [f"{number}.png" for number in range(len(images))]
    found = client.post("/predict", files=form(*images))
    assert found.status_code == 200
    assert same_answers(found.json(), expected(bundle, images, names, top=5))
    only = client.post("/predict?top=1", files=form(*images)).json()
    assert same_answers(only, expected(bundle, images, names, top=1))


def test_a_broken_image_fails_alone(client: httpx.Client, lab: Lab, bundle: Bundle, tmp_path: Path) -> None:
    kinds = make_unkind_folder(tmp_path)
    files = {name: (tmp_path / name).read_bytes() for name in kinds if (tmp_path / name).exists()}
    images = [contents(lab)[0], *files.values(), contents(lab)[1]]
    names = ["first.png", *files, "last.png"]
    found = client.post("/predict", files=form(*images, names=names))
    assert found.status_code == 200
    assert {one["path"] for one in found.json()["bad"]} == {name for name in files if kinds[name] is not None}
    told, wanted = found.json(), expected(bundle, images, names, top=5)
    assert same_answers(told["predictions"], wanted["predictions"])
    for one, other in zip(told["bad"], wanted["bad"], strict=True):  # a bomb is told with the server's own limit
        assert one["path"] == other["path"]
        assert one["reason"] == other["reason"].replace("limit of 179", "limit of 64")


def test_many_at_once_get_the_answers_they_would_get_alone(client: httpx.Client, lab: Lab, bundle: Bundle) -> None:
    images = contents(lab, step=1)
    wanted = expected(bundle, images, ["x.png"] * len(images), top=5)["predictions"]

    def ask(image: bytes) -> Any:
        return client.post("/predict", files=form(image, names=["x.png"])).json()["predictions"][0]

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, images))
    assert same_answers(found, wanted)


def test_requests_that_wait_share_a_batch(lab: Lab, bundle: Bundle) -> None:
    copy, gate = gated(bundle)
    images = contents(lab, step=6)[:9]
    with served(copy) as client, ThreadPoolExecutor(10) as pool:
        gate.sizes.clear()
        gate.open.clear()
        gate.entered.clear()
        first = pool.submit(client.post, "/predict", files=form(images[0]))
        assert gate.entered.wait(60)
        others = [pool.submit(client.post, "/predict", files=form(image)) for image in images[1:]]
        assert client.post("/predict", files=form(b"no image")).status_code == 422  # while the network is busy
        time.sleep(0.3)  # time for the others to arrive
        gate.open.set()
        answers = [one.result().json()["predictions"][0] for one in (first, *others)]
    assert gate.sizes[0] == 1
    assert sum(gate.sizes) == 9
    assert len(gate.sizes) < 6  # 2, unless the machine is very slow
    wanted = expected(bundle, images, ["0.png"] * 9, top=5)["predictions"]
    assert same_answers(answers, wanted)


def wait_for(happens: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_unsure_and_unknown(lab: Lab, bundle: Bundle) -> None:
    image = contents(lab)[0]
    with served(bundle, Terms(min_confidence=1.0)) as client:
        (one,) = client.post("/predict", files=form(image)).json()["predictions"]
        assert one["label"] == "unsure"
        assert one["top"][0]["label"] in bundle.classes
    with served(bundle, Terms(max_distance=1e-9)) as client:
        strange = encode(np.zeros((32, 32, 3), np.uint8), "PNG")
        found = client.post("/predict", files=form(strange, image))
        wanted = expected(bundle, [strange, image], ["0.png", "1.png"], top=5, max_distance=1e-9)
        assert same_answers(found.json(), wanted)
        assert found.json()["predictions"][0]["label"] == "unknown"


def test_sets_of_classes(lab: Lab, bundle: Bundle) -> None:
    image = contents(lab)[0]
    with served(bundle, Terms(coverage=0.8, per_class=True)) as client:
        found = client.post("/predict", files=form(image)).json()
        assert same_answers(found, expected(bundle, [image], ["0.png"], top=5, coverage=0.8, per_class=True))
        assert isinstance(found["predictions"][0]["set"], list)
    with pytest.raises(UsageError, match="takes at least 99 val images"):
        Service(bundle, "lab/1", Terms(coverage=0.99), Limits()).start()


def test_several_labels(lab: Lab, bundle: Bundle) -> None:
    images, copy = contents(lab), several_labels(bundle)
    with served(copy) as client:
        found = client.post("/predict", files=form(*images)).json()
        names = [f"{number}.png" for number in range(len(images))]
        assert same_answers(found, expected(copy, images, names, top=5))
        assert all(isinstance(one["labels"], list) for one in found["predictions"])
        model = client.get("/model").json()
        assert (model["multilabel"], model["thresholds"]) == (True, [0.5] * 3)


def test_what_the_model_is(client: httpx.Client, bundle: Bundle) -> None:
    model = client.get("/model").json()
    assert model["classes"] == ["blue", "green", "red"]
    assert model["name"] == "lab/1"
    assert (model["head"], model["layers"], model["input_size"]) == ("logreg", ["last@avg"], [32, 32])
    assert model["metrics"]["test"]["accuracy"] == bundle.manifest.metrics_on("test").get("accuracy")
    assert re.fullmatch(r"accuracy \d+ % on 15 test images \(between \d+ and \d+ %\)", model["measured"])
    assert model["limits"]["images"] == 32
    assert str(bundle.path) not in json.dumps(model)
    assert client.get("/health").json() == {"status": "ok"}


# --- maps ------------------------------------------------------------------------------------------------------------


def picture_of(uri: str) -> Image.Image:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_maps_are_those_of_featx_explain(client: httpx.Client, bundle: Bundle) -> None:
    from featx.inference.overlays import draw_map

    image = encode(gradient(), "PNG")
    found = client.post("/explain", files=form(image, names=["x.png"])).json()
    (wanted,) = Explainer(bundle, top=3).explain([image])
    assert (found["path"], found["label"], found["method"]) == ("x.png", wanted.label, "cam")
    assert [one["label"] for one in found["classes"]] == [one.label for one in wanted.classes]
    for one, other in zip(found["classes"], wanted.classes, strict=True):
        assert one["score"] == pytest.approx(other.score, abs=1e-5)
        drawn, picture = draw_map(other, image, bundle)[0], picture_of(one["overlay"])
        assert picture.size == drawn.size
        assert np.abs(np.asarray(picture, float) - np.asarray(drawn, float)).mean() < 3  # JPEG
    assert client.post("/explain", files=form(b"no image")).status_code == 422
    assert client.post("/explain", files=form(image, image)).status_code == 413


def test_maps_by_covering_do_not_disturb_predictions(lab: Lab) -> None:
    bundle, image = lab.bundle("knn"), contents(lab)[0]
    wanted = expected(bundle, [image], ["0.png"], top=5)
    with served(bundle) as client, ThreadPoolExecutor(4) as pool:
        maps = pool.submit(client.post, "/explain", files=form(image))
        asked = [pool.submit(client.post, "/predict", files=form(image)) for _ in range(30)]
        assert all(same_answers(one.result().json(), wanted) for one in asked)
        assert maps.result().json()["method"] == "occlusion"


def test_without_maps_there_are_none(bundle: Bundle, lab: Lab) -> None:
    with served(bundle, Terms(maps=False)) as client:
        assert client.post("/explain", files=form(contents(lab)[0])).status_code == 404
        assert client.get("/model").json()["maps"] is False
        assert "/explain" not in client.get("/openapi.json").json()["paths"]


# --- limits ----------------------------------------------------------------------------------------------------------

BOUNDARY = "multipart/form-data; boundary=xxx"


def part(content: bytes, disposition: str = 'form-data; name="images"; filename="x.png"') -> bytes:
    return b"--xxx\r\nContent-Disposition: " + disposition.encode() + b"\r\n\r\n" + content + b"\r\n"


END = b"--xxx--\r\n"


@pytest.mark.parametrize(
    ("kind", "body", "status", "words"),
    [
        ("application/json", b'{"path": "/etc/passwd"}', 415, "application/json, not multipart/form-data"),
        ("", b"", 415, "no known type"),
        ("multipart/form-data", part(b"") + END, 400, "names no boundary"),
        ("multipart/form-data; boundary=" + "x" * 300, b"", 400, "Boundary length 300"),
        (BOUNDARY, b"", 400, "cut off"),
        (BOUNDARY, b"not a form", 400, "damaged"),
        (BOUNDARY, END, 400, "has no file"),
        (BOUNDARY, part(b"\x89PNG"), 400, "cut off"),
        (BOUNDARY, part(b"/etc/passwd", 'form-data; name="images"') + END, 400, "it has no file name"),
        (BOUNDARY, b"--xxx\r\nbad header\r\n\r\n" + END, 400, "damaged"),
        (BOUNDARY, part(b"") + END, 422, "x.png: empty file"),
        (BOUNDARY, part(b"/etc/passwd") + END, 422, "x.png: text, not an image"),
        (BOUNDARY, part(b"s3://bucket/x.png") + END, 422, "x.png: text, not an image"),
        (BOUNDARY, part(bomb(9000)) + END, 422, "81 megapixels: over the limit of 64"),
        (BOUNDARY, part(b"x") * 33 + END, 413, "may hold 32 images"),
        (BOUNDARY, b"x" * 32_000_001, 413, "larger than 32 MB"),
    ],
)
def test_a_bad_request_is_refused_with_a_sentence(
    client: httpx.Client, kind: str, body: bytes, status: int, words: str
) -> None:
    found = client.post("/predict", content=body, headers={"Content-Type": kind} if kind else {})
    assert found.status_code == status
    assert words in found.json()["detail"]
    assert client.get("/health").status_code == 200


def test_other_requests_are_refused_with_a_sentence(client: httpx.Client) -> None:
    for method, path, status in (
        ("GET", "/predict", 405),
        ("DELETE", "/model", 405),
        ("GET", "/nothing", 404),
        ("GET", "/report", 404),  # this bundle has none
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/page.css/../../bundle.py", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("POST", "/predict?top=0", 422),
        ("POST", "/predict?top=many", 422),
        ("POST", "/predict?tops=2", 422),
        ("POST", "/predict?top=2&min_confidence=0.9", 422),
    ):
        found = client.request(method, path)
        assert found.status_code == status, path
        assert found.json()["detail"].endswith("."), path


def test_a_stream_is_cut_where_the_limit_is(bundle: Bundle) -> None:
    sent = 0

    def stream() -> Iterator[bytes]:
        nonlocal sent
        yield b'--xxx\r\nContent-Disposition: form-data; name="images"; filename="x.png"\r\n\r\n'
        for _ in range(40):
            sent += 100_000
            yield b"x" * 100_000

    with served(bundle, limits=Limits(upload=1_000_000)) as client:
        found = client.post("/predict", content=stream(), headers={"Content-Type": BOUNDARY})
        assert found.status_code == 413
        assert "larger than 1 MB" in found.json()["detail"]
        assert "Transfer-Encoding" in found.request.headers


def raw(client: httpx.Client, head: bytes) -> socket.socket:
    connection = socket.create_connection((client.base_url.host, client.base_url.port), timeout=60)
    connection.sendall(head)
    return connection


def test_too_many_at_once_are_told_to_come_back(bundle: Bundle, lab: Lab) -> None:
    copy, gate = gated(bundle)
    with served(copy, limits=Limits(requests=1)) as client, ThreadPoolExecutor(1) as pool:
        image = form(contents(lab)[0])
        gate.open.clear()
        gate.entered.clear()
        first = pool.submit(client.post, "/predict", files=image)
        assert gate.entered.wait(60)
        refused = client.post("/predict", files=image)
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "1"
        assert "limit" in refused.json()["detail"]
        assert client.get("/health").status_code == 200
        gate.open.set()
        assert first.result().status_code == 200
        assert client.post("/predict", files=image).status_code == 200


def test_who_sends_slowly_is_in_nobodys_way(bundle: Bundle, lab: Lab) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: " + BOUNDARY.encode()
    with served(bundle, limits=Limits(requests=1)) as client, ExitStack() as slow:
        for _ in range(10):
            slow.enter_context(raw(client, head + b"\r\nContent-Length: 1000\r\n\r\n--xxx"))
        assert client.post("/predict", files=form(contents(lab)[0])).status_code == 200


def test_arriving_requests_hold_no_more_than_the_limits(bundle: Bundle, lab: Lab) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: " + BOUNDARY.encode()
    some = (
        b"\r\nContent-Length: 90000\r\n\r\n--xxx\r\nContent-Disposition: form-data; filename=a\r\n\r\n" + b"a" * 60_000
    )
    with served(bundle, limits=Limits(requests=1, upload=100_000)) as client:
        with raw(client, head + some):
            wait_for(lambda: client.post("/predict", files=form(b"a" * 60_000)).status_code == 429)
            assert client.post("/predict", files=form(contents(lab)[0])).status_code == 200  # which there is room for
        # What a client that went away had sent is given back.
        wait_for(lambda: client.post("/predict", files=form(b"a" * 60_000)).status_code == 422)
        assert client.post("/predict", files=form(contents(lab)[0])).status_code == 200


def is_closed(connection: socket.socket, seconds: float = 10) -> bool:
    """Whether the other side hangs up within so many seconds."""
    connection.settimeout(seconds)
    try:
        return connection.recv(100) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_headers_have_to_come_in_time(bundle: Bundle) -> None:
    with served(bundle, limits=Limits(head=0.5)) as client:
        with raw(client, b"G") as half, raw(client, b"") as silent, raw(client, b"GET /health HTTP/1.1\r\n") as part:
            assert all(map(is_closed, (half, silent, part)))
        whole = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with raw(client, whole) as again:  # what follows an answer has to be whole in time as well
            assert again.recv(10).startswith(b"HTTP/1.1 2")
            again.recv(10_000)
            for _ in range(40):
                try:
                    again.sendall(b"G")
                except ConnectionError:
                    break
                time.sleep(0.1)
            else:
                pytest.fail("a request that came byte by byte was waited for")


def test_half_open_connections_make_way_for_others(bundle: Bundle, lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    image = form(contents(lab)[0])
    with served(bundle, limits=Limits(connections=8, head=60)) as client, ExitStack() as open_ones:
        half = [open_ones.enter_context(raw(client, b"G")) for _ in range(60)]
        url = str(client.base_url)
        for _ in range(3):
            assert httpx.post(f"{url}/predict", files=image, trust_env=False, timeout=60).status_code == 200
        assert sum(not is_closed(one, 0.05) for one in half) < 8
    lines = [record.getMessage() for record in caplog.records if "connections are open" in record.getMessage()]
    assert 1 <= len(lines) <= 2  # not sixty: once, and with their number at the end


class Wire(asyncio.Transport):
    """A connection of an address, that is not there."""

    def __init__(self, address: str) -> None:
        super().__init__({"peername": (address, 1)})
        self.open = True

    def abort(self) -> None:
        self.open = False


def test_one_address_has_a_share_of_the_connections() -> None:
    connections = Connections(Limits(connections_of_one=3), 20)
    wires = [Wire("10.0.0.1") for _ in range(5)] + [Wire("10.0.0.2"), Wire("::ffff:10.0.0.2")]
    wires += [Wire("127.0.0.1") for _ in range(8)]
    assert all(connections.admit(Watched(), wire) for wire in wires)
    assert [wire.open for wire in wires] == [False, False] + [True] * 13
    crowd = [Watched() for _ in range(3)]
    for one in crowd:
        assert connections.admit(one, Wire("2001:db8::1"))
        one.cycle = SimpleNamespace(response_complete=False, more_body=False)  # at work, so that none makes way
    assert not connections.admit(Watched(), Wire("2001:db8::ffff"))
    assert connections.admit(Watched(), Wire("2001:db8:0:1::1"))


def test_repeated_lines_of_the_log_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    repeats, logger = Repeats(), logging.getLogger("featx.test")
    logger.addFilter(repeats)
    for number in range(1000):
        logger.warning("%d sockets", number)
    logger.warning("another")
    logger.removeFilter(repeats)
    repeats.finish()
    assert [record.getMessage() for record in caplog.records] == ["0 sockets", "another", "0 sockets (999 times more)"]


def test_who_sends_too_slowly_is_refused(bundle: Bundle) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: " + BOUNDARY.encode()
    begun = head + b"\r\nContent-Length: 1000\r\n\r\n--xxx"
    with served(bundle, limits=Limits(seconds=0.2)) as client, raw(client, begun) as connection:
        assert b"408 Request Timeout" in connection.recv(100)


def test_what_takes_too_long_is_given_up(bundle: Bundle, lab: Lab) -> None:
    copy, gate = gated(bundle)
    images = contents(lab)
    with served(copy, limits=Limits(seconds=0.3)) as client:
        gate.sizes.clear()
        gate.open.clear()
        refused = [client.post("/predict", files=form(image)) for image in images[:3]]
        gate.open.set()
        assert [one.status_code for one in refused] == [503] * 3
        assert "longer than 0.3 seconds" in refused[0].json()["detail"]
        wait_for(lambda: client.post("/predict", files=form(images[3])).status_code == 200)
    assert len(gate.sizes) <= 3  # the first, and none of those that nobody waits for any more


def test_images_are_refused_by_their_header_where_they_are_long_strips(client: httpx.Client) -> None:
    strips = [bomb(60, 20_000), bomb(20_000, 60)]
    found = client.post("/predict", files=form(*strips))
    assert found.status_code == 422
    assert [one["reason"] for one in found.json()["bad"]] == [
        "60 x 20,000 pixels: one side is more than 200 times the other",
        "20,000 x 60 pixels: one side is more than 200 times the other",
    ]


def test_requests_with_large_images_have_slots_of_their_own(bundle: Bundle, lab: Lab) -> None:
    copy, gate = gated(bundle)
    with served(copy, limits=Limits(requests=2)) as client, ThreadPoolExecutor(4) as pool:
        gate.open.clear()
        gate.entered.clear()
        first = pool.submit(client.post, "/predict", files=form(bomb(2_500)))
        assert gate.entered.wait(60)
        refused = client.post("/predict", files=form(contents(lab)[0], bomb(2_500)))
        assert refused.status_code == 429
        assert "1 request with large images is under way" in refused.json()["detail"]
        others = [pool.submit(client.post, "/predict", files=form(image)) for image in contents(lab)[:2]]
        gate.open.set()
        assert [one.result().status_code for one in (first, *others)] == [200] * 3


def test_large_images_are_in_nobodys_way() -> None:
    begun, go = threading.Event(), threading.Event()

    def prepare(source: str) -> int:
        if source.startswith("1000"):
            begun.set()
            assert go.wait(60)
        return int(source)

    made: Batcher[str, int, int] = Batcher(
        prepare, lambda items: [2 * one for one in items], 4, 2, lambda one: len(one) > 3
    )
    made.start()
    large = [made.submit("1000") for _ in range(8)]
    assert begun.wait(60)
    assert [made.submit(str(number)).result(60) for number in range(20)] == [2 * number for number in range(20)]
    assert not any(one.done() for one in large)
    go.set()
    assert [one.result(60) for one in large] == [2000] * 8
    made.close()


def test_uploads_never_touch_the_disk(client: httpx.Client, lab: Lab) -> None:
    opened: list[Any] = []
    watching = threading.Event()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching.is_set() and event in {"open", "os.open", "tempfile.mkstemp"}:
            opened.append(arguments[0])

    large = encode(np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8), "PNG")
    assert len(large) > 3_000_000
    client.post("/predict", files=form(large))  # what is loaded once is loaded now
    sys.addaudithook(watch)
    watching.set()
    found = client.post("/predict", files=form(large, large, names=["../../etc/passwd", "C:\\x.png"]))
    watching.clear()
    assert [one["path"] for one in found.json()["predictions"]] == ["../../etc/passwd", "x.png"]
    assert opened == []


# --- who may ask -----------------------------------------------------------------------------------------------------


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


def test_a_key(bundle: Bundle, lab: Lab) -> None:
    key, image = "wörd: 7", contents(lab)[0]
    with served(bundle, key=key) as client:
        assert client.get("/health").status_code == 200
        for path in ("/", "/page.js", "/model", "/docs", "/openapi.json", "/report", "/nothing"):
            found = client.get(path)
            assert found.status_code == 401, path
            assert found.headers["WWW-Authenticate"].startswith("Basic")
        assert client.post("/predict", files=form(image)).status_code == 401
        for wrong in (basic("word"), basic(""), "Basic !!", "Basic", "Bearer", "Bearer x", "Digest x", ""):
            assert client.get("/model", headers={"Authorization": wrong}).status_code == 401, wrong
        assert client.get("/model", headers={"X-API-Key": "wrong"}).status_code == 401
        for header, value in (
            ("X-API-Key", key.encode()),
            ("Authorization", b"Bearer " + key.encode()),
            ("Authorization", basic(key).encode()),
        ):
            found = client.post("/predict", files=form(image), headers=[(header.encode(), value)])
            assert found.status_code == 200, header
        described = client.get("/openapi.json", headers={"Authorization": basic(key)}).json()
        assert described["components"]["securitySchemes"]["key"]["name"] == "X-API-Key"
        assert described["paths"]["/health"]["get"]["security"] == []
        assert client.get("/model", headers={"Authorization": basic(key), "Host": "featx.example"}).status_code == 200


def test_wrong_keys_are_slowed_down(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    delay, waits = WrongKeys.delay, []

    def noted(keys: WrongKeys, address: str | None) -> float:
        waits.append(delay(keys, address))
        return waits[-1]

    monkeypatch.setattr(WrongKeys, "delay", noted)
    started = time.perf_counter()
    with served(bundle, key="right") as client:
        for number in range(5):
            assert client.get("/model", headers={"X-API-Key": f"wrong {number}"}).status_code == 401
        assert waits == [0, 0, 0, 0.25, 0.5]  # people mistype
        assert client.get("/model").status_code == 401  # a browser asks without a key first
        assert client.get("/health").status_code == 200
        assert len(waits) == 5
        assert client.get("/model", headers={"X-API-Key": "right"}).status_code == 200  # late, and not locked out
        assert waits[5:] == [1.0]
    assert time.perf_counter() - started > 1.7  # of waiting


def test_pages_of_other_origins_are_refused_where_the_browser_names_no_site(client: httpx.Client, lab: Lab) -> None:
    image, own = form(contents(lab)[0]), f"{client.base_url.host}:{client.base_url.port}"
    for origin, status in (
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
        (f"http://{client.base_url.host}", 403),  # another port is another site
        (f"http://{own}", 200),
        (f"https://{own}", 200),
    ):
        assert client.post("/predict", files=image, headers={"Origin": origin}).status_code == status, origin
    behind = {"Origin": "https://lab.example", "X-Forwarded-Host": "lab.example"}
    assert client.post("/predict", files=image, headers=behind).status_code == 200
    assert client.get("/model", headers={"Origin": "http://evil.example"}).status_code == 200  # it cannot read that


def test_other_web_sites_can_neither_ask_nor_read(client: httpx.Client, lab: Lab) -> None:
    for host in (
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "",
    ):
        assert client.get("/model", headers={"Host": host}).status_code == 421, host
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "127.1.2.3:99", "[::1]:8000", "[::1]", "app.localhost"):
        assert client.get("/model", headers={"Host": host}).status_code == 200, host
    image = form(contents(lab)[0])
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        assert client.post("/predict", files=image, headers={"Sec-Fetch-Site": site}).status_code == status
    for path in ("/", "/page.css", "/page.js", "/docs", "/model", "/health", "/openapi.json", "/nothing"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"], path
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert not any(name.lower().startswith("access-control-") for name in headers)


def test_the_report_is_shown_and_can_do_nothing(lab: Lab, bundle: Bundle, tmp_path: Path) -> None:
    copy = replace(bundle, path=tmp_path)
    copy.__dict__.update(
        engine=bundle.engine, head=bundle.head, transform=bundle.transform, calibration=bundle.calibration
    )
    with served(copy) as client:
        assert client.get("/model").json()["report"] is False
        (tmp_path / "report").mkdir()
        (tmp_path / "report" / "index.html").write_text("<!doctype html><title>Report</title>", encoding="utf-8")
        assert client.get("/model").json()["report"] is True
        found = client.get("/report")
        assert "<title>Report</title>" in found.text
        rules = found.headers["Content-Security-Policy"]
        assert "sandbox allow-scripts;" in rules
        assert "default-src 'none'" in rules
    with served(copy, Terms(report=False)) as client:
        assert client.get("/report").status_code == 404


def test_pages_load_nothing_from_elsewhere(client: httpx.Client) -> None:
    for path in ("/", "/page.css", "/page.js", "/docs"):
        found = client.get(path)
        assert found.status_code == 200
        text = found.text.replace("http://localhost:8000", "")  # in commands to copy
        assert not re.search(r"https?:|//[a-z]|@import", re.sub(r"^\s*//.*|\s// .*", "", text, flags=re.M)), path


# --- the documents ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js here")
@pytest.mark.parametrize(
    ("file", "words"),
    [
        (
            "{slice: () => ({arrayBuffer: () => Promise.reject(new DOMException('gone', 'NotReadableError'))})}",
            "The browser",
        ),
        ("new Blob(['x'])", "The server does not answer"),
    ],
)
def test_the_page_says_whether_the_file_or_the_server_is_gone(file: str, words: str) -> None:
    from featx.serve import page

    script = page.asset("page.js").body.decode()
    asking = script[script.index("/** The JSON of an answer") : script.index("/** Begin what waits")]
    program = f"""
        const TRIES = 1;
        class FormData {{ append() {{}} }}
        const fetch = () => Promise.reject(new TypeError("Failed to fetch"));
        {asking}
        ask("predict", {file}).catch((error) => console.log(error.message));
    """
    done = subprocess.run(["node", "-e", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(words), done.stderr


def test_the_documents_name_every_route_and_what_it_answers(client: httpx.Client) -> None:
    api = client.get("/openapi.json").json()
    assert set(api["paths"]) == {"/predict", "/explain", "/model", "/health"}
    answers = api["paths"]["/predict"]["post"]["responses"]
    assert set(answers) == {"200", "400", "403", "408", "413", "415", "422", "429", "503"}
    assert answers["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Answers"}
    assert set(api["components"]["schemas"]["Prediction"]["properties"]) >= {"path", "label", "confidence", "top"}
    docs = client.get("/docs").text
    for path, operations in api["paths"].items():
        assert f"{next(iter(operations)).upper()} {path}" in docs
    for name in api["components"]["schemas"]:
        assert f'id="{name}"' in docs


def test_nothing_that_the_documents_allow_fails(client: httpx.Client, lab: Lab) -> None:
    """No request made of the OpenAPI document, rightly or wrongly, is answered by a mistake of the server."""
    random = np.random.default_rng(0)
    api = client.get("/openapi.json").json()
    odd = ["", "0", "1", "-1", "99999999999999999999", "1e5", "null", "ä", "%00", "[]", "1&top=2", "\u202e"]
    good = contents(lab)[0]
    for path, operations in api["paths"].items():
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE"):
            assert client.request(method, path).status_code < 500
        for method, operation in operations.items():
            names = [one["name"] for one in operation.get("parameters", [])]
            for name in [*names, "unheard-of"]:
                for value in odd:
                    found = client.request(method.upper(), path, params={name: value}, files=form(good))
                    documented = set(operation["responses"]) | {"405"}
                    assert str(found.status_code) in documented, (path, name, value)
            for _ in range(10):
                noise = [random.bytes(int(size)) for size in random.integers(0, 2000, 3)]
                found = client.request(method.upper(), path, files=form(*noise))
                assert str(found.status_code) in operation["responses"], (path, found.text)


# --- a whole process -------------------------------------------------------------------------------------------------


class Process:
    """`featx serve` as a process of its own."""

    def __init__(self, *arguments: object, cwd: Path, **variables: str) -> None:
        command = [sys.executable, "-m", "featx", "serve", *map(str, arguments), "--port", "0"]
        self.running = subprocess.Popen(
            command, cwd=cwd, env=environment(**variables), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.running.stderr is not None
        self.said: list[str] = []
        for line in self.running.stderr:
            self.said.append(line)
            if found := re.search(r"at http://([\d.]+):(\d+) ", line):
                self.address = found[1], int(found[2])
                return
        raise AssertionError("".join(self.said))

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.running.kill()
        self.running.wait()
        for stream in (self.running.stdout, self.running.stderr):
            assert stream is not None
            stream.close()

    def end(self, how: signal.Signals) -> tuple[int, str, str]:
        """Send a signal; return the status, and what is on stdout and stderr."""
        self.running.send_signal(how)
        out, err = self.running.communicate(timeout=30)
        return self.running.returncode, out, err

    @property
    def memory(self) -> float:
        """Resident, in MB."""
        status = Path(f"/proc/{self.running.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1e3  # type: ignore[index]


def malformed(count: int) -> Iterator[tuple[str, bytes]]:
    """Content types and bodies of which no answer can be made, no two alike."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (64, 64, 3), np.uint8)
    jpeg, png, webp = encode(pixels, "JPEG"), encode(pixels, "PNG"), encode(pixels, "WEBP", lossless=True)
    huge = bomb(9000)[:2000]

    def cut(image: bytes) -> bytes:
        return image[: int(random.integers(1, len(image) // 2))]

    def noise() -> bytes:
        return bytes(random.bytes(int(random.integers(1, 3000))))

    kinds: list[Callable[[], tuple[str, bytes]]] = [
        lambda: (BOUNDARY, part(cut(jpeg)) + END),
        lambda: (BOUNDARY, part(cut(png)) + END),
        lambda: (BOUNDARY, part(cut(webp)) + END),
        lambda: (BOUNDARY, part(noise()) + END),
        lambda: (BOUNDARY, part(huge + noise()) + END),
        lambda: (BOUNDARY, part(b"") + END),
        lambda: (BOUNDARY, part(png)[: int(random.integers(1, len(png)))]),
        lambda: (BOUNDARY, part(png).replace(b"--xxx", b"--yyy") + END),
        lambda: (BOUNDARY, part(png, "form-data; name=" + noise()[:40].hex()) + END),
        lambda: (BOUNDARY, noise()),
        lambda: (BOUNDARY, b"--xxx\r\n" + noise()),
        lambda: ("multipart/form-data", part(png) + END),
        lambda: ("application/octet-stream", png),
        lambda: ("application/json", json.dumps({"images": noise().hex()}).encode()),
        lambda: (BOUNDARY, part(png) * 33 + END),
    ]
    for number in range(count):
        yield kinds[number % len(kinds)]()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_thousand_malformed_uploads_are_refused_and_cost_no_memory(lab: Lab, bundle: Bundle, tmp_path: Path) -> None:
    with Process(bundle.path, "--no-maps", cwd=tmp_path) as process:
        connection = http.client.HTTPConnection(*process.address, timeout=60)

        def post(kind: str, body: bytes) -> tuple[int, Any]:
            connection.request("POST", "/predict", body, {"Content-Type": kind})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

        statuses, memory = [], 0.0
        for number, (kind, body) in enumerate(malformed(1000)):
            status, answer = post(kind, body)
            assert 400 <= status < 500, (status, kind, body[:80])
            assert answer["detail"]
            statuses.append(status)
            if number == 199:
                memory = process.memory
        assert {400, 413, 415, 422} <= set(statuses)
        assert process.memory < memory + 10
        status, answer = post(BOUNDARY, part(contents(lab)[0]) + END)
        assert status == 200
        assert same_answers(answer, expected(bundle, contents(lab)[:1], ["x.png"], top=5))
        connection.close()
        status, out, err = process.end(signal.SIGINT)
    assert (status, out, err) == (0, "", "Ended.\n")  # and nothing was said of a thousand bad requests


def test_a_packed_bundle_is_served_and_leaves_nothing_behind(bundle: Bundle, lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    pack(bundle, tmp_path / "lab.featx")
    with Process("lab.featx", "--top", 2, cwd=tmp_path, TMPDIR=str(tmp_path / "tmp"), FEATX_API_KEY="k") as process:
        assert list((tmp_path / "tmp").iterdir())
        address = "http://{}:{}".format(*process.address)
        assert httpx.get(f"{address}/model", trust_env=False).status_code == 401
        found = httpx.get(f"{address}/model", headers={"X-API-Key": "k"}, trust_env=False).json()
        assert (found["name"], found["top"], found["report"]) == ("lab", 2, False)
        status, _, err = process.end(signal.SIGTERM)
    assert (status, err) == (0, "Ended.\n")
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="workers are found in /proc")
def test_several_workers_serve_and_one_that_dies_is_replaced(bundle: Bundle, lab: Lab, tmp_path: Path) -> None:
    shutil.copytree(bundle.path, tmp_path / "served")
    with Process("served", "--no-maps", "--workers", 2, cwd=tmp_path) as process:
        pid = process.running.pid

        def workers() -> set[int]:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            return {int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()}

        first = workers()
        assert len(first) == 2
        address, images = "http://{}:{}".format(*process.address), contents(lab)
        wanted = expected(bundle, images[:1], ["0.png"], top=5)
        for _ in range(4):
            found = httpx.post(f"{address}/predict", files=form(images[0]), trust_env=False, timeout=60).json()
            assert same_answers(found, wanted)
        os.kill(min(first), signal.SIGKILL)
        assert process.running.stderr is not None
        assert process.running.stderr.readline() == "A worker ended by signal SIGKILL: another takes its place.\n"
        assert httpx.get(f"{address}/health", trust_env=False, timeout=60).json() == {"status": "ok"}
        status, out, err = process.end(signal.SIGTERM)
        assert (status, out, err) == (0, "", "Ended.\n")
    assert not any(Path(f"/proc/{one}").exists() for one in first)


def test_workers_that_cannot_start_end_the_server(bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.path, tmp_path / "served")
    (tmp_path / "served" / "head.npz").write_bytes(b"damaged")
    done = call("serve", "served", "--workers", "2", "--port", "0", cwd=tmp_path)
    alone = call("serve", "served", "--port", "0", cwd=tmp_path)
    assert (done.status, done.err) == (1, alone.err)
    assert "head.npz" in done.err


# --- the command line ------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_one_sentence(bundle: Bundle, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = call("serve", bundle.path, "--port", str(port), cwd=tmp_path)
    assert done.status == 1
    assert done.err == (
        f"featx: Port {port} of 127.0.0.1 is in use. "
        f"Choose another: --port {port + 1}, or --port 0 for any that is free.\n"
    )


def test_a_host_that_is_not_here_is_one_sentence(bundle: Bundle, tmp_path: Path) -> None:
    done = call("serve", bundle.path, "--host", "192.0.2.1", "--port", "0", cwd=tmp_path)
    assert done.status == 1
    assert (
        done.sentence == "featx: --host 192.0.2.1 is not an address of this machine. 127.0.0.1 is, and 0.0.0.0 is all."
    )


def test_a_port_that_is_not_permitted_is_one_sentence(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket.socket, "bind", refuse)  # who runs the tests may be permitted
    done = call("serve", bundle.path, "--port", "80", cwd=tmp_path)
    assert done.sentence == "featx: Port 80 is not permitted to this user. Choose one from 1024 on: --port 8000"


def test_what_is_not_installed_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "fastapi" else there(name, *more)
    )
    done = call("serve", cwd=tmp_path)
    assert done.status == 1
    assert done.sentence == "featx: featx serve needs fastapi, which is not installed: pip install 'featx[serve]'"


def test_wrong_options_are_one_sentence(bundle: Bundle, tmp_path: Path) -> None:
    for arguments, status, words in (
        (("--api-key", " "), 2, "--api-key is empty"),
        (("--max-upload", "much"), 2, "A size is a number and a unit"),
        (("--min-confidence", "2"), 2, "--min-confidence must be at most 1, got 2.0"),
        (("--name", "gone", "--runs", "gone"), 1, "No bundle"),
    ):
        done = call("serve", *([] if "gone" in arguments else [bundle.path]), *arguments, cwd=tmp_path)
        assert done.status == status
        assert words in done.sentence


def test_listening_elsewhere_without_a_key_warns(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import uvicorn

    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: None)
    for host, more, warned in (("0.0.0.0", (), True), ("0.0.0.0", ("--api-key", "k"), False), ("127.0.0.1", (), False)):
        done = call("serve", bundle.path, "--host", host, "--port", "0", *more, cwd=tmp_path)
        assert done.status == 0
        assert ("Protect it with --api-key KEY" in done.err) == warned


# --- batches ---------------------------------------------------------------------------------------------------------


def batcher(work: Callable[[Sequence[int]], list[int]], size: int = 4) -> Batcher[str, int, int]:
    made: Batcher[str, int, int] = Batcher(int, work, size, threads=2)
    made.start()
    return made


def test_the_one_that_is_to_blame_fails_alone() -> None:
    def work(items: Sequence[int]) -> list[int]:
        if 13 in items:
            raise ValueError("13")
        return [2 * item for item in items]

    made = batcher(work)
    asked = [made.submit(text) for text in ("1", "13", "x", "3", "4", "5")]
    assert [asked[i].result(60) for i in (0, 3, 4, 5)] == [2, 6, 8, 10]
    with pytest.raises(ValueError, match=r"^13$"):
        asked[1].result(60)
    with pytest.raises(ValueError, match="invalid literal"):
        asked[2].result(60)
    made.close()


def test_what_nobody_waits_for_is_not_worked_on() -> None:
    go, entered, seen = threading.Event(), threading.Event(), []

    def work(items: Sequence[int]) -> list[int]:
        entered.set()
        assert go.wait(60)
        seen.extend(items)
        return list(items)

    made = batcher(work)
    first = made.submit("1")
    assert entered.wait(60)
    others: list[Future[int]] = [made.submit(str(number)) for number in range(2, 9)]
    assert all(one.cancel() for one in others[:5])
    go.set()
    assert [one.result(60) for one in (first, *others[5:])] == [1, 7, 8]
    assert sorted(seen) == [1, 7, 8]
    made.close()
