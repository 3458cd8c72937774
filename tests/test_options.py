"""Options: bounds that stand once in their types, texts parsed by their types, and keywords that editors know."""

from __future__ import annotations

import inspect
import json
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

import featx
from featx.api import generate
from featx.api.arrays import FeatureArrays
from featx.api.model import Model
from featx.cli.app import cli
from featx.config import (
    SECTIONS,
    ByteSize,
    ClusterAddress,
    DeviceChoice,
    FinetuneOptions,
    HeadOptions,
    HiddenLayers,
    MemoryShare,
    Pipeline,
    check_options,
    types_of,
)
from featx.config.bounds import Range, origin_of, range_of, refuse, without_bounds, without_none
from featx.config.pipeline import as_yaml, read_pipeline
from featx.config.route import set_keys
from featx.errors import UsageError
from featx.io.suggest import did_you_mean

ROOT = Path(__file__).parents[1]


def numbers() -> Iterator[tuple[str, Any]]:
    """`section.key` and type of every option that is a float, or several."""
    for section, kind in SECTIONS.items():
        for name, hint in types_of(kind).items():
            plain = without_bounds(without_none(hint))
            items = get_args(plain) if origin_of(plain) is tuple else (plain,)
            if without_bounds(items[0]) is float:
                yield f"{section}.{name}", hint


def commands(group: click.Group = cli) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from ((f"{name} {below}", one) for below, one in commands(command))
        elif command is not None:
            yield name, command


# --- bounds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [key for key, _ in numbers()])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_is_nan_or_infinite(key: str, value: float) -> None:
    count = {"data.split": 3, "head.threshold_range": 2, "head.rates": 1}.get(key, 0)
    written: object = [value, *[0.5] * (count - 1)] if count else value
    with pytest.raises(UsageError, match=rf"{key} (must be|is) .*got {value}"):
        set_keys(Pipeline(), {key: written})
    section, _, name = key.partition(".")
    typed = tuple(written) if isinstance(written, list) else written
    made = SECTIONS[section](**{name: typed if "rates" not in name else (value,)})  # as a program makes it
    with pytest.raises(UsageError):
        check_options(Pipeline(**{section: made}))  # type: ignore[arg-type]


def test_no_command_takes_nan_or_an_infinity() -> None:
    found = 0
    for name, command in commands():
        for param in command.params:
            takes = param.type.convert
            if isinstance(param.type, click.types.FloatParamType) or param.type.name == "float":
                found += 1
                for text in ("nan", "inf", "-inf"):
                    with pytest.raises((UsageError, click.BadParameter)):
                        takes(text, param, None)
                        pytest.fail(f"featx {name} takes {param.opts[0]} {text}")
    assert found > 50


