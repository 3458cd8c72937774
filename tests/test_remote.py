"""Images on URLs: an S3 server and a web server in this process, fsspec's files in memory."""

from __future__ import annotations

import csv
import io
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import h5py
import numpy as np
import pytest
from cached import extract, fresh, repair_store
from conftest import SIDE
from fitted import Outcome, call, write_pictures
from PIL import Image

import featx
from featx.config import DataOptions, FeaturesOptions
from featx.dataset import ImageSet, check_images, read_images, split_images, write_split
from featx.dataset.folders import expand
from featx.errors import DataError, UsageError
from featx.extraction.flow import Extraction
from featx.images.decoder import load_image
from featx.io.files import atomic_path
from featx.io.index import StatIndex
from featx.io.remote import Remote, RemoteStatus, shared_remote
from featx.io.servers import AT_ONCE, Patience, Servers
from featx.io.urls import is_url, join, parent, plain

# of the libraries behind the test servers
pytestmark = [pytest.mark.filterwarnings(f"ignore::DeprecationWarning:{name}") for name in ("moto", "botocore", "s3fs")]

BUCKET = "plants"
UNKIND = "ein Blatt é.png"  # a name with a space and beyond ASCII


@dataclass
class Asked:
    """What S3 was asked: (operation, key or prefix)."""

    calls: list[tuple[str, str]] = field(default_factory=list)

    def of(self, operation: str) -> list[str]:
        return [key for name, key in self.calls if name == operation]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 server, which the environment names, with keys for it."""
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # or every request is a line on stderr
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    url = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        S3FileSystem.clear_instance_cache()
        yield url
        S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images in three classes, one of them broken, and a hidden file."""
    root = write_pictures(tmp_path_factory.mktemp("remote") / "pictures", per_class=7)
    shutil.copy(root / "green" / "0-00.png", root / "green" / UNKIND)
    Image.open(root / "green" / "0-01.png").rotate(5).save(root / "green" / UNKIND)
    Image.open(root / "red" / "0-00.png").rotate(5).save(root / "red" / "photo.JPG")
    (root / "blue" / "broken.png").write_bytes((root / "blue" / "0-00.png").read_bytes()[:300])
    (root / "blue" / ".hidden.png").write_bytes(b"x")
    return root


@pytest.fixture(scope="module")
def few(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 of these images, the broken one among them."""
    root = tmp_path_factory.mktemp("few") / "pictures"
    for path in [*pictures.rglob("0-0[0-3].png"), pictures / "green" / UNKIND, pictures / "blue" / "broken.png"]:
        (root / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path.parent.name)
    return root


def upload(folder: Path, prefix: str) -> str:
    """Put a folder into the bucket; its URL."""
    s3 = fsspec.filesystem("s3")
    s3.makedirs(BUCKET, exist_ok=True)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            s3.pipe_file(f"{BUCKET}/{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return f"s3://{BUCKET}/{prefix}"


@pytest.fixture(scope="module")
def url(endpoint: str, pictures: Path) -> str:
    """The same images in a bucket."""
    return upload(pictures, "all")


@pytest.fixture(autouse=True)
def anew() -> Iterator[Remote]:
    """No test profits from what another was answered, or waits as long as for a real server."""
    shared_remote.cache_clear()
    shared_remote().servers.patience = Patience(tries=(0.01, 0.01, 0.01), first_probe=0.05)
    yield shared_remote()
    shared_remote.cache_clear()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    from aiobotocore.client import AioBaseClient

    found, original = Asked(), AioBaseClient._make_api_call

    async def note(self: Any, operation: str, given: dict[str, Any]) -> Any:
        found.calls.append((operation, given.get("Key", given.get("Prefix", ""))))
        return await original(self, operation, given)

    monkeypatch.setattr(AioBaseClient, "_make_api_call", note)
    return found


@pytest.fixture
def memory() -> Iterator[Callable[[Path, str], str]]:
    """Puts a folder into fsspec's memory; its URL."""
    system = fsspec.filesystem("memory")

    def put(folder: Path, name: str) -> str:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                system.pipe_file(f"/{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"memory://{name}"

    yield put
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def options(tiny_backbone: Path, cache: Path) -> FeaturesOptions:
    return FeaturesOptions(backbone=str(tiny_backbone), layer=("high",), cache=str(cache))


def read(source: object, **more: Any) -> ImageSet:
    return read_images(str(source), DataOptions(**more))


def below(images: ImageSet, root: object) -> list[str]:
    return [path.removeprefix(f"{root}/") for path in images.paths]


def features_of(done: Extraction) -> np.ndarray:
    return done.features(done.outputs[0], np.flatnonzero(done.readable)).asarray()


def make_old(folder: Path) -> None:
    """Let files have been written long ago: a digest of what was written just now is not remembered."""
    for path in folder.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))


# --- URLs as text --------------------------------------------------------------------------------------------------


