"""`hf:OWNER/NAME[/FILE.onnx][@REVISION]`: a network on Hugging Face, downloaded once and read as a folder afterwards.

    <cache>/hub/OWNER/NAME/
      refs.json                   revision -> commit, as they were when it was fetched
      <commit>/                   the files that are needed, visible only when they are whole
      <commit>.part/              what an interrupted download has left, and the next one goes on with

A revision stays at the commit that it was when it was fetched: the same command gives the same features tomorrow.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from featx.backbones.hub.client import byte_bar, import_client
from featx.backbones.hub.folder import CONFIG, HUGGING_FACE, ONNX_FILES, read_folder
from featx.errors import BackboneError, UsageError
from featx.io.files import make_folder, write_json
from featx.io.suggest import did_you_mean

_NAME = re.compile(r"([\w.-]+)/([\w.-]+?)((?:/[\w.-]+)+\.onnx)?(?:@([\w./-]+))?")
_LICENSES = ["README.md", *(f"{word}*" for one in ("license", "licence", "notice") for word in (one, one.upper()))]
_DESCRIPTIONS = [CONFIG, "preprocessor_config.json", "image_converter.json", *_LICENSES]
_WEIGHTS = (  # of which the first that is there is fetched
    re.compile(r"model\.safetensors"),
    re.compile(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?"),
    re.compile(r"model\.weights\.(h5|json)|model_\d+\.weights\.h5"),
)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Repository:
    """A network on Hugging Face.

    revision : a branch, a tag or a commit; file : a graph file in it that was asked for, "" where none was
    """

    owner: str
    name: str
    file: str = ""
    revision: str = "main"

    @property
    def id(self) -> str:
        """OWNER/NAME."""
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True)
class Fetched:
    """A folder or graph file here, and where it is from: `hf:OWNER/NAME@COMMIT`."""

    path: Path
    source: str


def parse_name(text: str) -> Repository:
    """What `hf:OWNER/NAME[/FILE.onnx][@REVISION]` names.

    Raises
    ------
    UsageError
        It is not of that form.
    """
    found = _NAME.fullmatch(text.removeprefix(HUGGING_FACE))
    parts = [part for group in found.groups() if group for part in group.split("/")] if found else []
    if found is None or {".", ".."} & set(parts):
        raise UsageError(
            f"{text!r} does not name a network on Hugging Face. Write hf:OWNER/NAME, or hf:OWNER/NAME@REVISION."
        )
    owner, name, file, revision = found.groups()
    return Repository(owner, name, (file or "").removeprefix("/"), revision or "main")


def fetch(text: str, cache: Path) -> Fetched:
    """The network of a name; only what has not been fetched before is downloaded.

    Raises
    ------
    UsageError
        The name is not of the form `hf:OWNER/NAME[@REVISION]`.
    BackboneError
        No such network or revision, one that featx does not read, or it cannot be downloaded.
    """
    repository = parse_name(text)
    root = (cache / "hub" / repository.owner / repository.name).expanduser().resolve()
    commit = _read_refs(root).get(repository.revision, repository.revision)
    if not _is_there(root / commit, repository):
        commit = _download(repository, root)
    folder = root / commit
    return Fetched(folder / repository.file if repository.file else folder, f"{HUGGING_FACE}{repository.id}@{commit}")


def _is_there(folder: Path, repository: Repository) -> bool:
    wanted = (repository.file,) if repository.file else (CONFIG, *ONNX_FILES)
    return any((folder / name).is_file() for name in wanted)


def _read_refs(root: Path) -> dict[str, str]:
    try:
        return dict(json.loads((root / "refs.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}  # where nothing was fetched; a damaged one is written anew


def _download(repository: Repository, root: Path) -> str:
    """Fetch what is needed of a network; its commit."""
    client = import_client()
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        found = client.HfApi(endpoint=endpoint).model_info(repository.id, revision=repository.revision)
        commit, files = str(found.sha), [str(one.rfilename) for one in found.siblings or ()]
        part = root / f"{commit}.part"
        make_folder(root)
        get = partial(
            client.snapshot_download,
            repository.id,
            revision=commit,
            local_dir=part,
            endpoint=endpoint,
            tqdm_class=byte_bar(f"Downloading {repository.id}"),
        )
        get(allow_patterns=_DESCRIPTIONS)  # one that featx does not take is refused before its weights are fetched
        wanted = _choose(repository, files, part)
        _logger.info("downloading %s of %s at %s to %s", ", ".join(wanted), repository.id, commit, root)
        get(allow_patterns=[*_DESCRIPTIONS, *wanted])
        _publish(part, root / commit)
    except BackboneError:
        raise
    except Exception as error:  # those of its HTTP library have no base in common with its own
        if getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}:
            raise
        _explain(error, repository, root)
    write_json(root / "refs.json", _read_refs(root) | {repository.revision: commit})
    return commit


def _choose(repository: Repository, files: Sequence[str], part: Path) -> list[str]:
    """Which of the files hold the network: its weights; a graph, where it is asked for or all that featx can read."""
    if repository.file:
        if repository.file not in files:
            known = [name for name in files if name.endswith(".onnx")]
            raise BackboneError(
                f"{repository.id} has no {repository.file}.{did_you_mean(repository.file, known)} "
                f"Its graph files: {', '.join(known) or 'none'}."
            )
        return _with_data(repository.file, files)
    weights = next((some for kind in _WEIGHTS if (some := [name for name in files if kind.fullmatch(name)])), [])
    graph = next((name for name in ONNX_FILES if name in files), None)
    fault = _find_fault(part, repository)
    if weights and fault is None:
        return weights
    if graph is not None:
        return _with_data(graph, files)
    raise fault or BackboneError(
        f"{repository.id} has neither model.safetensors nor {ONNX_FILES[0]}, which featx reads networks from. Export "
        f"it and give the .onnx file: optimum-cli export onnx --model {repository.id} OUT."
    )


def _with_data(graph: str, files: Sequence[str]) -> list[str]:
    """A graph file and those beside it that hold its weights, as `model.onnx_data`."""
    return [name for name in files if name.startswith(graph)]


def _find_fault(part: Path, repository: Repository) -> BackboneError | None:
    """Why the network that a folder's files describe cannot be read; None where it can."""
    try:
        read_folder(part)
    except BackboneError as error:
        return BackboneError(str(error).replace(str(part), repository.id))
    return None


