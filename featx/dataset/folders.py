"""Images in folders, local or at a URL: a folder per class, train/val/test folders with those, or files alone.

The order is that of Keras: classes in alphanumeric order, and the files of a class by folder and name. Every file in a
class folder is a candidate, whatever its name ends in: whether it is an image shows when it is decoded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from featx.config import DataOptions
from featx.dataset.imageset import NONE, SPLIT_NAMES, TRAIN, ImageSet, choose_classes
from featx.dataset.names import TABLES, is_document, is_left_aside
from featx.errors import DataError
from featx.io.compact import Paths
from featx.io.counting import counted, enumerated
from featx.io.filetypes import describe_os_error
from featx.io.shown import as_utf8
from featx.io.urls import is_url, join, open_remote, parent, plain

_NAMED = 3  # files that a sentence names


@dataclass
class _Aside:
    """What a walk through folders leaves aside, counted and with a first example."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, example: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.examples.setdefault(kind, example)

    def notes(self) -> tuple[str, ...]:
        return tuple(
            f"Left aside, {kind}: {count:,} (such as {self.examples[kind]!r})" for kind, count in self.counts.items()
        )


def read_folder(source: str, root: str, options: DataOptions) -> ImageSet:
    """Read a folder per class, train/val/test folders that hold those, or a folder of files alone (no labels).

    Empty folders beside the files change nothing: whoever sorts images into folders may not have begun. Of files beside
    class folders, or alone, those that their names call documents are left aside.

    source : as the user gave it; root : the same, absolute; options : `classes` is used
    """
    aside = _Aside()
    _list_ahead([root])
    folders, files = _list(root, aside)
    parts, found = _find_parts(root, folders), _Found()
    if parts:
        _read_parts(root, folders, parts, found, aside)
    else:
        for name in folders:
            found.add(name, _walk(_join(root, name), aside), NONE)
    name = Path(plain(root)).name or "images"
    if not len(found.paths):
        loose = [file for file in files if not is_document(file)]
        documents = [file for file in files if is_document(file)]
        if not loose:
            raise DataError(f"No images in {source}: {_describe_emptiness(root, folders, parts, documents)}")
        for document in documents:
            aside.add("files that are not images by their names", document)
        paths = Paths(_join(root, file) for file in loose)
        return ImageSet(source, name, paths, notes=aside.notes() + _note_loose(source, folders))
    for file in files:
        aside.add("files outside the class folders", file)
    classes = choose_classes(map(as_utf8, found.names), options.classes, source)
    code = {name: position for position, name in enumerate(classes)}
    codes = np.array([code[as_utf8(name)] for name in found.names], np.int64)
    return ImageSet(
        source,
        name,
        paths=found.paths,
        labels=np.repeat(codes, found.counts),
        classes=classes,
        declared=np.repeat(np.array(found.splits, np.uint8), found.counts) if parts else None,
        notes=aside.notes() + _hint(root, folders, parts),
    )


@dataclass
class _Found:
    """The files of class folders, one folder after the other: their names, how many files each has, and its split."""

    paths: Paths = field(default_factory=Paths)
    names: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    splits: list[int] = field(default_factory=list)

    def add(self, name: str, paths: Iterable[str], split: int) -> None:
        before = len(self.paths)
        self.paths.extend(paths)
        self.names.append(name)
        self.counts.append(len(self.paths) - before)
        self.splits.append(split)


