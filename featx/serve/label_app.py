"""The routes of the labelling page, all below a random token that keeps strangers out."""

from __future__ import annotations

import io
import secrets
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from featx.errors import FeatxError, StoreError
from featx.images import BadImage
from featx.images.decoder import decode
from featx.io.jsontypes import Json
from featx.serve import page
from featx.serve.guard import Guard
from featx.serve.label_desk import LabelDesk
from featx.serve.label_types import ToLabel, Wanted
from featx.serve.limits import Limits
from featx.serve.slots import Slots

LIMITS = Limits(upload=1 << 16, requests=32, seconds=60.0)
"""What requests of the page may ask for: a few labels, and pictures"""
_QUALITY = 90
_SIDES = {"small": 200, "page": 1000, "whole": 4000}


@dataclass(frozen=True)
class TabRequest:
    """A tab that asks for an image. but : a number of one that comes last"""

    tab: str
    wanted: Wanted = Wanted()
    but: int | None = None


@dataclass(frozen=True)
class AnswerRequest:
    """An answer, and what is wanted next. labels : None to skip the image"""

    tab: str
    number: int
    labels: list[str] | None
    wanted: Wanted = Wanted()


@dataclass(frozen=True)
class ClassRequest:
    """A class to add."""

    tab: str
    name: str


class Rounds:
    """One piece of work in the background: fit again, and choose the next images.

    work : gets a function to show how it goes, and returns a sentence on what came of it; None where there is none
    """

    def __init__(self, work: Callable[[Callable[[str], None]], str] | None) -> None:
        self._work = work
        self._lock = threading.Lock()
        self.running, self.said, self.failed, self.done = False, "", False, 0

    @property
    def possible(self) -> bool:
        """Whether there is anything to do."""
        return self._work is not None

    def start(self, other: Callable[[Callable[[str], None]], str] | None = None) -> bool:
        """Begin; False where it runs already, or there is nothing to do. other : what to do instead, this time"""
        work = other or self._work
        with self._lock:
            if self.running or work is None:
                return False
            self.running, self.failed, self.said = True, False, "Starting"
        threading.Thread(target=self._run, args=(work,), name="featx-label-round", daemon=True).start()
        return True

    def _say(self, line: str) -> None:
        self.said = line

    def _run(self, work: Callable[[Callable[[str], None]], str]) -> None:
        try:
            self.said = work(self._say)
        except FeatxError as error:
            self.said, self.failed = str(error), True
        except Exception as error:  # whatever it is, the page shows a sentence
            self.said, self.failed = f"Unexpected {type(error).__name__}: {error}. This is a bug in featx.", True
        self.done += 1
        self.running = False


class TokenGate:
    """An ASGI application below `/<token>/`; everything else is refused alike."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer below the token, and refuse all else."""
        given, slash, rest = str(scope.get("path", "")).removeprefix("/").partition("/")
        if scope["type"] != "http":
            return
        if not slash or not secrets.compare_digest(given.encode(), self.token.encode()):
            text = "Open the whole address that featx label printed: it ends in a token that changes at every start."
            await JSONResponse({"detail": text}, 403)(scope, receive, send)
            return
        inner = {**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}
        await self.app(inner, receive, send)


def guard_label(desk: LabelDesk, rounds: Rounds, token: str) -> Guard:
    """The whole application, which answers to names of this machine alone, and below the token."""
    return Guard(TokenGate(make_label_app(desk, rounds), token), Slots(LIMITS), None, True)


def make_label_app(desk: LabelDesk, rounds: Rounds) -> FastAPI:
    """The routes over a desk."""
    app = FastAPI(title="featx label", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(FeatxError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(AnyHTTPException, _answer_refused)
    _add_files(app)
    _add_images(app, desk)
    _add_labelling(app, desk, rounds)
    _add_rounds(app, desk, rounds)
    return app


def _add_files(app: FastAPI) -> None:
    @app.get("/")
    def first() -> Response:
        return page.label_page()

    @app.get("/page.css")
    def common_style() -> Response:
        return page.asset("page.css")

    @app.get("/label.css")
    def style() -> Response:
        return page.asset("label.css")

    @app.get("/label.js")
    def script() -> Response:
        return page.asset("label.js")


def _add_images(app: FastAPI, desk: LabelDesk) -> None:
    @app.get("/image/{number}")
    def image(number: int, size: Annotated[str, Query()] = "page") -> Response:
        """One image of the set, by its number, as a JPEG of at most so many pixels on a side."""
        side = _SIDES.get(size)
        if side is None:
            raise HTTPException(422, f"size is one of {', '.join(_SIDES)}.")
        source = desk.sheet.paths[_row(desk, number)]
        try:
            picture = decode(source, (side, side) if size == "small" else None, LIMITS.pixels)
        except BadImage as error:
            raise HTTPException(404, f"The image cannot be read: {error.reason}.") from error
        width, height = picture.size
        picture.thumbnail((side, side))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=_QUALITY)
        return Response(buffer.getvalue(), media_type="image/jpeg", headers={"X-Image-Size": f"{width}x{height}"})


def _add_labelling(app: FastAPI, desk: LabelDesk, rounds: Rounds) -> None:
    @app.get("/state")
    def state() -> JSONResponse:
        return JSONResponse(_state(desk, rounds))

    @app.post("/next")
    def following(asked: TabRequest) -> JSONResponse:
        return _answer(desk, rounds, desk.next(asked.tab, asked.wanted, asked.but))

    @app.post("/answer")
    def answer(given: AnswerRequest) -> JSONResponse:
        desk.answer(_row(desk, given.number), given.labels, given.tab)  # on the disk before the next image is shown
        return _answer(desk, rounds, desk.next(given.tab, given.wanted, given.number))

    @app.post("/undo")
    def undo(asked: TabRequest) -> JSONResponse:
        found = desk.undo(asked.tab)
        if found is None:
            raise HTTPException(409, "Nothing is left to undo in this tab, or another tab has answered since.")
        return _answer(desk, rounds, found)

    @app.post("/class")
    def add_class(asked: ClassRequest) -> JSONResponse:
        name = desk.add_class(asked.name, asked.tab)
        return JSONResponse({**_state(desk, rounds), "added": name})


def _add_rounds(app: FastAPI, desk: LabelDesk, rounds: Rounds) -> None:
    @app.post("/fit")
    def fit() -> JSONResponse:
        desk.write()
        if not rounds.start():
            reason = "It runs already." if rounds.running else "There is nothing to fit here."
            raise HTTPException(409, reason)
        return JSONResponse(_state(desk, rounds))


def _row(desk: LabelDesk, number: int) -> int:
    if not 0 <= number < len(desk.sheet.paths):
        raise HTTPException(404, f"No image {number} here.")
    return number


def _answer(desk: LabelDesk, rounds: Rounds, image: ToLabel | None) -> JSONResponse:
    return JSONResponse({**_state(desk, rounds), "image": None if image is None else asdict(image)})


def _state(desk: LabelDesk, rounds: Rounds) -> dict[str, Json]:
    work: dict[str, Json] = {
        "possible": rounds.possible,
        "running": rounds.running,
        "said": rounds.said,
        "failed": rounds.failed,
    }
    return {"standing": asdict(desk.standing()), "round": {**work, "done": rounds.done}}


async def _answer_error(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 507 if isinstance(error, StoreError) else 422)


async def _answer_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    reasons = [f"{one['loc'][-1]}: {one['msg']}" for one in error.errors()]
    return JSONResponse({"detail": f"{'; '.join(reasons)}."}, 422)


async def _answer_refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AnyHTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)