def test_what_is_a_url() -> None:
    for text in ("s3://bucket/x y.png", "HTTPS://h/x", "memory://x", "simplecache::s3://bucket/x", "github://a:b@/x"):
        assert is_url(text), text
    for other in (
        "x.png",
        "/x",
        "C:\\x",
        "C://x",
        "file:///x",
        "FILE://x",
        "s3:/bucket",
        "./s3://x",
        Path("s3://x"),
        b"s3://",
    ):
        assert not is_url(other), other


def test_paths_that_are_relative_to_a_url() -> None:
    assert join("s3://b/data", "cat/x.png") == "s3://b/data/cat/x.png"
    assert join("s3://b/data/", "./../a//b.png") == "s3://b/a//b.png"
    assert join("s3://b", "../../x.png") == "s3://b/x.png"
    assert join("memory://", "x.png") == "memory://x.png"
    assert parent("s3://b/data/index.csv") == "s3://b/data"
    assert parent("https://h/d/index.csv?X-Signature=a/b") == "https://h/d"


def test_what_is_written_down_of_a_url_holds_no_secret() -> None:
    assert plain("https://me:secret@h:80/x.png?X-Amz-Signature=abc#d") == "https://h:80/x.png"
    assert plain("sftp://me:secret@h/x.png") == "sftp://h/x.png"
    assert plain("s3://b/what?.png") == "s3://b/what?.png"
    assert plain("abfs://box@account.net/x") == "abfs://box@account.net/x"
    assert plain("a/path?.png") == "a/path?.png"


def test_a_file_url_is_a_path(tmp_path: Path, pictures: Path) -> None:
    assert expand("file:///a%20b/x.png") == "/a b/x.png"
    assert read(f"file://{pictures}").paths == read(pictures).paths
    (tmp_path / "index.csv").write_text(f"path,label\nfile://{pictures}/red/0-01.png,red\n")
    assert read(tmp_path / "index.csv").paths == (str(pictures / "red" / "0-01.png"),)


# --- S3: the same as on this machine -------------------------------------------------------------------------------


def test_rows_digests_and_features_are_those_of_the_same_files_here(
    url: str, pictures: Path, options: FeaturesOptions, tmp_path: Path
) -> None:
    here, there = read(pictures), read(url)
    assert below(there, url) == below(here, pictures)
    assert (there.name, there.classes, there.notes) == ("all", here.classes, here.notes)
    np.testing.assert_array_equal(there.labels, here.labels)
    shutil.copytree(options.cache, tmp_path / "other")
    local = extract(here, replace(options, cache=str(tmp_path / "other")))
    far = extract(there, options)
    assert far.computed == local.computed == 23
    np.testing.assert_array_equal(far.digests, local.digests)
    np.testing.assert_array_equal(features_of(far), features_of(local))
    (bad,) = far.bad
    assert bad == {"path": f"{url}/blue/broken.png", "reason": local.bad[0]["reason"]}
    assert extract(here, options).computed == 0  # content is what counts, wherever it lies


def test_a_second_run_lists_and_reads_nothing(url: str, options: FeaturesOptions, asked: Asked) -> None:
    first = extract(read(url), options)
    assert len(asked.of("GetObject")) == 24 + 24  # for the digest, and to decode
    asked.calls.clear()
    second = extract(read(url), options)
    assert (second.computed, second.reused) == (0, first.computed)
    assert asked.of("GetObject") == []
    assert asked.of("HeadObject") == ["all"]  # is it an object or a folder?
    folders = [prefix for prefix in asked.of("ListObjectsV2") if prefix != "all/"]
    assert sorted(folders) == ["all/blue/", "all/green/", "all/red/"]
    assert len(asked.calls) == 1 + 2 + 3


def test_a_replaced_object_is_computed_anew_and_no_other(
    endpoint: str, few: Path, options: FeaturesOptions, asked: Asked
) -> None:
    folder = upload(few, "changing")
    done = extract(read(folder), options)
    s3 = fsspec.filesystem("s3")
    image = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(image, "PNG")
    s3.pipe_file(f"{BUCKET}/changing/red/0-01.png", image.getvalue())
    s3.rm_file(f"{BUCKET}/changing/red/0-02.png")
    asked.calls.clear()
    again = extract(read(folder), options)
    assert (again.computed, again.reused) == (1, done.computed - 2)
    assert set(asked.of("GetObject")) == {"changing/red/0-01.png"}


def test_an_image_that_is_replaced_while_featx_runs_is_not_taken_for_what_it_was(
    memory: Callable[[Path, str], str], few: Path, options: FeaturesOptions
) -> None:
    root, system = memory(few, "moving"), fsspec.filesystem("memory")
    other = (few / "red" / "0-00.png").read_bytes()

    def replace_one(stage: str, done: int, total: int, **_: Any) -> None:
        if stage == "hash" and done == total:
            system.pipe_file("/moving/green/0-02.png", other)

    done = extract(read(root), options, replace_one)
    reasons = {one["path"]: one["reason"] for one in done.bad}
    assert "replaced while featx ran" in reasons[f"{root}/green/0-02.png"]
    assert len(extract(read(root), options).bad) == 1  # only the broken one


