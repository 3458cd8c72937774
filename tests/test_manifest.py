"""The manifest: each wrong field is one sentence that names it, the JSON goes round, older bundles are filled in."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fitted import Lab, call
from manifests import LEAST, changed, manifest_of

from featx.backbones import Output
from featx.bundle.bundle import load_bundle
from featx.bundle.manifest import Manifest
from featx.bundle.records import UNRECORDED, MetricsRecord
from featx.bundle.sealing import parse_manifest, read_manifest, seal
from featx.errors import BundleError
from featx.io.digests import digest_json
from featx.runs.run import Run

WHOLE: dict[str, Any] = LEAST | {
    "created": "2026-01-02T03:04:05Z",
    "command": "featx fit-head d",
    "versions": {"python": "3.11.7", "featx": "0.1.0"},
    "split": {
        "digest": "s",
        "images": {"train": 8},
        "classes": {"train": {"a": 4}},
        "declared": False,
        "grouped": True,
    },
    "data": {"source": "d", "images": 9, "bad": 1, "duplicates": 0},
    "backbone": LEAST["backbone"] | {"name": "tiny", "weights": "random", "license": None, "resize": "pad"},
    "key": {"backbone": "tiny", "weights": "ab12", "input_size": [32, 32], "schema": 1},
    "fingerprint": "f",
    "head": LEAST["head"] | {"params": {"C": 1.0, "layers": [8, 0.5]}, "class_weight": "balanced", "file": "head.npz"},
    "multilabel": True,
    "thresholds": [0.25, 0.5],
    "metrics": {
        "val": {"images": 4, "exact_match": 0.5, "log_loss": None, "intervals": {"exact_match": [0, 1], "f1": None}},
        "test": None,
    },
    "per_class": {"val": [{"label": "a", "f1": 0.5, "roc_auc": None, "images": 4}], "test": None},
    "score": {"metric": "accuracy", "value": 0.5, "where": "val"},
    "search": {"last@avg": [{"clf": "svm", "params": {"C": 1.0}, "score": 0.5, "metric": "accuracy", "where": "cv"}]},
    "nested": {"folds": 2, "chosen": [{"outputs": ["last@avg"], "clf": "svm"}], "images": 9, "accuracy": 0.5},
    "history": [{"epoch": 1, "loss": 0.5, "seconds": 1}],
    "notes": ["few images"],
    "seconds": 1.5,
    "augment": {"policy": {"flip": "both"}, "seed": 3, "views": 2},
}
TUNED: dict[str, Any] = {
    "finetune": {"epochs": 3, "best_epoch": 2},
    "from": {"bundle": "1-svm", "digest": "d", "metrics": {"val": {"images": 4, "exact_match": 0.5}}},
    "comparison": {
        "val": {"images": 4, "accuracy": [0.5, 0.25], "only": [1, 0], "p_value": 1.0, "interval": [-0.5, 0.5]},
        "test": None,
    },
    "verdict": "Fine-tuning beats it.",
}
NAN, INFINITY = float("nan"), float("inf")
WRONG: list[tuple[str, Any]] = [
    ("schema", True),
    ("schema", 0),
    ("classes", []),
    ("classes", "ab"),
    ("classes", ["a", "a"]),
    ("classes[1]", 7),
    ("outputs", []),
    ("outputs[0]", "last"),
    ("outputs[0]", "@avg"),
    ("outputs[0]", "last@mean"),
    ("outputs[0]", "last@AVG"),
    ("backbone", ["tiny"]),
    ("backbone.input_size", [32]),
    ("backbone.input_size", 32),
    ("backbone.input_size[0]", -32),
    ("backbone.input_size[1]", 32.0),
    ("backbone.input_size[1]", 1 << 40),
    ("backbone.resize", "fit"),
    ("backbone.license", 3),
    ("backbone.finetuned", "yes"),
    ("head.kind", "forest"),
    ("head.kind", ["linear"]),
    ("head.temperature", 0),
    ("head.temperature", -1.0),
    ("head.temperature", NAN),
    ("head.temperature", INFINITY),
    ("head.temperature", "1"),
    ("head.temperature", True),
    ("head.temperature", 10**400),
    ("head.features", 0),
    ("head.features", 16.5),
    ("head.positive_weight", 0),
    ("head.params.C", NAN),
    ("head.file", "../head.npz"),
    ("head.file", "other.npz"),
    ("split.digest", None),
    ("split.images.train", -1),
    ("split.classes.train.a", "4"),
    ("split.declared", 0),
    ("data.bad", -1),
    ("data.images", 1.5),
    ("multilabel", 1),
    ("thresholds", None),
    ("thresholds", [0.5]),
    ("thresholds", [0.1, 0.2, 0.3]),
    ("thresholds[0]", NAN),
    ("thresholds[0]", 1.5),
    ("metrics", []),
    ("metrics.val.images", -4),
    ("metrics.val.exact_match", "high"),
    ("metrics.val.exact_match", INFINITY),
    ("metrics.val.intervals.exact_match", [0.5]),
    ("per_class.val[0].f1", [1]),
    ("score.metric", None),
    ("score.value", NAN),
    ("search.last@avg[0].score", "best"),
    ("search.last@avg[0].params", []),
    ("nested.folds", -2),
    ("nested.chosen[0].clf", None),
    ("history[0].epoch", 0),
    ("history[0].loss", "less"),
    ("notes[0]", 1),
    ("seconds", -1),
    ("versions.python", 3.11),
    ("augment.seed", "3"),
    ("augment.policy.flip", "sideways"),
    ("augment.policy.rotation", 500),
    ("augment.policy.twirl", 1),
    ("augment.views", -2),
    ("key", "k"),
    ("row", "box"),
    ("target", "number"),
    ("files", []),
    ("files.a", 3),
]


def put(content: dict[str, Any], field: str, value: Any) -> None:
    """Set a field that is named as in an error."""
    *path, last = field.replace("[", ".[").split(".")
    for name in path:
        content = content[int(name[1:-1])] if name.startswith("[") else content[name]
    content[int(last[1:-1]) if last.startswith("[") else last] = value  # type: ignore[index]


def holds(whole: Any, part: Any) -> bool:
    """Whether all of a part is in the whole, which may have filled in more."""
    if isinstance(part, dict):
        return all(name in whole and holds(whole[name], value) for name, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(holds, whole, part))
    return bool(whole == part and type(whole) is type(part))


def sealed(content: dict[str, Any]) -> bytes:
    """The text of a file whose digest holds."""
    return json.dumps(content | {"digest": digest_json(content)}).encode()


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_wrong_field_is_one_sentence_that_names_it(field: str, value: Any) -> None:
    content = copy.deepcopy(WHOLE | {"files": {"head.npz": "00"}})
    Manifest.from_json(content, "b")
    put(content, field, value)
    with pytest.raises(BundleError) as caught:
        parse_manifest(sealed(content), Path("b/bundle.json"))
    sentence = str(caught.value)
    assert sentence.startswith(f"b/bundle.json is not valid: {field} "), sentence
    assert sentence.endswith(". Get the bundle again from its source.")
    assert len(sentence) < 300
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("section", "field"), [(None, "classes"), (None, "files"), ("head", "temperature"), ("backbone", "input_size")]
)
def test_a_field_that_every_bundle_has_cannot_be_absent(section: str | None, field: str) -> None:
    content = copy.deepcopy(WHOLE)
    del (content if section is None else content[section])[field]
    name = field if section is None else f"{section}.{field}"
    with pytest.raises(BundleError, match=rf"^b says nothing of {name}\. Get the bundle"):
        Manifest.from_json(content, "b")


@pytest.mark.parametrize("value", [[], "text", None, 7])
def test_what_is_not_an_object_is_refused(value: Any) -> None:
    with pytest.raises(BundleError, match="must be an object, got"):
        Manifest.from_json(value, "b")


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "C:\\a", "a\\b", "", "."])
def test_a_file_outside_of_the_bundle_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match="outside of the bundle"):
        manifest_of(files={name: "00"})


@pytest.mark.parametrize("more", [{}, TUNED, {"baseline": {"net": "conv3", "epochs": 3}}, {"later": [{"x": 1}]}])
def test_the_json_goes_round(more: dict[str, Any]) -> None:
    content = WHOLE | more
    manifest = Manifest.from_json(content, "b")
    found = manifest.as_json()
    assert holds(found, content)
    assert Manifest.from_json(found, "b") == manifest
    assert digest_json(Manifest.from_json(json.loads(json.dumps(found)), "b").as_json()) == digest_json(found)


def test_every_bundle_goes_round_with_its_digest(lab: Lab) -> None:
    for head in ("logreg", "dense"):
        path = lab.bundle(head).path / "bundle.json"
        content = json.loads(path.read_text())
        manifest = read_manifest(path.parent)
        assert json.dumps(manifest.as_json()) == json.dumps(content)
        claimed = content.pop("digest")
        assert digest_json(content) == claimed == manifest.digest


def test_sealing_again_changes_nothing(lab: Lab, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(lab.bundle("logreg").path, tmp_path / "copy"))
    text = (folder / "bundle.json").read_text()
    assert seal(folder, read_manifest(folder)) == lab.bundle("logreg").manifest
    assert (folder / "bundle.json").read_text() == text


def test_what_an_older_bundle_lacks_is_filled_in() -> None:
    manifest = manifest_of()
    assert manifest.outputs == (Output("last", "avg"),)
    assert (manifest.row, manifest.target, manifest.multilabel, manifest.thresholds) == ("image", "class", False, None)
    assert manifest.backbone.license is UNRECORDED
    assert (manifest.backbone.finetuned, manifest.split.declared, manifest.data.duplicates) == (False, None, None)
    head = manifest.head
    assert (head.calibration, head.refitted, head.class_weight, head.positive_weight) == (
        "temperature",
        False,
        "none",
        1,
    )
    assert manifest.metrics_on("test") == MetricsRecord() == manifest_of(metrics={"test": None}).metrics_on("test")
    assert (manifest.per_class, manifest.search, manifest.history, manifest.notes) == ({}, {}, (), ())
    found = manifest.as_json()
    assert not {"row", "target", "from", "finetune", "baseline", "augment", "verdict", "digest"} & found.keys()
    assert "license" not in found["backbone"]


def test_weights_of_older_heads_are_among_their_options() -> None:
    params = {"class_weight": "balanced", "positive_weight": 2.0}
    head = manifest_of(head=LEAST["head"] | {"params": params}).head
    assert (head.class_weight, head.positive_weight) == ("balanced", 2.0)
    head = manifest_of(head=LEAST["head"] | {"params": params, "class_weight": "a=2"}).head
    assert head.class_weight == "a=2"


def test_the_kind_of_target_is_whether_there_are_several_labels() -> None:
    several = manifest_of(multilabel=True, thresholds=[0.5, 0.5])
    assert several.target == "labels"
    assert several.as_json()["multilabel"] is True
    assert manifest_of(multilabel=False).target == "class"


def test_a_bad_bundle_never_hides_the_others(lab: Lab, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "lab"
    for number, field, value in (
        (1, None, None),
        (2, "score.value", "x"),
        (3, "head.temperature", NAN),
        (4, "row", []),
    ):
        folder = Path(shutil.copytree(lab.bundle("logreg").path, run / f"{number}-logreg"))
        content = json.loads((folder / "bundle.json").read_text())
        del content["digest"]
        if field:
            put(content, field, value)
        (folder / "bundle.json").write_bytes(sealed(content))
    (run / "5-logreg" / "bundle.json").mkdir(parents=True)
    assert [bundle.path.name for bundle in Run(run).bundles()] == ["1-logreg"]
    assert Run(run).best().path.name == "1-logreg"
    with pytest.raises(BundleError, match=r"head\.temperature must be a finite number, got nan"):
        load_bundle(run / "3-logreg")
    done = call("bundle", "verify", run / "2-logreg", cwd=tmp_path)
    assert done.status == 1
    assert "score.value must be a number, got 'x'" in done.sentence


def test_a_field_is_named_where_it_is_deep(lab: Lab) -> None:
    with pytest.raises(BundleError, match=r"search\.a@avg\[1\]\.params must be an object, got 7"):
        changed(lab.bundle("logreg").manifest, search={"a@avg": [{"clf": "svm"}, {"clf": "svm", "params": 7}]})


def test_reading_a_manifest_needs_no_library_of_options() -> None:
    code = (
        "import sys; import featx.bundle.bundle;"
        "print([n for n in ('pydantic', 'sklearn', 'keras', 'yaml') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
