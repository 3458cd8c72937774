"""The server of the page that labels; FastAPI is imported with it alone."""

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


def label_server(
    desk: LabelDesk, token: str, work: Callable[[Callable[[str], None]], str] | None = None
) -> uvicorn.Server:
    """What serves a desk below a token. work : behind the button that fits again, see `Rounds`"""
    from featx.serve.label_app import LIMITS, Rounds, guard_label

    return serve_app(guard_label(desk, Rounds(work), token), LIMITS)