def _find_parts(root: str, folders: Sequence[str]) -> dict[str, int]:
    """The folders among these that are splits: train and at least one other, each with folders in it."""
    named = {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
    if TRAIN not in named.values() or len(set(named.values())) < 2:
        return {}
    # A class may be called "train", beside "bus". Only folders that hold class folders are splits.
    holding = {name: split for name, split in named.items() if _list(_join(root, name), _Aside())[0]}
    return holding if TRAIN in holding.values() else {}


def _read_parts(root: str, folders: Sequence[str], parts: dict[str, int], found: _Found, aside: _Aside) -> None:
    for part, split in sorted(parts.items(), key=lambda item: (item[1], item[0])):
        classes, strays = _list(_join(root, part), aside)
        for name in classes:
            found.add(name, _walk(_join(root, part, name), aside), split)
        for name in strays:
            aside.add("files outside the class folders", f"{part}/{name}")
    for other in folders:
        if other not in parts:
            aside.add("folders that are not a split with class folders", other)


def read_files(items: Sequence[str | Path]) -> ImageSet:
    """Files, and the files in folders at any depth, without labels; each once."""
    aside = _Aside()
    wanted = [expand(item) for item in items]
    urls = [path for path in wanted if is_url(path)]
    folders = open_remote().find_folders(urls) if urls else []
    _list_ahead(folders)
    found = (
        one
        for path in wanted
        for one in (_walk(path, aside) if (path in folders if is_url(path) else Path(path).is_dir()) else [path])
    )
    paths = Paths(found if len(wanted) == 1 else dict.fromkeys(found))
    if not paths:
        raise DataError(f"No files in {', '.join(map(str, items))}. Name image files, or a folder that has some.")
    first = Path(plain(wanted[0]))
    name = first.stem if len(items) == 1 else first.parent.name or "images"
    return ImageSet(" ".join(map(str, items)), name, paths, notes=aside.notes())


def _is_own(folder: str, name: str) -> bool:
    """Whether a folder is the cache or the runs of featx, which lie beside the classes where it is run among them."""
    if is_url(folder):
        return False
    from featx.io.index import INDEX_FILE  # which loads SQLite: a prediction for files does without

    return os.path.exists(os.path.join(folder, name, INDEX_FILE)) or (
        name == "runs" and next(Path(folder, name).glob("*/*/bundle.json"), None) is not None
    )


def _list(folder: str, aside: _Aside) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, sorted; hidden and unusable names are left aside."""
    folders, files = [], []
    for name, holds_others in _scan(folder):
        if is_left_aside(name):
            aside.add("hidden files and those of file managers", name)
        elif holds_others and _is_own(folder, name):
            aside.add("folders of featx itself", name)
        elif holds_others:
            folders.append(name)
        else:
            files.append(name)
    return sorted(folders), sorted(files)


def _scan(folder: str) -> Iterator[tuple[str, bool]]:
    """Name of everything in a folder, and whether it is a folder."""
    if not is_url(folder):
        with os.scandir(folder) as entries:
            yield from ((entry.name, _is_folder(entry)) for entry in entries)
        return
    try:
        yield from open_remote().list_folder(folder)
    except OSError as error:
        raise _cannot_list(folder, error) from error


def _list_ahead(folders: Sequence[str]) -> None:
    """Have servers list these folders and all below them: several at a time, where a walk takes one after the other."""
    for folder in filter(is_url, folders):
        try:
            open_remote().list_tree(folder)
        except OSError as error:
            raise _cannot_list(folder, error) from error


def _cannot_list(folder: str, error: OSError) -> DataError:
    return DataError(
        f"{plain(folder)} cannot be listed: {describe_os_error(folder, error)}. Run the same command again."
    )


def _walk(root: str, aside: _Aside) -> Iterator[str]:
    """Every file below a folder, in the order of Keras: by folder path, then by name. Links to folders are followed."""
    found: list[tuple[str, list[str]]] = []
    # A link may lead back up: a folder is entered only where it is not one of its own ancestors.
    reached = () if is_url(root) else (os.path.realpath(root),)  # there are no links on a server
    waiting: list[tuple[str, frozenset[str]]] = [(root, frozenset(reached))]
    while waiting:
        folder, ancestors = waiting.pop()
        folders, files = _list(folder, aside)
        found.append((folder, files))
        for name in folders:
            path = _join(folder, name)
            real = os.path.realpath(path) if not is_url(path) and Path(path).is_symlink() else None
            if real is not None and any(_is_within(ancestor, real) for ancestor in ancestors):
                aside.add("links that lead back to a folder above them", path)
            else:
                waiting.append((path, ancestors if real is None else ancestors | {real}))
    for folder, files in sorted(found):
        yield from (_join(folder, name) for name in files)


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: kept as a file, and found bad when it is opened
        return False


def _describe_emptiness(root: str, folders: Sequence[str], parts: Collection[str], documents: Sequence[str]) -> str:
    """Why there are no images, and what to do. documents : all files directly in the root"""
    if not folders and not documents:
        return "it is empty. Give a folder with a folder per class."
    reasons = list[str]()
    if parts:  # files beside the class folders, and folders that are not a split, are not looked at
        reasons.append(f"the class folders in {enumerated([repr(name) for name in parts])} are empty")
    elif folders:
        reasons.append(f"its {'folder is' if len(folders) == 1 else counted(len(folders), '', 'folders are')} empty")
    if documents:
        place = ("beside it" if len(folders) == 1 else "beside them") if folders else "in it"
        are = "is not an image by its name" if len(documents) == 1 else "are not images by their names"
        reasons.append(f"{enumerated([repr(name) for name in documents], _NAMED)} {place} {are}")
    table = next((name for name in documents if name.lower().endswith(TABLES)), None)
    other = "another folder." if table is None else f"the CSV if it lists them: {plain(_join(root, table))}"
    return f"{', and '.join(reasons)}. Put images into a folder per class, or give {other}"


def _note_loose(source: str, folders: Sequence[str]) -> tuple[str, ...]:
    """Why images that lie beside folders have no labels."""
    if not folders:
        return ()
    one = len(folders) == 1
    beside = f"folder {folders[0]!r} beside them is" if one else f"{counted(len(folders), 'folder')} beside them are"
    return (f"The images directly in {source} have no labels: the {beside} empty",)


def _hint(root: str, folders: Sequence[str], parts: dict[str, int]) -> tuple[str, ...]:
    if parts or len(folders) != 1:
        return ()
    inner = _list(_join(root, folders[0]), _Aside())[0]
    if len(inner) < 2:
        return ()
    return (
        (
            f"All images are in one class, {folders[0]!r}, which holds {counted(len(inner), 'folder')}. If these are "
            f"the classes, give {_join(root, folders[0])}"
        ),
    )


def describe_absence(items: Sequence[str | Path], faults: Mapping[str, str]) -> str:
    """The sentence on files and folders that are not there.

    faults : as `featx.io.remote.Remote.faults` gives them, of URLs among the items
    """
    first = items[0]
    if is_url(first) and faults[first] != "no such file":
        return f"{plain(first)}: {faults[first]}."
    listed = ", ".join(plain(str(item)) for item in items)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]", str(first)):
        return f"No such file or folder: {listed}. If it is a URL, give it as text: Path makes one slash of two."
    return f"No such file or folder: {listed}. Check the name, or the folder you are in."


def expand(path: str | Path) -> str:
    """The absolute path, with the home folder of `~`; links are kept as they are. URLs stay, but for `file://`."""
    if is_url(path):
        return path
    if isinstance(path, str) and path[:7].lower() == "file://":
        from urllib.parse import urlsplit
        from urllib.request import url2pathname  # takes some hundredths of a second

        path = url2pathname(urlsplit(path).path)
    return os.path.abspath(Path(path).expanduser())


def locate(name: str, home: str) -> str:
    """The absolute path or URL of what a CSV names: whole, or relative to the folder `home`."""
    if is_url(name) or name[:7].lower() == "file://":
        return expand(name)
    if is_url(home) and not Path(name).is_absolute():
        return join(home, name)
    return os.path.normpath(os.path.join(home, name))


def folder_of(path: str) -> str:
    """The folder that a file, here or on a URL, lies in."""
    return parent(path) if is_url(path) else str(Path(path).parent)


def is_folder(path: str) -> bool:
    """Whether there is a folder, here or on a URL."""
    return path in open_remote().find_folders([path]) if is_url(path) else Path(path).is_dir()


def _join(*parts: str) -> str:
    separator = "/" if is_url(parts[0]) else os.sep
    return separator.join(parts) if not parts[0].endswith(separator) else parts[0] + separator.join(parts[1:])
