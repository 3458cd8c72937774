"""Pipeline files: one table of options for YAML, --set and the command line, and mistakes told in one sentence."""

from __future__ import annotations

from contextlib import chdir
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
import pytest

from featx.cli.app import cli
from featx.cli.arguments import pipeline_of
from featx.config import SECTIONS, FinetuneOptions, Pipeline
from featx.config.pipeline import as_yaml, read_default, read_pipeline
from featx.config.route import keys_of_settings, set_keys
from featx.errors import UsageError


def read(tmp_path: Path, text: str, *settings: str) -> Pipeline:
    path = tmp_path / "flowers.yaml"
    path.write_text(text, encoding="utf-8")
    return read_pipeline(path, settings)


# --- what a file says --------------------------------------------------------------------------------------------


def test_a_file_fills_in_what_it_says_and_leaves_the_rest(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        data: {path: flowers, split: [0.6, 0.2, 0.2], classes: [rose, tulip]}
        features:
          layer: [mixed7, mixed2]
          pooling: grid:4
          input_size: 150
        head:
          clf: svm
          strength: 1e-3
        finetune:
        """,
    )
    assert found.data.split == (0.6, 0.2, 0.2)
    assert found.data.classes == ("rose", "tulip")
    assert found.features.layer == ("mixed7", "mixed2")
    assert found.features.pooling == ("grid:4",)  # one needs no brackets
    assert (found.head.clf, found.head.strength) == ("svm", 1e-3)
    assert found.finetune == FinetuneOptions()
    assert found.report.name == "flowers"  # results go by the name of the file


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    found = read(tmp_path, "")
    assert replace(found, report=replace(found.report, name=None)) == Pipeline()


@pytest.mark.parametrize(
    ("text", "section", "key", "value"),
    [
        ("finetune: {unfreeze: 10}", "finetune", "unfreeze", "10"),
        ("head: {hidden: 256}", "head", "hidden", "256"),
        ("data: {classes: [0, 1, 2]}", "data", "classes", ("0", "1", "2")),
        ("report: {name: 2024}", "report", "name", "2024"),
        ("features: {layer: mixed7@avg}", "features", "layer", ("mixed7@avg",)),
        ("head: {class_weight: none}", "head", "class_weight", "none"),
    ],
)
def test_what_yaml_takes_for_a_number_may_be_text(
    tmp_path: Path, text: str, section: str, key: str, value: object
) -> None:
    assert getattr(getattr(read(tmp_path, text), section), key) == value


def test_a_pipeline_written_down_is_the_same_again(tmp_path: Path) -> None:
    pipeline = read(tmp_path, "data: {path: x, classes: [b, a]}\nfeatures: {layer: [p, q]}\nhead: {strength: 0.25}")
    assert read(tmp_path, as_yaml(pipeline)) == pipeline


# --- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("features: {laier: mixed7}", r"unknown key 'features.laier'. Did you mean 'layer'\?"),
        ("features: {zzz: 1}", r"unknown key 'features.zzz'. There are: backbone, weights"),
        ("feature: {layer: mixed7}", r"unknown section 'feature'. Did you mean 'features'\?"),
        (
            "zzz: 1",
            "unknown section 'zzz'. There are: data, features, augment, head, finetune, baseline, compare, next",
        ),
        ("features: {input_size: big}", "features.input_size: .*integer.*got 'big'"),
        ("features: {input_size: 0}", "features.input_size must be at least 1, got 0"),
        ("augment: {views: 3}", "augment.views must be 0 where no operation is on, got 3"),
        ("augment: {rotation: 200}", "augment.rotation must be at most 180, got 200"),
        ("augment: {shift: -0.1}", "augment.shift must be at least 0, got -0.1"),
        ("augment: {zoom: .nan}", "augment.zoom must be at least 0, got nan"),
        ("augment: {flip: sideways}", "augment.flip: .*'horizontal'.*got 'sideways'"),
        ("augment: {rotate: 20}", r"unknown key 'augment.rotate'. Did you mean 'rotation'\?"),
        ("features: {layer: [a, true]}", "features.layer.1: .*string.*got True"),
        ("head: {clf: forest}", r"head\.clf must be a kind of head .*got 'forest'\. .*logreg, svm"),
        ("head: {strength: -1}", "head.strength must be more than 0, got -1"),
        ("head: {epochs: 1.5}", "head.epochs: .*got 1.5"),
        ("finetune: {learning_rate: 0}", "finetune.learning_rate must be more than 0"),
        ("finetune: {enabled: perhaps}", "finetune.enabled: .*got 'perhaps'"),
        ("data: {split: [0.8, 0.2]}", "data.split"),
        ("compare: {stage: [head, best]}", "compare.stage must be a list of head, from-cache, finetuned, got 'best'"),
        ("compare: {clf: forest}", "compare.clf must be a list of logreg, svm, .*, got 'forest'"),
        (
            "compare: {backbone: [VGG16, VGG16]}",
            "compare.backbone must be a list without repetitions, got VGG16,VGG16",
        ),
        ("compare: {input_size: [64, 0]}", "compare.input_size must be at least 1, got 64,0"),
        (
            "compare: {stage: []}",
            "compare.stage must be a list of at least one of head, from-cache, finetuned, got none",
        ),
        ("compare: {override: {VGG16: 3}}", "compare.override.VGG16: .*got 3"),
        ("data: 3", "data: .*got 3"),
        (
            "- a\n- b",
            r"must hold sections \(data, .*, baseline, compare, .*, report, tracking\), got list",
        ),
        ("data: {path: [}", "is not valid YAML"),
        ("data: {path: a}\n\tb: 1", "is not valid YAML"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read(tmp_path, text)
    assert "flowers.yaml" in str(caught.value) or "must be" in message
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_every_mistake_of_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"layr.*clv"):
        read(tmp_path, "features: {layr: a}\nhead: {clv: svm}")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No pipeline file .*gone\.yaml"):
        read_pipeline(tmp_path / "gone.yaml")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UsageError, match="is not valid YAML"):
        read_pipeline(tmp_path / "x.yaml")


# --- overriding --------------------------------------------------------------------------------------------------


def test_set_overrides_any_key(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "features: {layer: mixed5}\nhead: {clf: svm}",
        "features.layer=mixed7",
        "features.pooling=grid:4",
        "head.strength=0.5",
        "data.classes=[a, b]",
        "finetune.enabled=false",
        "finetune.unfreeze=3",
        "head.strength=null",
    )
    assert found.features.layer == ("mixed7",)
    assert found.features.pooling == ("grid:4",)
    assert found.head.clf == "svm"
    assert found.head.strength is None  # the last one counts
    assert found.data.classes == ("a", "b")
    assert found.finetune.enabled is False
    assert found.finetune.unfreeze == "3"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("features.layr=x", "Did you mean 'layer'"),
        ("featurs.layer=x", "No section 'featurs'.*Did you mean 'features'"),
        ("layer=x", "takes section.key=value"),
        ("features.layer", "takes section.key=value"),
        ("features.=x", "takes section.key=value"),
        ("features.layer=[a", "is not valid YAML"),
        ("features.input_size=big", "got 'big'"),
        ("features.input_size=-3", "must be at least 1"),
    ],
)
def test_a_mistaken_setting(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        set_keys(Pipeline(), keys_of_settings([setting]), "--set")


def test_numbers_with_commas_are_those_of_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text("data: {split: '0.5, 0.25, 0.25'}\nfeatures: {mean: '1,2,3'}\n")
    found = read_pipeline(tmp_path / "some.yaml", ["compare.input_size=64,128", "head.threshold_range=0.2,0.8"])
    assert found.data.split == (0.5, 0.25, 0.25)
    assert found.features.mean == (1.0, 2.0, 3.0)
    assert found.compare.input_size == (64, 128)
    assert found.head.threshold_range == (0.2, 0.8)
    assert read_pipeline(tmp_path / "some.yaml", ["data.split=0.6,0.2,0.2"]).data.split == (0.6, 0.2, 0.2)
    with pytest.raises(UsageError, match=r"data\.split\.1: .*got 'x'"):
        read_pipeline(tmp_path / "some.yaml", ["data.split=0.6,x,0.2"])


def test_keys_are_checked_for_bounds() -> None:
    assert set_keys(Pipeline(), {"head.clf": "svm"}).head.clf == "svm"
    with pytest.raises(UsageError, match=r"head\.folds must be at least 2, got 1"):
        set_keys(Pipeline(), {"head.folds": 1})


def parse(command: str, *arguments: str) -> Pipeline:
    """The pipeline that a command would work on."""
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    context = found.make_context(command, list(arguments))
    values = dict(context.params)
    given = [values.pop(name, default) for name, default in (("data", None), ("pipeline_file", None), ("settings", ()))]
    with context.scope():
        return pipeline_of(given[0], given[1], given[2], values)  # type: ignore[arg-type]


def test_options_override_the_file_and_settings_override_both(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("data: {path: x}\nfeatures: {layer: [a, b], input_size: 64}\nhead: {clf: knn, folds: 3}")
    found = parse("fit-head", "-p", str(path), "--layer", "c", "--clf", "svm", "--split", "0.5,0.2,0.3")
    assert found.features.layer == ("c",)
    assert found.features.input_size == 64
    assert (found.head.clf, found.head.folds) == ("svm", 3)
    assert found.data.split == (0.5, 0.2, 0.3)
    found = parse("fit-head", "other", "-p", str(path), "--clf", "svm", "--set", "head.clf=ridge")
    assert (found.data.path, found.head.clf) == ("other", "ridge")
    # an option typed with its default value overrides the file, too
    assert parse("fit-head", "-p", str(path), "--clf", "logreg").head.clf == "logreg"


def test_data_alone_means_the_built_in_defaults() -> None:
    found = parse("extract", "pictures")
    assert found == replace(Pipeline(), data=replace(Pipeline().data, path="pictures"))


def test_every_option_is_a_key_and_the_other_way_round() -> None:
    own = {
        "extract": {"data", "pipeline_file", "settings", "dry_run", "as_json"},
        "fit-head": {"data", "pipeline_file", "settings", "dry_run", "as_json"},
        "finetune": {"data", "pipeline_file", "settings", "dry_run", "as_json", "origin"},
        "baseline": {"data", "pipeline_file", "settings", "as_json"},
        "compare": {"data", "pipeline_file", "settings", "dry_run", "as_json"},
        "augment": {"image", "pipeline_file", "settings", "as_json", "out", "force", "count"},
        "next": {"pool", "model", "pipeline_file", "settings", "as_json", "out"},
        "enough": {"data", "pipeline_file", "settings", "as_json", "out"},
        "drift": {"new", "model", "pipeline_file", "settings", "as_json", "out", "fail"},
        "map": {"data", "model", "pipeline_file", "settings", "as_json", "out"},
    }
    offered: set[tuple[str, str]] = set()
    for name, others in own.items():
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        options = {one.name: one for one in command.params if one.name not in others}
        for parameter, option in options.items():
            section, _, key = str(parameter).partition("__")
            assert key in {entry.name for entry in fields(SECTIONS[section])}
            typed = {"imports": "import"}.get(key, key)  # one at a time on the command line, a list in a file
            assert "--" + typed.replace("_", "-") in option.opts
            offered.add((section, key))
    keys = {(section, entry.name) for section, kind in SECTIONS.items() for entry in fields(kind)}
    # DATA, one or several, and which stages `run` does
    assert keys - offered == {("data", "path"), ("compare", "data"), ("finetune", "enabled")}


def test_every_option_has_help_and_the_default_of_its_key() -> None:
    commands = (("features", "extract"), ("head", "fit-head"), ("finetune", "finetune"), ("baseline", "baseline"))
    for section, command_name in commands:
        command = cli.get_command(click.Context(cli), command_name)
        assert command is not None
        options: dict[str, Any] = {str(one.name): one for one in command.params}
        for entry in fields(SECTIONS[section]):
            if (section, entry.name) != ("finetune", "enabled"):
                assert options[f"{section}__{entry.name}"].help
                assert options[f"{section}__{entry.name}"].default == entry.default


# --- the default -------------------------------------------------------------------------------------------------


def test_the_default_is_found_in_the_package_from_anywhere(tmp_path: Path) -> None:
    with chdir(tmp_path):
        found = read_default()
        assert parse("extract") == found
    assert found.report.name == "default"
    assert found.features.backbone == "EfficientNetLite0"
    assert found.data.path is not None


def test_the_default_of_the_working_directory_comes_first(tmp_path: Path) -> None:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "default.yaml").write_text("data: {path: mine}")
    with chdir(tmp_path):
        assert read_default().data.path == "mine"


def test_every_pipeline_that_comes_with_featx_is_valid() -> None:
    folder = Path(__file__).parent.parent / "pipelines"
    files = sorted(folder.glob("*.yaml"))
    assert files
    for path in files:
        assert read_pipeline(path).data.path
