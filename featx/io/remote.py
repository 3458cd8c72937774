"""Images and CSVs on a server: whatever URL fsspec can read (`s3://`, `gs://`, `https://`, ...).

The only module that knows fsspec, which is imported when the first URL is met: plain paths cost nothing. A server is
asked as little as possible. One listing of a folder tells size and tag (or time) of everything in it; that is kept
until `forget`, so that a command that looks at its images several times asks once. What goes wrong is an `OSError` that
`describe_os_error` can put into words; what would go wrong for every image (no credentials, a package that
is missing, a scheme that nobody reads) is a `DataError` at once. So is a server that has answered and stays away: what
is left of the images is not what was asked for.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import re
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeGuard, TypeVar

from featx.errors import DataError, FeatxError
from featx.io.filetypes import describe_os_error

AT_ONCE = 16  # requests: a thread that waits for a server takes no core
_MANY = 200  # URLs in one folder for which listing it is cheaper than asking for each
_PAUSE = 10.0  # seconds for which a server that cannot be reached is not tried again
_PATIENCE = 30.0  # seconds for which a server that has answered before is waited for
_FIRST_PROBE, _LONGEST_PROBE = 0.25, 4.0  # seconds between the first tries of a server that is away, and the last
_TRIES = (0.3, 1.0, 2.0)  # seconds before a request is made again that failed for a reason that may pass
_PASSING = {408, 425, 429}  # statuses of HTTP below 500 that another moment may change
_NO_TIME = 2**63 - 1  # a time to come: `StatIndex` trusts no digest of a file that may still change
_URL = re.compile(r"(?!(?i:file)://)[A-Za-z][A-Za-z0-9+.-]+(::[A-Za-z][A-Za-z0-9+.-]+)*://")
_HTTP = ("http", "https")
# Without these, s3fs asks for an object's size before it reads it, and searches a listing of its own for every object.
_S3: Mapping[str, Any] = {"max_concurrency": 1, "use_listings_cache": False}
_GS: Mapping[str, Any] = {"use_listings_cache": False}
_SETTINGS = {"s3": _S3, "s3a": _S3, "gs": _GS, "gcs": _GS}
_PACKAGES = {"s3": "featx[s3]", "s3a": "featx[s3]", "gs": "featx[gs]", "gcs": "featx[gs]"} | dict.fromkeys(
    _HTTP, "fsspec[http]"
)
# Errors by their names, of libraries that may not be there: botocore's, aiohttp's, google-auth's.
_NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "NoAuthTokenError",
    "ProfileNotFound",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
    "DefaultCredentialsError",
    "RefreshError",
}
_UNREACHABLE = {"ConnectionError", "ClientConnectorError", "gaierror"}  # `ConnectionError` is botocore's base, too

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Entry:
    """What a server tells of a file or folder, by the names of `os.stat_result`, so that it is remembered as of a file.

    st_mode : that of a regular file or of a folder
    st_size : bytes, -1 where the server does not tell
    st_mtime_ns : when it was last changed; 0 where there is a tag, which says more; in the future where neither is told
    st_ino : stands for the tag that the server gives this content (ETag); 0 without one
    """

    st_mode: int
    st_size: int
    st_mtime_ns: int
    st_ino: int


_FOLDER = Entry(stat.S_IFDIR, 0, 0, 0)
_told: dict[str, Entry] = {}
_listed: dict[str, tuple[tuple[str, bool], ...]] = {}
_down: dict[str, tuple[float, str]] = {}  # server -> when it could not be reached, and why
_answered: set[str] = set()  # servers
_failing: Counter[str] = Counter()  # by server, the requests in a row that failed however often they were made
_probing = threading.Lock()  # held by the one thread that tries a server which is away

_logger = logging.getLogger(__name__)


def is_url(path: object) -> TypeGuard[str]:
    """Whether something is the text of a URL; `file://` is none, since it names a file of this machine."""
    return isinstance(path, str) and _URL.match(path) is not None


def plain(text: str) -> str:
    """A URL as it may be written down: without a password, and over HTTP without the query, which may be a signature.

    What is no URL stays as it is.
    """
    if not is_url(text):
        return text
    scheme, _, rest = _without_query(text).partition("://")
    server, slash, path = rest.partition("/")
    user, at, host = server.rpartition("@")
    return f"{scheme}://{host if at and ':' in user else server}{slash}{path}"


def parent(url: str) -> str:
    """The folder of a URL."""
    scheme, _, rest = _without_query(url).partition("://")
    return f"{scheme}://{rest.rstrip('/').rpartition('/')[0]}"


def join(folder: str, name: str) -> str:
    """What `name`, which may begin with `../`, is below the URL `folder`."""
    scheme, _, rest = _without_query(folder).partition("://")
    parts = rest.rstrip("/").split("/") if rest else []
    for part in name.split("/"):
        if part == "..":
            del parts[max(1, len(parts) - 1) :]
        elif part != ".":
            parts.append(part)
    return f"{scheme}://{'/'.join(parts)}"


def forget() -> None:
    """Ask servers anew from here on: what lies there may have changed."""
    _told.clear()
    _listed.clear()
    _answered.clear()


def try_again() -> None:
    """Try servers anew that could not be reached."""
    _down.clear()


def trust(items: Iterable[object]) -> None:
    """Wait for the servers of those of these that are URLs: another process has had answers from them."""
    _answered.update(_server(item) for item in items if is_url(item))


def look(urls: Sequence[str]) -> list[Entry | OSError]:
    """What `os.stat` would say of each, or raise.

    What a listing has told is not asked for again. Where many are in one folder, that is listed.

    Raises
    ------
    DataError
        What is the matter with all of them: no credentials, a missing package, an unknown scheme.
    """
    wanted = [url for url in dict.fromkeys(urls) if url not in _told]
    inside = Counter(parent(url) for url in wanted if _scheme(url) not in _HTTP)  # a web page may not list all it has
    _in_threads(_try_to_list, [folder for folder, count in inside.items() if count >= _MANY])
    wanted = [url for url in wanted if url not in _told]
    answers = dict(zip(wanted, _in_threads(_ask, wanted), strict=True))
    _told.update((url, answer) for url, answer in answers.items() if isinstance(answer, Entry))
    return [answers[url] if url in answers else _told[url] for url in urls]


def faults(items: Iterable[object]) -> dict[str, str]:
    """Those of these that are URLs of which nothing can be read, and why, in words."""
    urls = [item for item in items if is_url(item)]
    return {url: _describe(url, told) for url, told in zip(urls, look(urls), strict=True) if isinstance(told, OSError)}


def find_folders(urls: Sequence[str]) -> list[str]:
    """Those of these URLs that are folders. Over HTTP that is what ends with a slash."""
    told = zip(urls, look(urls), strict=True)
    return [url for url, entry in told if isinstance(entry, Entry) and stat.S_ISDIR(entry.st_mode)]


def list_folder(url: str) -> tuple[tuple[str, bool], ...]:
    """(name, whether it is a folder) of everything that lies in a folder itself, in no order; one listing.

    Raises
    ------
    OSError, DataError
        As `read`.
    """
    base = url if url.endswith("://") else f"{url.rstrip('/')}/"

    def ask() -> list[tuple[str, Mapping[str, Any]]]:
        system, path = _open(base if _scheme(url) in _HTTP else url)
        return list(_children(system.ls(path, detail=True), path, _scheme(url) in _HTTP))

    if base not in _listed:
        found = _request(url, ask)
        told = {f"{base}{name}": _entry(info) for name, info in found}
        # What a listing does not tell of a file, the file itself may.
        _told.update((name, entry) for name, entry in told.items() if entry.st_mtime_ns != _NO_TIME)
        _listed[base] = tuple((name, info["type"] == "directory") for name, info in found)
    return _listed[base]


def list_tree(url: str) -> None:
    """List a folder and all below it, several folders at a time, so that `list_folder` knows them.

    Raises
    ------
    OSError, DataError
        As `read`.
    """
    from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

    def list_below(folder: str) -> list[str]:
        base = folder if folder.endswith("://") else f"{folder.rstrip('/')}/"
        return [f"{base}{name}" for name, is_folder in list_folder(folder) if is_folder]

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="featx-list") as pool:
        running = {pool.submit(list_below, url)}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(list_below, folder) for one in done for folder in one.result()}
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def read(url: str, most: int | None = None) -> bytes:
    """The content of a file, or its first `most` bytes.

    Raises
    ------
    OSError
        No such file, no permission, a server that cannot be reached or does not answer.
    DataError
        No credentials, a missing package, an unknown scheme; a server that has answered, and was waited for in vain.
    """

    def ask() -> bytes:
        system, path = _open(url)
        content = system.cat_file(path) if most is None else system.cat_file(path, start=0, end=most)
        return bytes(content[:most])

    return _request(url, ask)


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def _server(url: str) -> str:
    return "/".join(plain(url).split("/")[:3])


def _without_query(url: str) -> str:
    return re.split(r"[?#]", url, maxsplit=1)[0] if _scheme(url) in _HTTP else url


def _open(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path that it calls it by. fsspec keeps one for each process and server."""
    if "::" in url:
        raise OSError(errno.EINVAL, "'::' stands for a chain of file systems, and featx reads from one")
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url, **_SETTINGS.get(_scheme(url), {}))
    return system, str(path)


