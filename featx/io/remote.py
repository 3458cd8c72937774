"""Images and CSVs on servers: any URL that fsspec can read (`s3://`, `gs://`, `https://`, ...).

The only module that knows fsspec, which is imported when the first URL is met: plain paths cost nothing. A server is
asked as little as possible: one listing of a folder gives size and tag (or time) of everything in it, and is kept
until `forget`, so that a command that looks at its images several times asks once. What goes wrong is an `OSError` that
`describe_os_error` can put into words; what would go wrong for every image (no credentials, a package that
is missing, a scheme that nobody reads) is a `DataError` at once. So is a server that has answered and stays away: what
is left of the images is not what was asked for.
"""

from __future__ import annotations

import errno
import hashlib
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

from featx.io.faults import describe_fault
from featx.io.servers import Patience, Servers
from featx.io.urls import AT_ONCE, as_folder, is_url, is_web, parent, scheme_of, without_query

_NO_TIME = 2**63 - 1  # a time to come: `StatIndex` trusts no digest of a file that may still change
# Without these, s3fs asks for an object's size before it reads it, and searches a listing of its own for every object.
_S3: Mapping[str, Any] = {"max_concurrency": 1, "use_listings_cache": False}
_GS: Mapping[str, Any] = {"use_listings_cache": False}
_SETTINGS = {"s3": _S3, "s3a": _S3, "gs": _GS, "gcs": _GS}

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
Description = Mapping[str, Any]  # of a file or folder, as fsspec's file systems give it, each in its own words


@dataclass(frozen=True)
class RemoteStatus:
    """What a server reports of a file or folder, by the names of `os.stat_result`, so that it is remembered alike.

    st_mode : that of a regular file or of a folder
    st_size : bytes, -1 where the server gives none
    st_mtime_ns : when it was last changed; 0 where there is a tag, which is more exact; in the future where neither is
        given
    st_ino : stands for the tag that the server gives this content (ETag); 0 without one
    """

    st_mode: int
    st_size: int
    st_mtime_ns: int
    st_ino: int


_FOLDER = RemoteStatus(stat.S_IFDIR, 0, 0, 0)


class Remote:
    """Files on servers: looked at, listed and read.

    many : URLs in one folder for which listing it is cheaper than asking for each
    """

    def __init__(self, patience: Patience | None = None, many: int = 200) -> None:
        self.servers = Servers(patience or Patience())
        self.many = many
        self._statuses: dict[str, RemoteStatus] = {}
        self._listings: dict[str, tuple[tuple[str, bool], ...]] = {}

    def forget(self) -> None:
        """Ask servers anew from here on: what lies there may have changed."""
        self._statuses.clear()
        self._listings.clear()
        self.servers.forget_answers()

    def try_again(self) -> None:
        """Try servers anew that could not be reached."""
        self.servers.try_again()

    def trust(self, items: Iterable[object]) -> None:
        """Wait for the servers of those of these that are URLs: another process has had answers from them."""
        self.servers.trust(item for item in items if is_url(item))

    def look(self, urls: Sequence[str]) -> list[RemoteStatus | OSError]:
        """What `os.stat` would return of each, or raise.

        What a listing has shown is not asked for again. Where many are in one folder, that is listed.

        Raises
        ------
        DataError
            What is the matter with all of them: no credentials, a missing package, an unknown scheme.
        """
        wanted = [url for url in dict.fromkeys(urls) if url not in self._statuses]
        inside = Counter(parent(url) for url in wanted if not is_web(url))  # a web page may not list all it has
        _in_threads(self._try_to_list, [folder for folder, count in inside.items() if count >= self.many])
        wanted = [url for url in wanted if url not in self._statuses]
        answers = dict(zip(wanted, _in_threads(self._look_at_one, wanted), strict=True))
        self._statuses.update((url, answer) for url, answer in answers.items() if isinstance(answer, RemoteStatus))
        return [answers[url] if url in answers else self._statuses[url] for url in urls]

    def faults(self, items: Iterable[object]) -> dict[str, str]:
        """Those of these that are URLs of which nothing can be read, and why, in words."""
        urls = [item for item in items if is_url(item)]
        found = zip(urls, self.look(urls), strict=True)
        return {url: describe_fault(url, answer) for url, answer in found if isinstance(answer, OSError)}

    def find_folders(self, urls: Sequence[str]) -> list[str]:
        """Those of these URLs that are folders. Over HTTP that is what ends with a slash."""
        found = zip(urls, self.look(urls), strict=True)
        return [url for url, one in found if isinstance(one, RemoteStatus) and stat.S_ISDIR(one.st_mode)]

    def list_folder(self, url: str) -> tuple[tuple[str, bool], ...]:
        """(name, whether it is a folder) of everything that lies in a folder itself, in no order; one listing.

        Raises
        ------
        OSError, DataError
            As `read`.
        """
        base = as_folder(url)

        def ask() -> list[tuple[str, Description]]:
            system, path = _open(base if is_web(url) else url)
            return list(_children(system.ls(path, detail=True), path, is_web(url)))

        if base not in self._listings:
            found = self.servers.request(url, ask)
            statuses = {f"{base}{name}": _as_status(info) for name, info in found}
            # What a listing does not show of a file, the file itself may.
            self._statuses.update((name, one) for name, one in statuses.items() if one.st_mtime_ns != _NO_TIME)
            self._listings[base] = tuple((name, info["type"] == "directory") for name, info in found)
        return self._listings[base]

    def list_tree(self, url: str) -> None:
        """List a folder and all below it, several folders at a time, so that `list_folder` knows them.

        Raises
        ------
        OSError, DataError
            As `read`.
        """
        from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

        def list_below(folder: str) -> list[str]:
            return [f"{as_folder(folder)}{name}" for name, is_folder in self.list_folder(folder) if is_folder]

        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="featx-list") as pool:
            running = {pool.submit(list_below, url)}
            try:
                while running:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    running |= {pool.submit(list_below, folder) for one in done for folder in one.result()}
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def read(self, url: str, most: int | None = None) -> bytes:
        """The content of a file, or its first `most` bytes.

        Raises
        ------
        OSError
            No such file, no permission, a server that cannot be reached or does not answer.
        DataError
            No credentials, a missing package, an unknown scheme; a server that has answered, and was waited for in
            vain.
        """

        def ask() -> bytes:
            system, path = _open(url)
            content = system.cat_file(path) if most is None else system.cat_file(path, start=0, end=most)
            return bytes(content[:most])

        return self.servers.request(url, ask)

    def _look_at_one(self, url: str) -> RemoteStatus | OSError:
        def ask() -> Description:
            system, path = _open(url)
            info: Description = system.info(path)
            return info

        try:
            info = self.servers.request(url, ask)
        except OSError as error:
            return error
        return _FOLDER if is_web(url) and without_query(url).endswith("/") else _as_status(info)

    def _try_to_list(self, folder: str) -> None:
        with suppress(OSError):  # one may have the right to read files and none to list them
            self.list_folder(folder)


