"""What scripts and operators rely on: errors as JSON, dry runs, the access log, the address for a phone."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest
from cached import extract, plan
from fitted import Lab, Outcome, call
from serving import served

import featx
from featx.cli.app import cli
from featx.cli.failures import Failure, error_json
from featx.config import FeaturesOptions, Pipeline
from featx.dataset import read_images
from featx.errors import DataError, FeatxError, StoreError
from featx.serve.server import listen, reachable_url
from featx.store.cache import Cache
from featx.workflow.start import with_network_of


@pytest.fixture
def work(lab: Lab, tmp_path: Path) -> Callable[..., Outcome]:
    """Runs a command in an empty folder that has the pictures of the lab."""
    (tmp_path / "pictures").symlink_to(lab.root / "pictures")
    return lambda *arguments: call(*arguments, cwd=tmp_path)


def of(lab: Lab) -> list[str]:
    return ["--backbone", str(lab.root / "tiny.keras"), "--layer", "last", "--cache", str(lab.root / "cache")]


def failed(outcome: Outcome) -> dict[str, object]:
    """The error of the one object on stdout; stderr has the same in words."""
    assert outcome.out.count("\n") == 1
    assert outcome.json["exit_status"] == outcome.status
    error = outcome.json["error"]
    assert set(error) == {"message", "kind", "hint"}
    assert error["message"].rstrip(".") in " ".join(outcome.err.split())
    return error


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        elif command is not None:
            yield (*words, name), command


def test_every_command_with_json_ends_in_one_object(tmp_path: Path) -> None:
    asked = [words for words, command in commands(cli) if any(one.name == "as_json" for one in command.params)]
    assert len(asked) > 30
    for words in asked:
        for wrong in ("--nonsense", "gone"):
            outcome = call(*words, wrong, "--json", cwd=tmp_path)
            assert "Traceback" not in outcome.err
            assert outcome.status == 0 or failed(outcome)["message"], words


@pytest.mark.parametrize(
    ("arguments", "status", "kind", "message", "hint"),
    [
        (["extract", "gone"], 1, "data", "No such file or folder: gone.", "Check the name"),
        (
            ["extract", "pictures", "--laier", "x"],
            2,
            "usage",
            "No such option '--laier'.",
            "'--layer'",
        ),
        (["extract", "pictures", "--backbone", "ResNet5"], 1, "backbone", "No backbone 'ResNet5'.", "Did you mean"),
        (["predit", "x"], 2, "usage", "No command 'predit'.", "Did you mean 'predict'"),
        (["zzz"], 2, "usage", "No command 'zzz'.", "featx --help lists them."),
        (["predict"], 2, "usage", "Missing argument 'IMAGES...'.", "featx predict --help"),
        (["split", "pictures", "--out", "x.txt"], 2, "usage", "A split cannot be written to x.txt", ""),
        (["bundle", "verify", "pictures"], 1, "bundle", "No bundle in pictures yet.", "Make one: featx fit-head DATA"),
    ],
)
def test_with_json_an_error_is_one_object(
    work: Callable[..., Outcome], arguments: list[str], status: int, kind: str, message: str, hint: str
) -> None:
    outcome = work(*arguments, "--json")
    error = failed(outcome)
    assert outcome.status == status, outcome.err
    assert error["kind"] == kind
    assert str(error["message"]).startswith(message)
    assert hint in str(error["hint"])
    assert str(error["hint"]).count("--help lists") <= 1
    plain = work(*arguments)
    assert (plain.status, plain.out) == (status, "")


def test_a_result_that_is_a_failure_is_still_one_object(lab: Lab, work: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("text")
    outcome = work("predict", "text.png", "--model", str(lab.bundle("logreg").path), "--json")
    assert failed(outcome)["message"] == "None of the images could be read."
    assert outcome.json["predictions"] == []
    assert outcome.json["bad"] == [{"path": str(tmp_path / "text.png"), "reason": "text, not an image"}]


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (KeyboardInterrupt(), "interrupted", 130),
        (ZeroDivisionError("oh"), "unexpected", 1),
        (MemoryError(), "memory", 1),
        (OSError(28, "No space left on device", "/x/y"), "store", 1),
        (FeatxError("It failed."), "failed", 1),
        (StoreError("It is damaged. Repair it."), "store", 1),
    ],
)
def test_every_kind_of_end_is_told_apart(
    work: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, error: BaseException, kind: str, status: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("featx.workflow.gather.extract_all", fail)
    outcome = work("extract", "pictures", "--json")
    assert outcome.status == status
    assert failed(outcome)["kind"] == kind


def test_message_and_hint_are_the_sentence_together() -> None:
    text = "No layer 'avgpool' in ResNet50. Did you mean 'avg_pool'? featx layers ResNet50 lists them."
    error = error_json(text, "backbone")
    assert error["message"] == "No layer 'avgpool' in ResNet50."
    assert f"{error['message']} {error['hint']}" == text
    assert error_json("a.b c", "data") == {"message": "a.b c", "kind": "data", "hint": None}
    assert Failure.of(DataError("x")).as_json()["exit_status"] == 1


# --- dry runs ----------------------------------------------------------------------------------------------------


def files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if ".sqlite" not in path.name}


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    lab: Lab, work: Callable[..., Outcome], tmp_path: Path
) -> None:
    before = files(tmp_path)
    new = ["--backbone", str(lab.root / "tiny.keras"), "--layer", "last", "--cache", "empty"]
    first = work("fit-head", "pictures", *new, "--dry-run", "--json").json
    assert [step["stage"] for step in first["steps"]] == ["extract", "fit-head"]
    assert first["steps"][0]["what"] == "60 of 60 images lack last@avg"
    assert (first["seconds"], first["bytes"]) == (None, None)  # nothing was made yet to judge by
    assert first["free_bytes"] > 1_000_000
    assert {path for path in files(tmp_path) - before if "/runs" in path} == set()

    fitted = work("fit-head", "pictures", *of(lab), "--clf", "logreg", "--strength", "1", "--no-html", "--json")
    assert fitted.status == 0, fitted.err
    bundle = tmp_path / fitted.json["bundle"]
    made = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    before = files(tmp_path)
    then = work("fit-head", "pictures", *of(lab), "--clf", "logreg", "--dry-run", "--json").json
    extract, fit = then["steps"]
    assert (extract["seconds"], extract["bytes"]) == (0.0, 0)
    assert (fit["seconds"], fit["bytes"]) == (fitted.json["seconds"], made)  # of as many images
    other = work("fit-head", "pictures", *of(lab), "--clf", "knn", "--dry-run", "--json").json
    assert other["steps"][1]["seconds"] is None

    tuned = work("finetune", "pictures", *of(lab), "--epochs", "7", "--dry-run", "--json").json
    assert [step["stage"] for step in tuned["steps"]] == ["extract", "finetune"]
    assert tuned["steps"][1]["what"] == f"up to 7 epochs on 60 images, --unfreeze all, from {fitted.json['bundle']}"
    assert files(tmp_path) == before
    text = work("finetune", "pictures", *of(lab), "--dry-run").out
    assert "unknown before a first run" in text
    assert "results    runs/pictures" in text


def test_a_dry_run_of_a_comparison_has_every_combination(
    lab: Lab, work: Callable[..., Outcome], tmp_path: Path
) -> None:
    asked = ["--layer", "last", "--layer", "body", "--clf", "logreg,knn", "--stage", "head"]
    network = ["--backbone", str(lab.root / "tiny.keras"), "--set", f"features.cache={lab.root / 'cache'}"]
    found = work("compare", "pictures", *network, *asked, "--dry-run", "--json")
    assert found.status == 0, found.err
    stages = [step["stage"] for step in found.json["steps"]]
    assert stages == ["extract", *["fit-head"] * 4]
    kinds = {tuple(re.findall(r"(last|body)@avg: (logreg|knn)", step["what"])) for step in found.json["steps"][1:]}
    assert kinds == {((layer, clf),) for layer in ("last", "body") for clf in ("logreg", "knn")}
    assert not (tmp_path / "runs").exists()
    broken = work("compare", "gone", *network, *asked, "--dry-run", "--json").json["steps"]
    assert broken[0]["what"].startswith("gone, tiny.keras: fails: No such file or folder: gone.")


def test_a_dry_run_in_python_is_that_of_the_command(lab: Lab, work: Callable[..., Outcome], tmp_path: Path) -> None:
    place = {"cache": str(lab.root / "cache"), "runs": str(lab.root / "runs"), "name": "logreg"}
    words = [word for name, value in place.items() for word in (f"--{name}", value)]
    network, model = str(lab.root / "tiny.keras"), featx.load(lab.bundle("logreg").path)
    data = str(lab.root / "pictures")
    given = {"backbone": network, "layer": ["last"], **place}
    found = (
        featx.extract(data, backbone=network, layer=["last"], cache=place["cache"], dry_run=True).as_json(),
        featx.fit_head(data, clf="knn", dry_run=True, **given).as_json(),
        model.finetune(data, epochs=3, dry_run=True, **place).as_json(),
        featx.compare(data, backbone=network, clf=["knn"], dry_run=True, runs=place["runs"]).as_json(),
    )
    commands = (
        ["extract", data, *of(lab)],
        ["fit-head", data, "--clf", "knn", *of(lab), *words[2:]],
        ["finetune", data, "--epochs", "3", *words],
        ["compare", data, "--backbone", network, "--clf", "knn", "--runs", place["runs"]],
    )
    for one, command in zip(found, commands, strict=True):
        shown = work(*command, "--dry-run", "--json").json
        one["free_bytes"] = shown["free_bytes"]
        assert one == shown
    assert found[2]["steps"][0]["what"] == "all 60 images have their features"  # of the bundle's network, unnamed


def test_a_fine_tune_reads_the_features_of_its_bundle(lab: Lab, tmp_path: Path) -> None:
    bundle, place = lab.bundle("logreg"), str(lab.root / "cache")
    plain = Pipeline(features=FeaturesOptions(cache=place, workers=1))
    with Cache(place) as cache:
        found = with_network_of(bundle, plain, cache).features
        assert (found.backbone, found.layer, found.workers) == (str(lab.root / "tiny.keras"), ("last@avg",), 1)
        named = replace(plain, features=replace(plain.features, backbone="ResNet50"))
        assert with_network_of(bundle, named, cache) is named
    with Cache(tmp_path / "empty") as cache:  # nothing says where the file of the network is
        assert with_network_of(bundle, plain, cache) is plain


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_fine_tune_refuses_another_network_than_that_of_its_bundle(lab: Lab, tmp_path: Path, dry_run: bool) -> None:
    """It trains the network of the bundle, whatever others are named."""
    network = [*of(lab)[:2], "--cache", str(tmp_path / "cache"), "--runs", str(tmp_path / "runs")]
    typed = ["finetune", str(lab.root / "pictures"), "--from", str(lab.bundle("logreg").path), *network]
    for more, differing in ((["--input-size", "48"], "input_size"), (["--resize", "pad"], "resize")):
        refused = call(*typed, *more, *["--dry-run"] * dry_run, cwd=tmp_path)
        assert refused.status == 1
        assert f"has features of another network than these options describe ({differing} differ)" in refused.sentence
        assert not (tmp_path / "runs").exists()
    if dry_run:
        assert call(*typed, "--dry-run", cwd=tmp_path).status == 0


def test_what_is_no_work_is_not_counted(lab: Lab, work: Callable[..., Outcome], tmp_path: Path) -> None:
    shutil.copytree(lab.root / "pictures", tmp_path / "more")
    shutil.copy(next((tmp_path / "more" / "red").iterdir()), tmp_path / "more" / "red" / "copy.png")
    (tmp_path / "more" / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    work("extract", "more", *of(lab))
    extract, fit = work("fit-head", "more", *of(lab), "--dry-run", "--json").json["steps"]
    assert (extract["what"], extract["seconds"]) == ("all 60 images have their features", 0.0)
    assert fit["what"].endswith("on 60 images")


def test_the_time_is_known_after_an_interruption(lab: Lab, tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int, **_: int) -> None:
        if stage == "extract" and done:
            raise KeyboardInterrupt

    options = replace(lab.pipeline.features, cache=str(tmp_path / "cache"))
    images = read_images(str(lab.root / "pictures"), lab.pipeline.data)
    assert plan(images, options).seconds is None
    with pytest.raises(KeyboardInterrupt):
        extract(images, options, interrupt)
    for part in (tmp_path / "cache").rglob("*@*/*.h5"):  # what was finished in time, lest nothing is left to do
        part.unlink()
    planned = plan(images, options)
    assert len(planned.rows) == 60
    assert planned.seconds is not None
    assert planned.seconds > 0


# --- serving -----------------------------------------------------------------------------------------------------


def test_the_access_log_has_a_line_for_every_request(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    import logging

    logger = logging.getLogger("uvicorn.access")
    before = logger.handlers, logger.propagate, logger.level
    try:
        with served(lab.bundle("logreg"), access_log=True) as client:
            client.get("/health?x=1")
            client.get("/nowhere%1b%0a")
    finally:
        logger.handlers, logger.propagate, logger.level = before
    first, second = [line for line in capfd.readouterr().err.splitlines() if "GET" in line]
    assert re.match(
        r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} 127\.0\.0\.1:\d+ - "GET /health\?x=1 HTTP/1\.1" 200$', first
    )
    assert " 404" in second
    assert "nowhere%1B%0A" in second  # as it was sent: no line ends, nothing that a terminal obeys


def test_the_address_for_a_phone_is_not_that_of_every_machine(lab: Lab) -> None:
    with listen("0.0.0.0", 0) as listener:
        found = reachable_url("0.0.0.0", listener)
        host, port = re.fullmatch(r"http://([^/]+):(\d+)", found).groups()
        assert int(port) == listener.getsockname()[1]
        assert host != "0.0.0.0"
        assert host == socket.gethostname() or not host.startswith("127.")
    with listen("127.0.0.1", 0) as listener:
        assert reachable_url("localhost", listener).startswith("http://localhost:")


# --- what a run remembers ----------------------------------------------------------------------------------------


def test_evaluate_after_a_fit_knows_where_the_images_are(
    lab: Lab, work: Callable[..., Outcome], tmp_path: Path
) -> None:
    rows = [f"{path},{Path(path).parent.name}" for path in lab.pictures]
    (tmp_path / "list.csv").write_text("\n".join(["file,kind", *rows]))
    columns = ["--path-column", "file", "--label-column", "kind"]
    head = ["--clf", "logreg", "--strength", "1", "--no-html", "--json"]
    for data, more in (("pictures", []), ("list.csv", columns)):
        fitted = work("fit-head", data, *more, *of(lab), *head)
        assert fitted.status == 0, fitted.err
        measured = work("evaluate", fitted.json["bundle"], "--json")
        assert measured.status == 0, measured.err
        assert measured.json["accuracy"] == fitted.json["test"]["accuracy"]
        assert measured.json["split"] == "test"
    (tmp_path / "list.csv").unlink()
    gone = work("evaluate", fitted.json["bundle"])
    assert gone.status == 2
    assert "it is not known where its images are now" in gone.sentence


@pytest.mark.parametrize("head", ["logreg", "dense"])
def test_a_keras_file_gives_the_probabilities_of_the_bundle(lab: Lab, tmp_path: Path, head: str) -> None:
    import keras
    import numpy as np
    from PIL import Image

    bundle = lab.bundle(head)
    done = call("export", str(bundle.path), "--format", "keras", "--out", "out", "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    about = done.json["exports"][0]
    written = tmp_path / about["path"] / "model.keras"
    described = json.loads((tmp_path / about["path"] / "model.json").read_text())
    assert described["input"]["dtype"] == "float32"
    model = keras.saving.load_model(written, compile=False)  # Keras alone, no class of featx is in it
    config = json.dumps(model.get_config(), default=str)
    assert not re.findall(r'"(?:module|registered_name)": "featx[^"]*"', config)
    images = [np.asarray(Image.open(path).resize((32, 32), Image.Resampling.BILINEAR)) for path in lab.pictures[:4]]
    pixels = np.stack(images)
    found = np.asarray(model.predict(pixels.astype(np.float32), verbose=0)["probabilities"])
    np.testing.assert_allclose(found, bundle.probabilities(bundle.features(pixels)), atol=1e-3)