def _ask(url: str) -> Entry | OSError:
    def ask() -> Mapping[str, Any]:
        system, path = _open(url)
        info: Mapping[str, Any] = system.info(path)
        return info

    try:
        info = _request(url, ask)
    except OSError as error:
        return error
    return _FOLDER if _scheme(url) in _HTTP and _without_query(url).endswith("/") else _entry(info)


def _try_to_list(folder: str) -> None:
    with suppress(OSError):  # one may have the right to read files and none to list them
        list_folder(folder)


def _children(infos: Iterable[Mapping[str, Any]], path: str, web: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
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


def _entry(info: Mapping[str, Any]) -> Entry:
    """What a file system tells, each in its own words, as an entry."""
    if info["type"] == "directory":
        return _FOLDER
    size = info.get("size")
    told = {name.lower().replace("-", "").replace("_", ""): value for name, value in info.items()}
    tag = next((str(told[name]).strip('"') for name in ("etag", "md5hash", "contentmd5") if told.get(name)), "")
    if tag and not tag.startswith("W/"):  # a weak tag may stay when bytes change
        number = int.from_bytes(hashlib.sha256(tag.encode()).digest()[:8], "big") >> 1
        return Entry(stat.S_IFREG, -1 if size is None else int(size), 0, number)
    times = (told.get(name) for name in ("lastmodified", "mtime", "modified", "updated", "created"))
    changed = next((found for found in map(_nanoseconds, times) if found is not None), _NO_TIME)
    return Entry(stat.S_IFREG, -1 if size is None else int(size), changed, 0)


def _nanoseconds(value: Any) -> int | None:
    """A time in any of the ways in which file systems give one; None where it is none."""
    from email.utils import parsedate_to_datetime

    for parse in (datetime.fromisoformat, parsedate_to_datetime) if isinstance(value, str) else ():
        with suppress(ValueError):
            value = parse(value)
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


def _request(url: str, ask: Callable[[], Answer]) -> Answer:
    """What a server answers; every error as `read` raises it.

    What may pass is asked for again, unless this server fails one request after the other: thousands would take hours.
    """
    server = _server(url)
    pauses = iter(_TRIES if _failing[server] < AT_ONCE else ())
    while True:
        try:
            answer = _reach(url, ask)
        except OSError as fault:
            if not _may_pass(fault):
                raise
            pause = next(pauses, None)
            if pause is None:
                _failing[server] += 1
                raise
        else:
            _failing[server] = 0
            return answer
        time.sleep(pause)


def _may_pass(fault: OSError) -> bool:
    """Whether the same request may be answered in a moment. A server that cannot be reached is waited for, or not."""
    told = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ConnectionError)
    return not isinstance(fault, told) and fault.errno != errno.EINVAL