@cache
def shared_remote() -> Remote:
    """The one of this process, as its connections are: fsspec keeps one file system for each process and server."""
    return Remote()


def _open(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path that it calls it by."""
    if "::" in url:
        raise OSError(errno.EINVAL, "'::' stands for a chain of file systems, and featx reads from one")
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url, **_SETTINGS.get(scheme_of(url), {}))
    return system, str(path)


def _children(infos: Iterable[Description], path: str, web: bool) -> Iterator[tuple[str, Description]]:
    """Name and description of what lies directly in `path`. A listing may hold the folder itself, a page any links."""
    prefix = f"{path.rstrip('/')}/"
    for info in infos:
        name = str(info["name"])
        child = name[len(prefix) :].rstrip("/") if name.startswith(prefix) else ""
        if not child or "/" in child or child in {".", ".."} or (web and re.search(r"[?#]", child)):
            continue
        yield _unquote(child) if web else child, info


def _unquote(name: str) -> str:
    """The name that a link stands for, unless it would be quoted otherwise when it is asked for."""
    from urllib.parse import unquote

    meant = unquote(name)
    return name if re.search(r"[?#%/]", meant) else meant


def _as_status(info: Description) -> RemoteStatus:
    if info["type"] == "directory":
        return _FOLDER
    size = info.get("size")
    known = {name.lower().replace("-", "").replace("_", ""): value for name, value in info.items()}
    tag = next((str(known[name]).strip('"') for name in ("etag", "md5hash", "contentmd5") if known.get(name)), "")
    if tag and not tag.startswith("W/"):  # a weak tag may stay when bytes change
        number = int.from_bytes(hashlib.sha256(tag.encode()).digest()[:8], "big") >> 1
        return RemoteStatus(stat.S_IFREG, -1 if size is None else int(size), 0, number)
    times = (known.get(name) for name in ("lastmodified", "mtime", "modified", "updated", "created"))
    changed = next((found for found in map(_nanoseconds, times) if found is not None), _NO_TIME)
    return RemoteStatus(stat.S_IFREG, -1 if size is None else int(size), changed, 0)


def _nanoseconds(value: object) -> int | None:
    """A time in any of the ways in which file systems give one; None where it is none."""
    from email.utils import parsedate_to_datetime

    for parse in (datetime.fromisoformat, parsedate_to_datetime) if isinstance(value, str) else ():
        with suppress(ValueError):
            value = parse(str(value))
            break
    if isinstance(value, datetime):
        value = value.timestamp()
    return round(value * 1e9) if isinstance(value, int | float) else None


def _in_threads(function: Callable[[Asked], Answer], items: Sequence[Asked]) -> list[Answer]:
    if len(items) < 2:
        return list(map(function, items))
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(AT_ONCE, len(items)), thread_name_prefix="featx-look") as pool:
        return list(pool.map(function, items))
