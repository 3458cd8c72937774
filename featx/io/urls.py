"""URLs as text: syntax, parts, and what may be recorded of one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from featx.io.remote import Remote

_URL = re.compile(r"(?!(?i:file)://)[A-Za-z][A-Za-z0-9+.-]+(::[A-Za-z][A-Za-z0-9+.-]+)*://")
AT_ONCE = 16  # requests: a thread that waits for a server takes no core
_WEB = ("http", "https")


def is_url(path: object) -> TypeGuard[str]:
    """Whether something is the text of a URL; `file://` does not count, since it names a file of this machine."""
    return isinstance(path, str) and _URL.match(path) is not None


def is_web(url: str) -> bool:
    """Whether a URL is of the web (HTTP), where folders end with a slash and a query may be a signature."""
    return scheme_of(url) in _WEB


def scheme_of(url: str) -> str:
    """`s3` of `s3://bucket/x`."""
    return url.partition("://")[0].lower()


def server_of(url: str) -> str:
    """`s3://bucket` of `s3://bucket/x`, without a password."""
    return "/".join(plain(url).split("/")[:3])


def without_query(url: str) -> str:
    """A URL of the web without its query and fragment; any other as it is."""
    return re.split(r"[?#]", url, maxsplit=1)[0] if is_web(url) else url


def plain(text: str) -> str:
    """A URL as it may be written down: without a password, and over HTTP without the query, which may be a signature.

    What is not a URL stays as it is.
    """
    if not is_url(text):
        return text
    scheme, _, rest = without_query(text).partition("://")
    server, slash, path = rest.partition("/")
    user, at, host = server.rpartition("@")
    return f"{scheme}://{host if at and ':' in user else server}{slash}{path}"


def parent(url: str) -> str:
    """The folder of a URL."""
    scheme, _, rest = without_query(url).partition("://")
    return f"{scheme}://{rest.rstrip('/').rpartition('/')[0]}"


def join(folder: str, name: str) -> str:
    """What `name`, which may begin with `../`, is below the URL `folder`."""
    scheme, _, rest = without_query(folder).partition("://")
    parts = rest.rstrip("/").split("/") if rest else []
    for part in name.split("/"):
        if part == "..":
            del parts[max(1, len(parts) - 1) :]
        elif part != ".":
            parts.append(part)
    return f"{scheme}://{'/'.join(parts)}"


def as_folder(url: str) -> str:
    """A URL with the slash at its end to which names can be added."""
    return url if url.endswith("://") else f"{url.rstrip('/')}/"


def open_remote() -> Remote:
    """The one reader of URLs of this process; imported with the first of them."""
    from featx.io.remote import shared_remote

    return shared_remote()
