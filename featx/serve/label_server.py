"""The server of the labelling page; only this module imports FastAPI for it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from featx.serve.server import serve_app

if TYPE_CHECKING:
    import uvicorn

    from featx.serve.label_desk import LabelDesk


def new_token() -> str:
    """What the address of the page ends in, new at every start: 128 bits that nobody guesses."""
    return secrets.token_urlsafe(16)


Work = Callable[[Callable[[str], None]], str]


def label_server(desk: LabelDesk, token: str, work: Work | None = None, first: Work | None = None) -> uvicorn.Server:
    """What serves a desk below a token.

    work : behind the button that fits again, see `Rounds`; first : what is done in the background from the start
    """
    from featx.serve.label_app import LIMITS, Rounds, guard_label

    rounds = Rounds(work)
    if first is not None:
        rounds.start(first)
    return serve_app(guard_label(desk, rounds, token), LIMITS)
