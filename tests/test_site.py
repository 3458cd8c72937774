"""The documentation: links work in the repository and in the site, commands and options that it names are there."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import featx
from featx.cli.app import cli

ROOT = Path(__file__).parents[1]
TEXTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "pipelines" / "README.md"],
    key=lambda path: path.as_posix(),
)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def hooks() -> Any:
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prose(path: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """Where links with a # can lead to, as both GitHub and Python-Markdown make them of plain headings."""
    headings = re.findall(r"^#+ (.*)$", prose(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere_in_the_repository(path: Path) -> None:
    for link in LINK.findall(prose(path)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_navigation_once() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    found: list[str] = []

    def walk(entry: Any) -> None:
        for one in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else []:
            walk(one)
        found.extend([entry] if isinstance(entry, str) else [])

    walk(settings["nav"])
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(found) == sorted([*pages, *hooks().PAGES.values()])
    assert settings["theme"]["font"] is False


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("index.md", "docs/export.md", "export.md"),
        ("index.md", "examples/", "examples.md"),
        ("index.md", "CHANGELOG.md", "changelog.md"),
        ("index.md", "pipelines/", "pipelines.md"),
        ("tutorial.md", "../pipelines/README.md", "pipelines.md"),
        ("tutorial.md", "heads.md#confidence", "heads.md#confidence"),
        ("reference/python.md", "../heads.md", "../heads.md"),
        ("reference/python.md", "../../CHANGELOG.md", "../changelog.md"),
        ("export.md", "../examples/predict_onnx.py", "examples.md#predict_onnxpy"),
        ("examples.md", "docs/export.md", "export.md"),
        ("pipelines.md", "../docs/seeds-coverage.md", "seeds-coverage.md"),
        ("explain.md", "explain.png", "explain.png"),
        ("heads.md", "https://example.org/a.md", "https://example.org/a.md"),
        ("heads.md", "#confidence", "#confidence"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(page: str, link: str, expected: str) -> None:
    assert hooks().relink(f"see [this]({link}).", page) == f"see [this]({expected})."


# --- commands ----------------------------------------------------------------------------------------------------


def commands(path: Path) -> list[list[str]]:
    """The words of every `featx ...` in the blocks of shell code of a page."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = re.sub(r"\\\n\s*", " ", "\n".join(blocks)).splitlines()
    found = [re.sub(r"^(\$ |CUDA_VISIBLE_DEVICES=\S+ )", "", line) for line in lines]
    return [shlex.split(line, comments=True)[1:] for line in found if line.startswith("featx ")]


def unknown_options(words: list[str]) -> list[str]:
    """Options that the command does not have; the command itself where it is not there."""
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group) and words:
        word, *words = words
        if word.startswith("-"):
            if word not in {opt for parameter in command.params for opt in parameter.opts}:
                return [word]
            continue
        found = command.get_command(context, word)
        if found is None:
            return [word]
        command = found
    known = {opt for parameter in command.params for opt in [*parameter.opts, *parameter.secondary_opts]}
    return [word for word in words if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_commands_of_a_page_are_there_with_their_options(path: Path) -> None:
    wrong = {" ".join(words): unknown for words in commands(path) if (unknown := unknown_options(words))}
    assert not wrong


def test_a_wrong_command_would_be_found() -> None:
    assert unknown_options(["fit-head", "flowers/", "--clf", "svm", "--colour", "red"]) == ["--colour"]
    assert unknown_options(["bundle", "frame"]) == ["frame"]
    assert unknown_options(["-v", "bundle", "pack", "x", "--out", "y"]) == []


# --- the site ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_nobody_for_anything(tmp_path: Path) -> None:
    for package in ("material", "mkdocs", "mkdocs_click", "mkdocstrings_handlers.python"):
        pytest.importorskip(package, reason="pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    pages = {
        path.relative_to(tmp_path / "site").as_posix(): path.read_text() for path in (tmp_path / "site").rglob("*.html")
    }
    for page, text in pages.items():
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"?([^\"\s>]+)", text)
        loaded += re.findall(r"<link[^>]*rel=\"?(?:stylesheet|preconnect|icon)\"?[^>]*href=\"?([^\"\s>]+)", text)
        assert not [source for source in loaded if re.match(r"(https?:)?//", source)], page
    assert "--max-distance" in pages["reference/commands-use/index.html"]
    assert "FeatureExtractor" in pages["reference/python/index.html"]
    assert "predict_keras.py" in pages["examples/index.html"]


def test_every_command_is_on_one_page_of_the_reference() -> None:
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference").glob("commands-*.md")]
    shown = [name for page in pages for name in re.findall(r":prog_name: featx (\S+)", page)]
    listed = re.findall(r"^\| `featx (\S+)`", (ROOT / "docs/reference/commands.md").read_text(), flags=re.MULTILINE)
    assert sorted(shown) == sorted(listed) == sorted(cli.list_commands(click.Context(cli)))


def test_the_version_is_the_same_in_the_changelog_and_the_citation() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", changelog, flags=re.MULTILINE)
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert released[0] == cited["version"] == featx.__version__
    assert released == sorted(released, key=lambda text: tuple(map(int, text.split("."))), reverse=True)
