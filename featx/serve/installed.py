"""One bundle as a web page and an HTTP interface.

    server.py     binds the port, runs until Ctrl-C
    connections.py  how many may be open, and how long each may take; repeats.py : the log, without repetitions
    guard.py      who may ask, how many at once, the headers for browsers; keys.py : the key, and what wrong ones cost
    slots.py      how much is under way
    app.py        the routes and their documents
    uploads.py    images out of a request, in memory, within the limits
    service.py    what is answered: predictions and maps
    batching.py   concurrent requests share one pass through the network
    label_*.py    the page that labels: the journal of answers, the desk with the images, the routes, the server
    page.*        the page; label.* : the one that labels; docs.html : the description of the interface

Nothing in here is imported by the rest of featx, and FastAPI and uvicorn are an extra: `pip install 'featx[serve]'`.
"""

from __future__ import annotations

import importlib.util

from featx.errors import FeatxError
from featx.io.counting import agreeing, enumerated
from featx.serve.limits import Limits

__all__ = ["Limits", "require_installed"]

_NEEDED = {"fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}


def require_installed(command: str = "featx serve") -> None:
    """Refuse to go on without the packages of the extra `serve`, which a command needs.

    Raises
    ------
    FeatxError
        Names those that are missing, and what to type.
    """
    missing = [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise FeatxError(
            f"{command} needs {enumerated(missing)}, which {agreeing(len(missing), 'is', 'are')} not installed: "
            "pip install 'featx[serve]'"
        )