def _reach(url: str, ask: Callable[[], Answer]) -> Answer:
    """An answer of a server. One that has answered before is waited for; another is left alone for a while.

    Libraries try again for many seconds before they give up: with thousands of images, that would be hours.
    """
    server = _server(url)
    _refuse_down(server)
    try:
        return _ask_once(url, ask)
    except ConnectionError as fault:
        if server not in _answered:
            _down[server] = (time.monotonic(), str(fault.strerror))
            raise
    with _probing:  # the other threads wait here until one of them has had an answer, or has given up
        _refuse_down(server)
        return _wait_for(url, ask)


def _refuse_down(server: str) -> None:
    since, why = _down.get(server, (-_PAUSE, ""))
    if time.monotonic() - since >= _PAUSE:
        return
    if server not in _answered:
        raise ConnectionError(errno.EHOSTUNREACH, why)
    # Else all images that are left would be unreadable, and a head would be fitted on the few that are not.
    raise DataError(f"{why}, though it has answered before. What was finished is kept: run the same command again.")


def _wait_for(url: str, ask: Callable[[], Answer]) -> Answer:
    """Try again and again, as long as a restart of a server may take."""
    server, pause, end = _server(url), _FIRST_PROBE, time.monotonic() + _PATIENCE
    while True:
        try:
            return _ask_once(url, ask)
        except ConnectionError as fault:
            if time.monotonic() >= end:
                _down[server] = (time.monotonic(), str(fault.strerror))
                _refuse_down(server)
        if pause == _FIRST_PROBE:
            _logger.warning("%s cannot be reached any more: it is tried again for %.0f seconds.", server, _PATIENCE)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PROBE)


