"""Networks of Hugging Face by name, from a server on this machine that answers as theirs does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub")
pytest.importorskip("safetensors")

from fitted import call, write_pictures
from hub_server import COMMIT, HubServer, serve_hub
from test_hugging_face import make_weights, write_folder

from featx.backbones import resolve
from featx.backbones.licenses import find_license
from featx.config import FeaturesOptions
from featx.errors import BackboneError, UsageError

CACHE = "cache"
Serve = Callable[..., HubServer]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a repository holds: a network, and much else that nobody needs."""
    folder = tmp_path_factory.mktemp("repository") / "net"
    write_folder(folder, make_weights(0), "dinov2")
    (folder / "pytorch_model.bin").write_bytes(b"0" * 20_000)
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"onnx")
    (folder / "onnx" / "model.onnx_data").write_bytes(b"weights")
    (folder / "onnx" / "model_fp16.onnx").write_bytes(b"half")
    return folder


@pytest.fixture
def serve(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts the server; `without` names files that this repository does not have."""
    opened = []
    monkeypatch.chdir(tmp_path)

    def start(without: tuple[str, ...] = (), **options: object) -> HubServer:
        folder = tmp_path / "served"
        shutil.copytree(repository, folder)
        for name in without:
            (folder / name).unlink()
        context = serve_hub(folder, **options)
        opened.append(context)
        server = context.__enter__()
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        return server

    yield start
    for context in opened:
        context.__exit__(None, None, None)


def resolve_name(name: str = "hf:lab/net", **options: object):
    return resolve(FeaturesOptions(backbone=name, cache=CACHE, **options))


def test_what_is_needed_is_downloaded_once_and_read_as_a_folder(serve: Serve, repository: Path, tmp_path: Path) -> None:
    server = serve()
    spec = resolve_name()
    folder = tmp_path / CACHE / "hub" / "lab" / "net" / COMMIT
    assert spec.name == str(folder)
    assert (spec.label, spec.source) == ("net", f"hf:lab/net@{COMMIT}")
    assert {path.name for path in folder.rglob("*")} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert (folder / "model.safetensors").read_bytes() == (repository / "model.safetensors").read_bytes()
    assert sorted(server.fetched()) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    given = resolve(FeaturesOptions(backbone=str(repository)))
    assert (spec.input_size, spec.preprocessing, spec.resize) == (given.input_size, given.preprocessing, given.resize)
    asked = len(server.asked)
    server.commit = "f" * 40  # what others push does not change what was fetched
    assert resolve_name() == resolve_name("hf:lab/net@main") == spec
    assert resolve_name(f"hf:lab/net@{COMMIT}") == spec
    assert len(server.asked) == asked


def test_a_cut_connection_goes_on_where_it_was(serve: Serve, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 5_000)  # of 10 MB
    server = serve(cut_after=15_000, cuts=1)
    spec = resolve_name()
    assert (Path(spec.name) / "model.safetensors").read_bytes() == (repository / "model.safetensors").read_bytes()
    assert server.ranges == ["bytes=15000-"]


def test_an_interrupted_download_keeps_whole_files_and_shows_none_of_them(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featx.backbones.hub import hugging_face

    server = serve()
    with monkeypatch.context() as patched:
        patched.setattr(hugging_face, "_choose", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            resolve_name()
    root = tmp_path / CACHE / "hub" / "lab" / "net"
    assert sorted(path.name for path in root.iterdir()) == [f"{COMMIT}.part"]
    resolve_name()
    assert sorted(server.fetched()) == ["config.json", "model.safetensors", "preprocessor_config.json"]  # each once
    assert sorted(path.name for path in root.iterdir()) == [COMMIT, "refs.json"]


def test_a_graph_is_downloaded_where_it_is_asked_for(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    resolve_name()
    spec = resolve_name("hf:lab/net/onnx/model.onnx", preprocessing="imagenet", input_size=56)
    assert spec.name == str(tmp_path / CACHE / "hub" / "lab" / "net" / COMMIT / "onnx" / "model.onnx")
    assert (spec.label, spec.source) == ("net", f"hf:lab/net@{COMMIT}")
    assert {name for name in server.fetched() if name.startswith("onnx")} == {"onnx/model.onnx", "onnx/model.onnx_data"}
    with pytest.raises(BackboneError, match=r"has no onnx/model_int8.onnx. Did you mean 'onnx/model.onnx'"):
        resolve_name("hf:lab/net/onnx/model_int8.onnx")


def test_its_licence_comes_with_it(serve: Serve) -> None:
    server = serve()
    (server.folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A network\n")
    (server.folder / "LICENSE.md").write_text("All of it")
    found = find_license(resolve_name())
    assert (found.name, found.source) == ("apache-2.0", f"README.md of hf:lab/net@{COMMIT}")
    assert [text.read_text() for text in found.texts] == ["All of it"]


def test_a_graph_is_downloaded_where_there_is_nothing_else(serve: Serve) -> None:
    server = serve(without=("model.safetensors",))
    assert resolve_name(input_size=56).name.endswith(f"{COMMIT}/onnx/model.onnx")
    assert "pytorch_model.bin" not in server.fetched()


def test_a_network_of_a_type_that_is_not_read_is_refused_before_its_weights_are_fetched(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(without=("onnx/model.onnx",))
    (server.folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(BackboneError, match=r"^net is a Hugging Face folder of type 'bert'.*--model lab/net OUT"):
        resolve_name()
    assert "model.safetensors" not in server.fetched()


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        (
            "hf:lab/net",
            {"fault": "gated"},
            r"only available to those who accept its terms: do so at \S+/lab/net, .*hf auth login",
        ),
        ("hf:lab/nett", {}, r"No network lab/nett on Hugging Face. Check the name"),
        ("hf:lab/net@v9", {}, r"lab/net has no revision 'v9'"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(serve: Serve, name: str, options: dict[str, str], sentence: str) -> None:
    serve(**options)
    with pytest.raises(BackboneError, match=sentence):
        resolve_name(name)


def test_without_a_network_the_sentence_lists_what_to_copy_and_where_to(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    place = tmp_path / CACHE / "hub" / "lab" / "net" / "main"
    with pytest.raises(BackboneError) as caught:
        resolve_name()
    told = str(caught.value)
    assert "copy config.json, preprocessor_config.json and model.safetensors of https://huggingface.co/lab/net" in told
    assert told.endswith(f"to {place}.")
    shutil.copytree(repository, place)
    spec = resolve_name()
    assert (spec.name, spec.label) == (str(place), "net")


@pytest.mark.parametrize("name", ["hf:net", "hf:lab/net@", "hf:lab/../../x", "hf:a/b/c", "hf:../x"])
def test_names_of_another_form_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="Write hf:OWNER/NAME"):
        resolve_name(name)


@pytest.mark.slow
def test_a_bundle_records_the_commit(serve: Serve, tmp_path: Path) -> None:
    pytest.importorskip("keras_hub")
    serve()
    write_pictures(tmp_path / "pictures")
    simple = ("--pooling", "cls", "--no-html")
    done = call("fit-head", "pictures", "--backbone", "hf:lab/net", *simple, "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    content = json.loads((tmp_path / done.json["bundle"] / "bundle.json").read_text())
    assert content["backbone"]["source"] == f"hf:lab/net@{COMMIT}"
    assert content["backbone"]["name"] == content["key"]["backbone"] == "net"
    again = call("fit-head", "pictures", "--backbone", f"cache/hub/lab/net/{COMMIT}", *simple, cwd=tmp_path)
    assert "60 computed" not in again.err
    shutil.rmtree(tmp_path / "cache")
    predicted = call("predict", "pictures", "--model", done.json["bundle"], "--json", cwd=tmp_path)
    assert predicted.status == 0, predicted.err
