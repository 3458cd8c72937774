"""Help that can be read, words that people try, and what a shell offers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from conftest import environment
from fitted import call
from manifests import manifest_of

from featx.bundle.sealing import seal
from featx.cli.app import cli
from featx.cli.help import COMMON, HEADINGS
from featx.config import SECTIONS, types_of

LONG = (
    "fit-head",
    "finetune",
    "compare",
    "extract",
    "predict",
    "baseline",
    "look",
    "check",
    "similar",
    "evaluate",
    "next",
)


def complete(typed: Sequence[str], incomplete: str) -> list[str]:
    found = ShellComplete(cli, {}, "featx", "_FEATX_COMPLETE").get_completions(list(typed), incomplete)
    return [f"{one.type}:{one.value}" if one.type != "plain" else one.value for one in found]


def options_of(command: str) -> dict[str, set[str]]:
    """Each option's names, of the sections of a pipeline or the command's own."""
    found = cli.get_command(None, command)  # type: ignore[arg-type]
    return {str(one.name): {*one.opts, *one.secondary_opts} for one in found.params if one.opts[0].startswith("-")}


@pytest.mark.parametrize("command", LONG)
def test_help_is_short_and_help_all_is_whole(command: str, tmp_path: Path) -> None:
    short, whole = call(command, "--help", cwd=tmp_path), call(command, "--help-all", cwd=tmp_path)
    assert (short.status, whole.status) == (0, 0)
    assert len(short.out.splitlines()) <= 65
    words = set(whole.out.replace(",", " ").split())
    for names in options_of(command).values():
        assert names & words
    shown = set(short.out.replace(",", " ").split())
    common = {name: names for name, names in options_of(command).items() if name.replace("__", ".") in COMMON}
    assert all(names & shown for names in common.values())
    if "__" in "".join(options_of(command)) and "--help-all" in shown:
        assert f"featx {command} --help-all" in " ".join(short.out.split())


def test_the_sections_stand_in_order_and_the_dense_head_has_one(tmp_path: Path) -> None:
    text = call("fit-head", "--help-all", cwd=tmp_path).out
    headings = [line.rstrip(":") for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Data", "Network", "Views", "Head", "Dense head only", "Results", "Tracking", "General"]
    dense = text.partition("Dense head only:")[2].partition("Results:")[0]
    assert all(f"  --{name} " in dense for name in ("hidden", "optimizer", "patience", "l2"))
    assert "\n  --clf " not in dense


def test_the_common_options_exist_and_every_section_has_a_heading() -> None:
    assert set(SECTIONS) <= set(HEADINGS)
    for key in COMMON:
        section, _, name = key.partition(".")
        assert name in types_of(SECTIONS[section])


@pytest.mark.parametrize(
    ("word", "suggested"),
    [
        ("train", "featx fit-head DATA"),
        ("fit", "featx fit-head DATA"),
        ("ls", "featx models"),
        ("help", "featx COMMAND --help"),
        ("predit", "Did you mean 'predict'?"),
    ],
)
def test_words_that_people_try_lead_to_the_command(word: str, suggested: str, tmp_path: Path) -> None:
    outcome = call(word, cwd=tmp_path)
    assert outcome.status == 2
    assert f"No command {word!r}." in outcome.err
    assert suggested in outcome.err


def test_values_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for run, number in (("flowers", 1), ("flowers", 2), ("cats", 1)):
        path = tmp_path / "runs" / run / f"{number}-svm"
        path.mkdir(parents=True)
        seal(path, manifest_of())
    assert complete(["fit-head", "--backbone"], "resnet5") == ["ResNet50", "ResNet50V2"]
    assert complete(["fit-head", "--backbone"], "./my") == ["file:./my"]
    assert complete(["compare", "--backbone"], "VGG16,vgg1") == ["VGG16,VGG16", "VGG16,VGG19"]
    assert complete(["fit-head", "--clf"], "d") == ["dense"]
    assert complete(["compare", "--clf"], "svm,k") == ["svm,knn"]
    assert complete(["predict", "x.png", "--model"], "f") == ["flowers", "flowers/1-svm", "flowers/2-svm"]
    assert complete(["evaluate"], "ca") == ["cats", "cats/1-svm"]
    assert complete(["evaluate", "--runs", "elsewhere"], "ca") == ["file:ca"]
    assert complete(["compare", "--layer"], "bl") == ["blocks"]
    assert complete([], "fi") == ["fit-head", "finetune"]
    assert not (tmp_path / "cache").exists()


def test_layers_are_completed_once_they_were_listed(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = ["fit-head", "--backbone", str(tiny_backbone), "--layer"]
    (tmp_path / "cache").mkdir()  # where there is one, what was listed is remembered in it
    assert complete(named, "l") == []
    assert call("layers", tiny_backbone, cwd=tmp_path).status == 0
    assert complete(named, "l") == ["low", "logits"]
    assert complete(named, "hi") == ["high"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_installed_once(shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / f".{shell}rc").write_text("alias x=y")
    printed = call("completion", shell, cwd=tmp_path).out
    assert "_FEATX_COMPLETE" in printed
    for _ in range(2):
        assert call("completion", shell, "--install", cwd=tmp_path).status == 0
    at = ".config/fish/completions/featx.fish" if shell == "fish" else f".local/share/featx/completion.{shell}"
    assert (tmp_path / at).read_text().strip() == printed.strip()
    lines = (tmp_path / f".{shell}rc").read_text().splitlines()
    assert lines[0] == "alias x=y"
    assert [at in line for line in lines[1:]] == ([] if shell == "fish" else [True])


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_loads_what_was_installed_and_asks_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert call("completion", "bash", "--install", cwd=tmp_path).status == 0
    script = (
        f". {tmp_path}/.bashrc; complete -p featx; COMP_WORDS=(featx fit-head --clf es); COMP_CWORD=3; "
        "_featx_completion featx; echo ${COMPREPLY[@]}"
    )
    program = tmp_path / "featx"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m featx "$@"\n')
    program.chmod(0o755)
    settings = environment(HOME=str(tmp_path), PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run(["bash", "-c", script], env=settings, capture_output=True, text=True, check=True)
    assert "_featx_completion" in done.stdout
    assert done.stdout.splitlines()[-1] == "estimator"