def _ask_once(url: str, ask: Callable[[], Answer]) -> Answer:
    try:
        answer = ask()
    except FeatxError:
        raise
    except Exception as error:  # every library behind fsspec has its own
        raise _translate(error, url) from error
    _answered.add(_server(url))
    _down.pop(_server(url), None)
    return answer


def _translate(error: Exception, url: str) -> OSError | DataError:
    """An error of fsspec or of a library behind it as one of `read`."""
    scheme = _scheme(url)
    if isinstance(error, FileNotFoundError) and scheme in _HTTP and isinstance(error.__cause__, Exception):
        error = error.__cause__  # fsspec takes every failure for a missing file
    kinds = {kind.__name__ for kind in type(error).__mro__}
    text = " ".join(str(error).split())[:300]
    status = getattr(error, "status", None)  # of HTTP; such an error's text holds the whole URL
    if isinstance(error, ImportError):
        return DataError(_describe_missing(scheme, error))
    if isinstance(error, ValueError) and "Protocol not known" in text:
        return DataError(
            f"Nothing here reads {scheme}://, in {plain(url)}. Give s3://, gs://, https:// or another URL that fsspec "
            "knows, or a path."
        )
    if kinds & _NO_CREDENTIALS:
        return DataError(
            f"No credentials for {_server(url)}: {text.rstrip('.')}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or what your server takes; for a public S3 bucket: FSSPEC_S3='{\"anon\": true}'"
        )
    if isinstance(error, FileNotFoundError) or status in {404, 410}:
        return FileNotFoundError(errno.ENOENT, "no such bucket" if "bucket does not exist" in text else "no such file")
    if isinstance(error, PermissionError) or status in {401, 403}:
        return PermissionError(errno.EACCES, text if status is None else f"HTTP status {status}")
    if kinds & _UNREACHABLE:
        return ConnectionError(errno.EHOSTUNREACH, f"{_server(url)} cannot be reached ({text.rstrip('.')})")
    if isinstance(error, TimeoutError):
        return TimeoutError(errno.ETIMEDOUT, "the server did not answer in time")
    if isinstance(status, int):
        passing = status >= 500 or status in _PASSING
        return OSError(errno.EBUSY if passing else errno.EINVAL, f"HTTP status {status}")
    if isinstance(error, OSError):
        return OSError(error.errno or errno.EIO, error.strerror or text)
    return OSError(errno.EIO, f"{type(error).__name__}: {text}")


def _describe_missing(scheme: str, error: ImportError) -> str:
    package = _PACKAGES.get(scheme, "fsspec" if error.name == "fsspec" else None)
    advice = f"Type: pip install '{package}'" if package else f"{' '.join(str(error).split()).rstrip('.')}."
    return f"{scheme}:// needs a package that is not installed. {advice}"


def _describe(url: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return str(error.strerror)
    if isinstance(error, PermissionError):
        return f"not permitted to read it ({error.strerror}): check the credentials that the environment gives"
    return describe_os_error(plain(url), error)