def run(*arguments: object, cwd: Path, status: int = 0) -> Outcome:
    done = call(*map(str, arguments), cwd=cwd)
    assert done.status == status, done.err
    return done


@pytest.fixture(scope="module")
def fitted(url: str, tiny_backbone: Path, warm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cache and the bundle of a head that was fitted on the bucket."""
    folder = tmp_path_factory.mktemp("fitted")
    shutil.copytree(warm_cache, folder / "cache")
    run("fit-head", url, "--backbone", tiny_backbone, "--layer", "high", "--clf", "ridge", cwd=folder)
    return folder


def test_a_head_is_fitted_on_a_bucket_and_evaluated_there(fitted: Path, url: str, pictures: Path) -> None:
    here = run("evaluate", "--data", pictures, "--json", cwd=fitted).json
    there = run("evaluate", "--data", f"{url}/", "--json", cwd=fitted).json
    assert there["accuracy"] == here["accuracy"]
    assert there["confusion"] == here["confusion"]
    assert (fitted / "runs" / "all" / "1-ridge" / "report" / "index.html").is_file()


def test_predictions_are_those_of_the_same_files_here(fitted: Path, url: str, pictures: Path) -> None:
    names = (f"green/{UNKIND}", "red/photo.JPG", "blue/broken.png")
    here = run("predict", *(pictures / name for name in names), "--json", cwd=fitted).json
    there = run("predict", *(f"{url}/{name}" for name in names), "--json", cwd=fitted).json
    assert [one["path"] for one in there["predictions"]] == [f"{url}/{name}" for name in names[:2]]
    for far, near in zip(there["predictions"], here["predictions"], strict=True):
        assert {**far, "path": ""} == {**near, "path": ""}
    assert there["bad"] == [{"path": f"{url}/blue/broken.png", "reason": here["bad"][0]["reason"]}]
    assert len(run("predict", url, "--json", cwd=fitted).json["predictions"]) == 23
    tta = ("--tta", "2", "--flip", "horizontal", "--json")
    assert (
        run("predict", f"{url}/red", *tta, cwd=fitted).json["predictions"][3]["confidence"]
        == run("predict", pictures / "red", *tta, cwd=fitted).json["predictions"][3]["confidence"]
    )


def test_explain_similar_check_and_relabel_read_a_bucket(
    fitted: Path, url: str, pictures: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    query = f"{url}/green/{UNKIND}"
    told = run("explain", query, "--out", tmp_path / "maps", "--json", cwd=fitted).json
    with Image.open(told["images"][0]["classes"][0]["files"]["overlay"]) as overlay:
        assert overlay.width >= 256
    found = run(
        *("similar", query, "--data", url, "--backbone", tiny_backbone, "--layer", "high", "--top", 2, "--json"),
        *("--out", tmp_path / "similar.png"),
        cwd=fitted,
    ).json
    assert found["images"][0]["similar"][0] == {"path": query, "label": "green", "similarity": 1.0}
    assert (tmp_path / "similar.png").is_file()
    checked = run("check", url, "--json", cwd=fitted).json
    assert (checked["readable"], [one["path"] for one in checked["bad"]]) == (23, [f"{url}/blue/broken.png"])
    (tmp_path / "fixed.csv").write_text(f"path,label\nred/0-00.png,blue\n{url}/red/0-01.png,green\n")
    corrected = read(url, relabel=str(tmp_path / "fixed.csv"))
    rows = [below(corrected, url).index(name) for name in ("red/0-00.png", "red/0-01.png", "red/0-02.png")]
    assert [corrected.label_names(row) for row in rows] == [("blue",), ("green",), ("red",)]


def test_rows_are_repaired_from_a_bucket(
    endpoint: str, options: FeaturesOptions, few: Path, memory: Callable[[Path, str], str]
) -> None:
    folder = upload(few, "mended")
    done = extract(read(folder), options)
    before = features_of(done)
    (part,) = done.store.directory.glob("high@avg/*.h5")
    with h5py.File(part, "r+") as file:
        file["features"][1] = file["features"][2]
        file["features"][5] = file["features"][2]
        gone = file["path"][5].decode()
    fsspec.filesystem("s3").rm_file(gone)
    store = fresh(done.store)
    damages = [damage for _, damage in store.verify() if damage is not None]
    assert repair_store(store, damages) == (1, 1)
    np.testing.assert_array_equal(features_of(extract(read(memory(few, "kept")), options)), before)


# --- CSVs ----------------------------------------------------------------------------------------------------------


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return path


def test_a_csv_here_or_there_whose_images_are_there(url: str, pictures: Path, tmp_path: Path, asked: Asked) -> None:
    rows = [("green/" + UNKIND, "green"), ("red/photo.JPG", "red"), ("../all/blue/0-00.png", "blue")]
    expected = (f"{url}/green/{UNKIND}", f"{url}/red/photo.JPG", f"{url}/blue/0-00.png")
    relative = write_rows(tmp_path / "relative.csv", rows)
    assert read(relative, image_dir=url).paths == expected
    fsspec.filesystem("s3").pipe_file(f"{BUCKET}/all-but-labels.csv", relative.read_bytes())
    fsspec.filesystem("s3").pipe_file(f"{BUCKET}/extra/index.csv", relative.read_bytes().replace(b",", b";"))
    assert read(f"s3://{BUCKET}/extra/index.csv", image_dir=url).paths == expected
    there = read(f"s3://{BUCKET}/extra/index.csv")
    assert (there.paths[1], there.name, there.classes) == (
        f"s3://{BUCKET}/extra/red/photo.JPG",
        "index",
        ("blue", "green", "red"),
    )
    mixed = [(expected[0], "green"), (str(pictures / "red" / "photo.JPG"), "red"), (f"{url}/gone.png", "red")]
    images = read(write_rows(tmp_path / "mixed.csv", mixed))
    assert images.paths == tuple(path for path, _ in mixed)
    asked.calls.clear()
    with StatIndex(tmp_path / "index.sqlite") as index:
        found = check_images(images, index)
    assert found.unreadable == [{"path": f"{url}/gone.png", "reason": "no such file"}]
    assert sorted(asked.of("HeadObject")) == [f"all/{name}" for name in ("gone.png", f"green/{UNKIND}")]
    whole = write_rows(tmp_path / "label.csv", [(f"{url}/red/0-00.png", "blue")])
    fsspec.filesystem("s3").pipe_file(f"{BUCKET}/label.csv", whole.read_bytes())
    assert read(url, relabel=f"s3://{BUCKET}/label.csv").notes[-1].endswith("1 of 24 labels changed, 0 as they were")


def test_many_urls_in_one_folder_are_looked_up_by_one_listing(
    endpoint: str, asked: Asked, monkeypatch: pytest.MonkeyPatch, pictures: Path
) -> None:
    folder = upload(pictures / "red", "looked-up")
    shared_remote().many = 8
    names = [f"{folder}/{path.name}" for path in sorted((pictures / "red").iterdir())]
    asked.calls.clear()
    told = shared_remote().look([*names, f"{folder}/gone.png"])
    sizes = [path.stat().st_size for path in sorted((pictures / "red").iterdir())]
    assert [one.st_size for one in told[:-1] if isinstance(one, RemoteStatus)] == sizes
    assert isinstance(told[-1], FileNotFoundError)
    assert asked.of("HeadObject") == ["looked-up/gone.png"]
    shared_remote().forget()
    shared_remote().many = 10_000
    assert shared_remote().look(names) == told[:-1]  # an object says of itself what the listing says of it
    assert len(asked.of("HeadObject")) == 1 + len(names)


def test_a_split_of_a_bucket_is_read_again_as_it_was(url: str, tmp_path: Path) -> None:
    images = read(url)
    digests = np.array([bytes([row] * 32) for row in range(1, len(images) + 1)], "V32")
    split = split_images(images, digests, np.ones(len(images), bool), DataOptions())
    write_split(tmp_path / "split.csv", images, split)
    again = read(tmp_path / "split.csv")
    order = [images.paths.index(path) for path in again.paths]
    np.testing.assert_array_equal(again.declared, split[order])
    np.testing.assert_array_equal(again.labels, images.labels[order])


# --- memory --------------------------------------------------------------------------------------------------------


def test_train_val_and_test_folders(memory: Callable[[Path, str], str], pictures: Path, tmp_path: Path) -> None:
    for part, color in (("train", "red"), ("train", "blue"), ("Valid", "red"), ("test", "blue")):
        shutil.copytree(pictures / color, tmp_path / "parts" / part / color)
    (tmp_path / "parts" / "test" / "notes.txt").write_text("none")
    (tmp_path / "parts" / "train" / "red" / "deep").mkdir()
    shutil.copy(pictures / "red" / "0-00.png", tmp_path / "parts" / "train" / "red" / "deep" / "x.png")
    url = memory(tmp_path / "parts", "parts")
    here, there = read(tmp_path / "parts"), read(url)
    assert below(there, url) == below(here, tmp_path / "parts")
    assert there.notes == here.notes
    np.testing.assert_array_equal(there.declared, here.declared)
    np.testing.assert_array_equal(there.labels, here.labels)
    flat = read(memory(pictures / "red", "flat"))
    assert flat.labels is None
    assert len(flat) == 8


def test_python_takes_urls(
    memory: Callable[[Path, str], str], pictures: Path, tiny_backbone: Path, cache: Path, fitted: Path
) -> None:
    root = memory(pictures, "python")
    found = featx.read_features(
        root, backbone=str(tiny_backbone), layer="high", cache=str(cache), runs=str(cache / "r")
    )
    assert len(found) == 23
    extractor = featx.FeatureExtractor(tiny_backbone, layer="high", cache=cache)
    rows = [f"{root}/red/0-00.png", str(pictures / "red" / "0-01.png")]
    np.testing.assert_array_equal(
        extractor.transform(rows),
        found.X[[list(found.paths).index(f"{root}/red/{name}") for name in ("0-00.png", "0-01.png")]],
    )
    answers = featx.load(fitted / "runs" / "all").predict([rows[0], rows[1], f"{root}/gone.png"])
    assert [one.path for one in answers] == [*rows, f"{root}/gone.png"]
    assert [one.reason for one in answers.bad] == ["no such file"]


def test_a_server_that_tells_the_time_alone_is_trusted_after_two_seconds(
    memory: Callable[[Path, str], str], few: Path, options: FeaturesOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, reads = memory(few, "timed"), []
    original = shared_remote().read
    monkeypatch.setattr(shared_remote(), "read", lambda url, most=None: reads.append(url) or original(url, most))
    extract(read(root), options)
    reads.clear()
    extract(read(root), options)
    assert len(reads) == 14  # written just now, and could have changed within the same tick
    for file in fsspec.filesystem("memory").store.values():
        file.created = file.created.replace(year=2001)
    extract(read(root), options)
    reads.clear()
    extract(read(root), options)
    assert reads == []


# --- the web -------------------------------------------------------------------------------------------------------


@dataclass
class Web:
    """A web server. url : of its folder; got : the paths that were asked for; told : whether it tells times

    status : what it answers, or only the next `failures` times where that is not None
    """

    url: str
    got: list[str]
    told: bool = True
    status: int = 200
    failures: int | None = None
    start: Callable[[], None] = lambda: None
    stop: Callable[[], None] = lambda: None

    def fails(self) -> bool:
        if self.failures is None:
            return self.status != 200
        self.failures -= 1
        return self.failures >= 0


@pytest.fixture
def web(few: Path, tmp_path: Path) -> Iterator[Web]:
    shutil.copytree(few, tmp_path / "www" / "all pictures")
    make_old(tmp_path / "www")
    found = Web("", [])

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            found.got.append(self.path)
            if found.fails():
                self.send_error(found.status)
            else:
                super().do_GET()

        def send_header(self, keyword: str, value: str) -> None:
            if found.told or keyword != "Last-Modified":
                super().send_header(keyword, value)

        def log_message(self, *_: Any) -> None:
            pass

    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(port: int = 0) -> int:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(tmp_path / "www")))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        running.append((server, thread))
        return server.server_port

    def stop() -> None:
        while running:
            server, thread = running.pop()
            server.shutdown()
            thread.join()
            server.server_close()

    port = start()
    found.url, found.start, found.stop = f"http://127.0.0.1:{port}", lambda: start(port) and None, stop
    yield found
    stop()


def test_a_folder_of_a_web_server(web: Web, few: Path, options: FeaturesOptions) -> None:
    root = f"{web.url}/all pictures/"
    images = read(root)
    assert below(images, root.rstrip("/")) == below(read(few), few)
    done = extract(images, options)
    assert (done.computed, [one["path"] for one in done.bad]) == (13, [f"{root}blue/broken.png"])
    web.got.clear()
    again = extract(read(root), options)
    assert (again.computed, again.reused) == (0, 13)
    assert not [path for path in web.got if not path.endswith("/")]  # files were asked for their heads alone
    web.told = False
    assert extract(read(root), options).computed == 0
    web.got.clear()
    assert extract(read(root), options).computed == 0
    assert len([path for path in web.got if path.endswith("g")]) == 14  # digested anew


@pytest.mark.parametrize("held", [True, False])
def test_a_prediction_reads_a_new_file_once(
    web: Web, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    names = ["all pictures/red/0-00.png", "new.png"]
    with Image.open(tmp_path / "www" / names[0]) as image:
        image.transpose(Image.Transpose.TRANSPOSE).crop((1, 0, *image.size)).save(tmp_path / "www" / "new.png")
    urls = [f"{web.url}/{name}" for name in names]
    shutil.copytree(fitted / "cache", tmp_path / "cache")
    if not held:
        monkeypatch.setattr("featx.inference.cached._HELD", 0)
    plain = run("predict", *urls, "--model", fitted / "runs" / "all", "--json", cwd=tmp_path).json
    for options in (["--cache", "cache"], ["--tta", "2", "--rotation", "10"]):
        web.got.clear()
        done = run("predict", *urls, "--model", fitted / "runs" / "all", *options, "--json", cwd=tmp_path).json
        assert done.get("cached") in (1, None)
        assert web.got.count("/new.png") == (1 if held or "--tta" in options else 2)
        assert web.got.count("/all%20pictures/red/0-00.png") == 1
        assert [one["path"] for one in done["predictions"]] == urls
        if "--cache" in options:
            assert done["predictions"][1] == plain["predictions"][1]


def test_an_explanation_reads_a_file_once(web: Web, fitted: Path, tmp_path: Path) -> None:
    names = ["all pictures/red/0-00.png", "all pictures/green/0-01.png"]
    urls, model = [f"{web.url}/{name}" for name in names], ("--model", fitted / "runs" / "all")
    done = run("explain", *urls, *model, "--top", "3", "--out", "there", "--json", cwd=tmp_path).json
    assert [web.got.count(plain(url).removeprefix(web.url).replace(" ", "%20")) for url in urls] == [1, 1]
    here = run(
        "explain", *(tmp_path / "www" / name for name in names), *model, "--top", "3", "--out", "here", cwd=tmp_path
    )
    assert here.status == 0, here.err
    for image in done["images"]:
        assert len(image["classes"]) == 3
        for one in image["classes"]:
            drawn = tmp_path / one["files"]["overlay"]
            assert drawn.read_bytes() == (tmp_path / "here" / drawn.name).read_bytes()
    gone = run("explain", *urls, f"{web.url}/gone.png", *model, "--out", "gone", "--json", cwd=tmp_path)
    assert [one["path"] for one in gone.json["bad"]] == [f"{web.url}/gone.png"]


def test_the_web_has_its_own_errors(web: Web, tmp_path: Path, options: FeaturesOptions) -> None:
    assert shared_remote().read(f"{web.url}/all%20pictures/red/0-00.png?v=1", 2) == b"\x89P"
    with pytest.raises(FileNotFoundError, match="no such file"):
        shared_remote().read(f"{web.url}/gone.png")
    assert isinstance(shared_remote().look([f"{web.url}/gone.png"])[0], FileNotFoundError)
    web.status = 403
    with pytest.raises(PermissionError, match="HTTP status 403"):
        shared_remote().read(f"{web.url}/all%20pictures/red/0-00.png?secret=1")
    web.status = 503
    with pytest.raises(OSError, match=r"HTTP status 503$"):
        shared_remote().read(f"{web.url}/all%20pictures/red/0-00.png?secret=1")
    web.status = 200
    done = run("check", f"{web.url}/gone.png?X-Amz-Signature=secret", cwd=tmp_path, status=1)
    assert done.sentence.startswith(f"featx: No such file or folder: {web.url}/gone.png. ")


# --- what goes wrong -----------------------------------------------------------------------------------------------


def test_what_is_not_there_is_a_sentence(url: str, fitted: Path) -> None:
    for name, words in (
        (f"s3://{BUCKET}/nothing", f"No such file or folder: s3://{BUCKET}/nothing"),
        ("s3://no-such-bucket/x", "s3://no-such-bucket/x: no such bucket"),
        ("s4://bucket/x", "s4:// is not supported"),
        ("simplecache::s3://bucket/x", "chain of file systems"),
        (str(Path(url)), "Path makes one slash of two"),
    ):
        for command in ("predict", "check", "fit-head"):
            done = run(command, name, cwd=fitted, status=1)
            assert done.sentence.startswith("featx: "), done.err
            assert words in done.sentence
            assert "Traceback" not in done.err


def test_a_package_that_is_missing_is_a_sentence(fitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    done = run("extract", "gs://bucket/x", cwd=fitted, status=1)
    assert done.sentence == "featx: gs:// needs a package that is not installed. Type: pip install 'featx[gs]'"
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    done = run("predict", "s3://bucket/x", cwd=fitted, status=1)
    assert done.sentence == "featx: s3:// needs a package that is not installed. Type: pip install 'featx[s3]'"


@pytest.fixture
def other_server(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Lets the environment be changed: s3fs then reads it anew."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    yield monkeypatch
    S3FileSystem.clear_instance_cache()


def test_without_credentials_there_is_a_sentence(url: str, fitted: Path, other_server: pytest.MonkeyPatch) -> None:
    other_server.delenv("AWS_ACCESS_KEY_ID")
    other_server.delenv("AWS_SECRET_ACCESS_KEY")
    for command in ("extract", "predict"):
        done = run(command, url, cwd=fitted, status=1)
        assert done.sentence.startswith(f"featx: No credentials for s3://{BUCKET}")
        assert "AWS_ACCESS_KEY_ID" in done.sentence


def test_a_server_that_is_down_is_a_sentence_and_no_mark_on_its_images(
    url: str,
    endpoint: str,
    few: Path,
    options: FeaturesOptions,
    other_server: pytest.MonkeyPatch,
    asked: Asked,
    tmp_path: Path,
) -> None:
    from s3fs import S3FileSystem

    rows = [(f"{url}/red/{number:02}.png", "red") for number in range(40)]
    rows += [(str(path), path.parent.name) for path in sorted(few.rglob("0-*.png"))]
    images = read(write_rows(tmp_path / "mixed.csv", rows))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        other_server.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(DataError, match=rf"s3://{BUCKET}/all: cannot be read: s3://{BUCKET} cannot be reached"):
            read(url)
        shared_remote().try_again()
        asked.calls.clear()
        done = extract(images, options)
    assert done.computed == 12
    assert len(done.bad) == 40
    refused = rf"cannot be read: s3://{BUCKET} cannot be reached \((Could not connect|Connect timeout)"
    assert all(re.match(refused, one["reason"]) for one in done.bad), done.bad
    assert len(asked.calls) <= 2 * AT_ONCE  # in either round the others were not tried
    other_server.setenv("AWS_ENDPOINT_URL", endpoint)
    S3FileSystem.clear_instance_cache()
    shared_remote().try_again()
    assert {one["reason"] for one in extract(read(tmp_path / "mixed.csv"), options).bad} == {"no such file"}


def test_an_image_whose_server_fails_is_not_bad_for_ever(
    memory: Callable[[Path, str], str], few: Path, options: FeaturesOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = memory(few, "failing")
    original, failing = shared_remote().read, f"{url}/red/0-01.png"
    count = {"reads": 0}

    def fail_second(name: str, most: int | None = None) -> bytes:
        if name == failing:
            count["reads"] += 1
            if count["reads"] == 2:  # it was digested, and is now to be decoded
                raise TimeoutError(110, "the server did not answer in time")
        return original(name, most)

    monkeypatch.setattr(shared_remote(), "read", fail_second)
    done = extract(read(url), options)
    assert {"path": failing, "reason": "cannot be read: the server did not answer in time"} in done.bad
    assert [one["path"] for one in extract(read(url), options).bad] == [f"{url}/blue/broken.png"]


def at_the_end_of(stage: str, act: Callable[[], object]) -> Callable[..., None]:
    """A progress that does something when all images are hashed, for instance, and none is decoded."""

    def progress(now: str, done: int, total: int, **_: Any) -> None:
        if (now, done) == (stage, total):
            act()

    return progress


def test_a_server_that_restarts_costs_no_image(
    web: Web, options: FeaturesOptions, caplog: pytest.LogCaptureFixture
) -> None:
    restart = threading.Timer(0.2, web.start)

    def go_away() -> None:
        web.stop()
        restart.start()

    done = extract(read(f"{web.url}/all pictures/"), options, at_the_end_of("hash", go_away))
    restart.join()
    assert (done.computed, len(done.bad)) == (13, 1)  # only the broken one
    assert f"{web.url} cannot be reached any more" in caplog.text
    assert "could not be fetched" not in caplog.text


def test_a_server_that_is_not_up_yet_costs_no_image(
    web: Web, options: FeaturesOptions, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(f"{web.url}/all%20pictures/{path.relative_to(few)}", path.parent.name) for path in few.rglob("0-*.png")]
    images, try_again = read(write_rows(tmp_path / "there.csv", rows)), shared_remote().try_again
    web.stop()
    monkeypatch.setattr(shared_remote(), "try_again", lambda: (web.start(), try_again()))
    done = extract(images, options)
    assert (done.computed, done.bad) == (12, [])


def test_a_server_that_stays_away_ends_the_run(
    web: Web, options: FeaturesOptions, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a head would be fitted on the images that happen to be there."""
    shared_remote().servers.patience = Patience(tries=(0.01, 0.01, 0.01), first_probe=0.05, wait=0.2)
    rows = [(f"{web.url}/all%20pictures/{path.relative_to(few)}", path.parent.name) for path in few.rglob("0-*.png")]
    rows += [(str(path), path.parent.name) for path in few.rglob("0-00.png")]
    images = read(write_rows(tmp_path / "mixed.csv", rows))
    with pytest.raises(DataError, match=r"cannot be reached \(.*though it answered before\. .*same command"):
        extract(images, options, at_the_end_of("hash", web.stop))
    shared_remote().try_again()
    web.start()
    assert extract(images, options).bad == []


def test_what_may_pass_is_asked_for_again(web: Web) -> None:
    web.status, web.failures = 429, 3
    assert shared_remote().read(f"{web.url}/all%20pictures/red/0-00.png", 2) == b"\x89P"
    assert len(web.got) == 4
    web.status, web.failures = 400, 1
    with pytest.raises(OSError, match="HTTP status 400"):  # the next answer would be the same
        shared_remote().read(f"{web.url}/all%20pictures/red/0-00.png")
    assert len(web.got) == 5


def test_a_server_that_fails_every_time_is_not_asked_four_times_for_each_image(web: Web) -> None:
    web.status = 503
    for number in range(40):
        with pytest.raises(OSError, match="HTTP status 503"):
            shared_remote().read(f"{web.url}/{number}.png")
    assert len(web.got) == 4 * AT_ONCE + (40 - AT_ONCE)
    web.status = 200
    with pytest.raises(FileNotFoundError):
        shared_remote().read(f"{web.url}/40.png")


class Script:
    """A request that fails in the ways of a script and then answers."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return "answer"


AWAY = ConnectionError(111, "refused")


def test_a_server_that_never_answered_is_left_alone_for_a_while() -> None:
    servers, ask = Servers(Patience(pause=60.0)), Script(AWAY)
    for _ in range(3):
        with pytest.raises(ConnectionError, match="s3://b cannot be reached"):
            servers.request("s3://b/x.png", ask)
    assert ask.calls == 1
    assert servers.request("s3://other/x.png", Script()) == "answer"
    servers.try_again()
    assert servers.request("s3://b/x.png", ask) == "answer"


def test_a_server_that_has_answered_is_waited_for_and_then_ends_the_run() -> None:
    servers = Servers(Patience(wait=0.05, first_probe=0.01, longest_probe=0.01))
    servers.request("s3://b/x.png", Script())
    assert servers.request("s3://b/x.png", Script(AWAY, AWAY)) == "answer"
    with pytest.raises(DataError, match="though it answered before"):
        servers.request("s3://b/x.png", Script(*[AWAY] * 100))
    other = Servers(servers.patience)  # as in a worker of a cluster, whose coordinator has had answers
    other.trust(["s3://b/y.png"])
    assert other.request("s3://b/x.png", Script(AWAY, AWAY)) == "answer"


def test_two_remotes_know_nothing_of_each_other(memory: Callable[[Path, str], str], few: Path) -> None:
    root, one, other = memory(few, "apart"), Remote(), Remote()
    names = [name for name, _ in one.list_folder(root)]
    fsspec.filesystem("memory").pipe_file("/apart/more.txt", b"new")
    assert [name for name, _ in one.list_folder(root)] == names
    assert "more.txt" in {name for name, _ in other.list_folder(root)}
    one.forget()
    assert "more.txt" in {name for name, _ in one.list_folder(root)}


def test_images_that_could_not_be_fetched_are_told_apart_from_broken_ones(
    web: Web, tiny_backbone: Path, warm_cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(warm_cache, tmp_path / "cache")
    names = ("red/0-00.png", "green/0-00.png", "blue/0-00.png", "blue/broken.png", "blue/gone.png")
    rows = [(f"{web.url}/all%20pictures/{name}", name.partition("/")[0]) for name in names]
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        rows.append((f"http://127.0.0.1:{closed.getsockname()[1]}/x.png", "red"))
        write_rows(tmp_path / "mixed.csv", rows)
        done = run("extract", "mixed.csv", "--backbone", tiny_backbone, "--layer", "high", "--json", cwd=tmp_path)
    assert len(done.json["bad"]) == 3
    assert "1 of 6 images could not be fetched, which says nothing of the images: run the same command" in caplog.text


def test_what_is_written_and_models_are_on_this_machine(fitted: Path, url: str, tiny_backbone: Path) -> None:
    done = run("predict", f"{url}/red/0-00.png", "--model", "s3://bucket/model", cwd=fitted, status=1)
    assert done.sentence == "featx: A model is read from this machine, got s3://bucket/model. Copy it here first."
    done = run("extract", url, "--cache", "s3://bucket/cache", cwd=fitted, status=2)
    assert "features.cache must be a folder on this machine, got s3://bucket/cache" in done.sentence
    done = run("fit-head", url, "--runs", "s3://bucket/runs", cwd=fitted, status=2)
    assert "report.runs must be a folder on this machine" in done.sentence
    for command in (
        ("predict", f"{url}/red/0-00.png", "--out", "s3://bucket/out.csv"),
        ("data", "digits", "--out", "s3://bucket/digits"),
        ("split", url, "--out", "s3://bucket/split.csv"),
    ):
        done = run(*command, cwd=fitted, status=2)
        assert f"Results are written to this machine only, got {command[-1]}" in done.sentence
    assert not (fitted / "s3:").exists()
    with pytest.raises(UsageError), atomic_path(Path("gs://x/y")):
        pass


def test_bytes_are_never_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `featx serve` decodes."""
    monkeypatch.setattr(shared_remote(), "read", lambda *_: pytest.fail("a URL was read"))
    with pytest.raises(DataError, match="text, not an image"):
        load_image(b"s3://plants/all/red/0-00.png", (SIDE, SIDE), "stretch")


def test_secrets_are_not_kept_in_bundles(web: Web, tmp_path: Path, warm_cache: Path, tiny_backbone: Path) -> None:
    shutil.copytree(warm_cache, tmp_path / "cache")
    table = write_rows(
        tmp_path / "www" / "index.csv",
        [
            (f"all pictures/{color}/0-{number:02}.png", color)
            for color in ("red", "green", "blue")
            for number in range(4)
        ],
    )
    assert table.is_file()
    model = featx.fit_head(
        f"{web.url}/index.csv?X-Amz-Signature=hush",
        backbone=str(tiny_backbone),
        layer="high",
        clf="ridge",
        html=False,
        cache=str(tmp_path / "cache"),
        runs=str(tmp_path / "runs"),
    )
    assert model.path == tmp_path / "runs" / "index" / "1-ridge"
    assert "hush" not in (model.path / "bundle.json").read_text()


def test_a_local_set_never_loads_fsspec(pictures: Path, tmp_path: Path) -> None:
    code = "import sys, featx\nfrom featx.cli import main\n"
    code += f"try: main(['check', {str(pictures)!r}, '--json'])\nexcept SystemExit: pass\n"
    code += "sys.exit('fsspec' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
