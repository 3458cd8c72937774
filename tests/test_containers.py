"""The Dockerfiles, read: no daemon is needed to see that what they copy, install and start is there."""

from __future__ import annotations

import configparser
import json
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = ("Dockerfile", "Dockerfile.gpu")
# https://docs.docker.com/reference/dockerfile/; MAINTAINER is deprecated
INSTRUCTIONS = {
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "ONBUILD", "RUN"),
    *("SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
}


def instructions(name: str) -> list[tuple[str, str]]:
    """(instruction, its arguments) in order, continued lines joined and comments left out."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(first, rest.strip()) for first, rest in found]


def those(name: str, wanted: str) -> list[str]:
    return [rest for instruction, rest in instructions(name) if instruction == wanted]


def settings() -> configparser.ConfigParser:
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg")
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_instruction_is_one(name: str) -> None:
    found = [instruction for instruction, _ in instructions(name)]
    assert set(found) <= INSTRUCTIONS
    assert found[0] == "FROM"
    assert (found.count("ENTRYPOINT"), found.count("CMD")) == (1, 1)


@pytest.mark.parametrize("name", FILES)
def test_what_is_copied_is_there_and_not_ignored(name: str) -> None:
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    kept = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    copied = [source for line in those(name, "COPY") for source in shlex.split(line)[:-1]]
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source in kept
    assert sorted(copied) == sorted(kept)


def folders(package: str, places: dict[str, str]) -> str:
    """The folder of a package, by `package_dir` of setup.cfg."""
    return places.get(package, package.replace(".", "/"))


@pytest.mark.parametrize("name", FILES)
def test_the_packages_are_among_what_is_copied(name: str) -> None:
    options = settings()["options"]
    places = dict(line.split(" = ") for line in options["package_dir"].split("\n") if line)
    copied = {source for line in those(name, "COPY") for source in shlex.split(line)[:-1]}
    for package in options["packages"].split():
        assert folders(package, places).split("/")[0] in copied
    assert "README.md" in copied  # setup.cfg makes the long description of it


@pytest.mark.parametrize(
    ("name", "extras"),
    [("Dockerfile", {"export", "serve", "zstd"}), ("Dockerfile.gpu", {"export", "gpu", "serve", "zstd"})],
)
def test_what_is_installed_are_extras_that_there_are(name: str, extras: set[str]) -> None:
    (line,) = [line for line in those(name, "RUN") if "pip install" in line]
    (found,) = re.findall(r"'\.\[([a-z,]+)\]'", line)
    assert set(found.split(",")) == extras <= set(settings()["options.extras_require"])


@pytest.mark.parametrize("name", FILES)
def test_the_base_is_a_python_that_featx_runs_on(name: str) -> None:
    (base,) = those(name, "FROM")
    version = tuple(map(int, re.fullmatch(r"python:(\d+)\.(\d+)-slim", base).groups()))  # type: ignore[union-attr]
    parsed = settings()
    least = tuple(map(int, parsed["options"]["python_requires"].removeprefix(">=").split(".")))
    assert version >= least
    assert f"Programming Language :: Python :: {version[0]}.{version[1]}" in parsed["metadata"]["classifiers"]


@pytest.mark.parametrize("name", FILES)
def test_it_starts_featx_and_not_as_root(name: str) -> None:
    (entry,), (user,) = those(name, "ENTRYPOINT"), those(name, "USER")
    scripts = [
        line.split(" = ")[0] for line in settings()["options.entry_points"]["console_scripts"].split("\n") if line
    ]
    assert json.loads(entry)[0] in scripts
    assert user not in {"root", "0"}
    order = [instruction for instruction, _ in instructions(name)]
    assert order.index("USER") > max(i for i, instruction in enumerate(order) if instruction == "RUN")


@pytest.mark.parametrize("name", FILES)
def test_data_and_results_are_in_a_volume_of_the_users(name: str) -> None:
    ((volume,),) = [json.loads(line) for line in those(name, "VOLUME")]
    assert those(name, "WORKDIR")[-1] == volume
    (made,) = [line for line in those(name, "RUN") if f"--owner={those(name, 'USER')[0]}" in line]
    # each may be a named volume, which takes the owner of the folder in the image
    assert {volume, f"{volume}/cache", f"{volume}/runs"} <= set(shlex.split(made))