def test_bounds_are_shown_by_the_help_and_named_by_errors() -> None:
    command = dict(commands())["fit-head"]
    shown = {one.name: one.get_help_record(click.Context(command)) for one in command.params}
    assert "x>=2" in str(shown["head__folds"])
    assert "x>0" in str(shown["head__strength"])
    assert "0<x<1" in str(shown["head__decay"])
    assert "0<=x<1" in str(shown["head__momentum"])
    assert "INTEGER RANGE" not in str(shown["head__folds"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fit-head", "x", "--folds", "1"], "head.folds must be at least 2, got 1."),
        (["fit-head", "x", "--strength", "-1"], "head.strength must be more than 0, got -1.0."),
        (
            ["fit-head", "x", "--pca", "0"],
            "head.pca must be a number of components or a share of the variance, got 0.0.",
        ),
        (["finetune", "--baseline", "nan"], "finetune.baseline must be a finite number, got nan."),
        (["predict", "x.png", "--min-confidence", "nan"], "--min-confidence must be at least 0, got nan."),
        (["predict", "x.png", "--min-confidence", "2"], "--min-confidence must be at most 1, got 2.0."),
        (["predict", "x.png", "--max-distance", "inf"], "--max-distance must be a finite number, got inf."),
        (["serve", "--timeout", "0"], "--timeout must be more than 0, got 0.0."),
        (["layers", "VGG16", "--input-size", "0"], "--input-size must be at least 1, got 0."),
    ],
)
def test_a_sentence_names_what_was_typed(arguments: list[str], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        cli.main(arguments, standalone_mode=False)
    assert str(caught.value) == sentence


def test_pydantic_reads_the_same_bounds() -> None:
    checked = 0
    for section, kind in SECTIONS.items():
        for name, hint in types_of(kind).items():
            if without_bounds(without_none(hint)) not in {int, float}:
                continue
            found = range_of(hint)
            for limit, is_open, step in ((found.least, found.least_open, -1), (found.most, found.most_open, 1)):
                if limit is not None:
                    wrong = limit if is_open else limit + step
                    with pytest.raises(UsageError):
                        refuse(f"{section}.{name}", hint, wrong)
                    with pytest.raises(ValidationError):
                        TypeAdapter(hint).validate_python(wrong)
                    checked += 1
    assert checked > 60


def test_a_range_is_read_off_a_type() -> None:
    hints = types_of(FinetuneOptions)
    assert range_of(hints["layer_decay"]) == Range(0, 1, least_open=True)
    assert range_of(hints["momentum"]) == Range(0, 1, most_open=True)
    assert range_of(hints["baseline"]) == Range()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"min_confidence": math.nan}, "min_confidence must be at least 0, got nan."),
        ({"min_confidence": 1.5}, "min_confidence must be at most 1, got 1.5."),
        ({"max_distance": math.inf}, "max_distance must be a finite number, got inf."),
        ({"top": 0}, "top must be at least 1, got 0."),
    ],
)
def test_a_model_has_the_bounds_of_the_command(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        Model(None).predict(["a.png"], **options)  # type: ignore[arg-type]
    assert str(caught.value) == sentence


# --- texts ---------------------------------------------------------------------------------------------------------


def test_texts_are_parsed_by_their_types() -> None:
    assert HiddenLayers("256, 0.3,128").layers == (256, 0.3, 128)
    assert (ByteSize("1.5GB").bytes, ByteSize("800 kB").bytes, ByteSize("7").bytes) == (1_500_000_000, 800_000, 7)
    assert (MemoryShare("grow").share, MemoryShare("0.25").share) == (None, 0.25)
    assert [DeviceChoice(one).most for one in ("all", "2", "cpu")] == [None, 2, 0]
    assert ClusterAddress("10.0.0.1:6379") == "10.0.0.1:6379"


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        (HiddenLayers, "64,1.5", "got '1.5'"),
        (HiddenLayers, "nan", "got 'nan'"),
        (ByteSize, "much", "A size is a number and a unit, like 800MB or 1.5GB; got 'much'"),
        (ByteSize, "0MB", "A size is"),
        (MemoryShare, "nan", "is grow, or a share"),
        (DeviceChoice, "0", "is all, cpu, or a number of GPUs"),
        (ClusterAddress, "ray://10.0.0.1:10001", "leave out ray://"),
    ],
)
def test_a_text_without_meaning_is_refused(kind: type[str], text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        kind(text)


def test_a_text_stays_what_was_written(tmp_path: Path) -> None:
    head = HeadOptions(hidden="256, 0.3", memory="800MB")  # type: ignore[arg-type]
    assert isinstance(head.hidden, HiddenLayers)
    content = asdict(head)
    assert (content["hidden"], json.dumps(content["memory"])) == ("256, 0.3", '"800MB"')
    assert pickle.loads(pickle.dumps(head)) == head
    (tmp_path / "p.yaml").write_text(as_yaml(Pipeline(head=head)))
    read = read_pipeline(tmp_path / "p.yaml").head
    assert read == head
    assert isinstance(read.memory, ByteSize)
    assert set_keys(Pipeline(), {"head.hidden": [64, 0.5, 32]}).head.hidden == "64,0.5,32"


def test_values_of_the_right_type_are_read_without_pydantic() -> None:
    code = (
        "from featx.config import Pipeline\nfrom featx.config.pipeline import read_default\n"
        "from featx.config.route import set_keys\n"
        "set_keys(read_default(), {'features.layer': 'top', 'head.clf': 'svm'})\n"
        "import sys; print('pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


# --- near names ----------------------------------------------------------------------------------------------------


def test_the_nearest_names_are_offered() -> None:
    assert did_you_mean("laier", ["layer", "pooling"]) == " Did you mean 'layer'?"
    assert did_you_mean("VGG61", ["VGG16", "VGG19", "Xception"], most=3) == " Did you mean 'VGG19' or 'VGG16'?"
    assert did_you_mean("resnet50", ["ResNet50"]) == " Did you mean 'ResNet50'?"
    assert did_you_mean("avgpool", ["avg_pool", "max_pool"]) == " Did you mean 'avg_pool'?"
    assert did_you_mean("lsat", ["last", "body"]) == " Did you mean 'last'?"
    assert did_you_mean("pool", ["avg_pool", "fc"]) == " Did you mean 'avg_pool'?"
    assert did_you_mean("dinov2", ["dinov2_small", "clip"]) == " Did you mean 'dinov2_small'?"


@pytest.mark.parametrize(
    ("word", "known"),
    [("nolayer", "input_layer"), ("nothing", "ending"), ("mypool", "global_average_pooling2d"), ("train", "frozen")],
)
def test_a_name_that_shares_only_a_word_is_not_offered(word: str, known: str) -> None:
    assert did_you_mean(word, [known]) == ""
    assert did_you_mean(word, [known], "There are others.") == " There are others."
    assert did_you_mean("zzz", ["layer"], "There are: layer.") == " There are: layer."
    assert did_you_mean("zzz", ["layer"]) == ""


# --- keywords ------------------------------------------------------------------------------------------------------


def test_the_keywords_are_those_that_the_sections_have() -> None:
    for name, text in generate.keyword_modules().items():
        written = (generate.FOLDER / name).read_text(encoding="utf-8")
        assert written == text, "type: python -m featx.api.generate"


@pytest.mark.parametrize(
    "function",
    [featx.extract, featx.read_features, featx.fit_head, Model.finetune, Model.evaluate],
    ids=lambda function: function.__qualname__,
)
def test_an_editor_knows_every_option(function: Any) -> None:
    (keywords,) = get_args(get_type_hints(function)["options"])
    own = {"data", "pipeline", "progress", "dry_run", "self", "part", "mistakes", "tta"}
    shown = set(inspect.signature(function).parameters) - own
    assert set(get_type_hints(keywords)) == shown
    assert keywords.__required_keys__ == frozenset()


def test_the_extractor_has_the_options_of_features() -> None:
    shown = inspect.signature(featx.FeatureExtractor).parameters
    hints = get_type_hints(featx.FeatureExtractor.__init__)
    known = get_type_hints(sys.modules["featx.api.keywords"].FeaturesKeywords)
    for entry in fields(SECTIONS["features"]):
        assert shown[entry.name].default == entry.default
        assert hints[entry.name] == known[entry.name]
    assert len(shown) == len(known)


RIGHT = """
from pathlib import Path
import featx

done = featx.extract("flowers", backbone=Path("own.keras"), layer=["a", "b"], input_size=150, resize="crop")
print(done.computed)
model = featx.fit_head("flowers", clf="dense", hidden=[64, 0.5], split=(0.8, 0.1, 0.1), preset=None, memory="1GB")
tuned: featx.Model = model.finetune("flowers", unfreeze=10, epochs=3, optimizer="adam")
print(featx.load("runs/flowers").evaluate("flowers", "test", classes=["a", "b"]))
print(featx.read_features("flowers", layer="top", name="other").X.shape)
print(featx.FeatureExtractor(layer=["a", "b"], resize="pad", cluster=None).transform(["a.png"]))
"""
WRONG = {
    'featx.extract("flowers", laier="a")': 'Unexpected keyword argument "laier"',
    'featx.extract("flowers", clf="svm")': 'Unexpected keyword argument "clf"',
    'featx.extract("flowers", input_size="big")': 'No overload variant of "extract"',
    'featx.fit_head("flowers", clf="forest")': 'No overload variant of "fit_head"',
    'featx.fit_head("flowers", path="x")': 'Unexpected keyword argument "path"',
    'featx.load("x").finetune("flowers", epochs=1.5)': 'No overload variant of "finetune" of "Model"',
    'featx.read_features("flowers", split=0.8)': '"split" to "read_features" has incompatible type "float"',
    'featx.FeatureExtractor(resize="fit")': '"resize" to "FeatureExtractor" has incompatible type',
}
# Packages whose types no option has: mypy would read 900 of their modules, four fifths of its work.
UNREAD = (
    *("PIL", "anyio", "click", "cryptography", "fsspec", "h5py", "jinja2", "markdown_it", "matplotlib", "numpy"),
    *("pillow_heif", "pydantic", "pydicom", "pygments", "pyparsing", "requests", "rich", "starlette", "urllib3"),
)
SKIPPED = "follow_imports = skip\nfollow_imports_for_stubs = True\n"


@pytest.mark.slow
def test_mypy_finds_a_wrong_option_in_a_script(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text("import featx\n" + "\n".join(WRONG) + "\n")
    (tmp_path / "mypy.ini").write_text(f"[mypy]\n[mypy-{','.join(f'{name}.*' for name in UNREAD)}]\n{SKIPPED}")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--cache-dir", os.devnull, "--follow-imports", "silent"),
            *("--ignore-missing-imports", "right.py", "wrong.py"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT), "PATH": "", "PYTHONPATH": str(ROOT)},
    )
    found = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert not [line for line in found if line.startswith("right.py")], done.stdout
    assert get_type_hints(FeatureArrays.X.fget)["return"] is np.ndarray
    for number, message in enumerate(WRONG.values(), start=2):
        assert any(line.startswith(f"wrong.py:{number}:") and message in line for line in found), (message, done.stdout)