def _publish(part: Path, folder: Path) -> None:
    """Let a folder be seen whose files are whole; where there is one already, its new files, the largest first."""
    if not folder.is_dir():
        shutil.rmtree(part / ".cache", ignore_errors=True)
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():  # which another process has put there meanwhile
                raise
        return
    files = [file for file in part.rglob("*") if file.is_file() and ".cache" not in file.relative_to(part).parts]
    for file in sorted(files, key=lambda one: -one.stat().st_size):
        make_folder((folder / file.relative_to(part)).parent)
        file.replace(folder / file.relative_to(part))
    shutil.rmtree(part, ignore_errors=True)


def _explain(error: Exception, repository: Repository, root: Path) -> NoReturn:
    """Say in one sentence why a network cannot be had, and what to do."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{repository.id}"
    login = "log in with 'hf auth login', or set HF_TOKEN"
    if isinstance(error, errors.GatedRepoError):
        raise BackboneError(
            f"{repository.id} is only available to those who accept its terms: do so at {page}, then {login}."
        ) from error
    if isinstance(error, errors.RepositoryNotFoundError):
        raise BackboneError(
            f"No network {repository.id} on Hugging Face. Check the name; if it is private, {login}."
        ) from error
    if isinstance(error, errors.RevisionNotFoundError):
        raise BackboneError(
            f"{repository.id} has no revision {repository.revision!r}. {page}/tree/main shows them."
        ) from error
    if isinstance(error, errors.HFValidationError):
        raise UsageError(f"{repository.id!r} does not name a network on Hugging Face: {_one_line(error)}") from error
    files = repository.file or f"{CONFIG}, preprocessor_config.json and model.safetensors"
    raise BackboneError(
        f"Cannot download {repository.id}: {_one_line(error)}. Whole files are kept; the same command goes on. "
        f"Without a network: copy {files} of {page}/tree/{repository.revision} to {root / repository.revision}."
    ) from error


def _one_line(error: Exception) -> str:
    cause: BaseException | Any = error
    while cause.__cause__ is not None:  # the library's own advice is about its cache, which is not used
        cause = cause.__cause__
    return " ".join(f"{type(cause).__name__}: {cause}".split())[:200].rstrip(".")
