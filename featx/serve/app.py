"""The routes. FastAPI resolves their signature types in this module, so FastAPI is imported here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect

from featx import __version__
from featx.inference.predict import Predicted, Prediction, Unread
from featx.serve import page
from featx.serve.guard import OPEN_PATHS
from featx.serve.keys import KEY_HEADER
from featx.serve.service import Explained, ModelInfo, Service
from featx.serve.slots import Slots
from featx.serve.uploads import FORM, Upload, read_uploads

Result = TypeVar("Result")

_ABOUT = (
    "Predicts the classes of images. Images are sent as files of a form, of any format that featx reads; they "
    "are held in memory "
    "and forgotten."
)


@dataclass(frozen=True)
class Health:
    """That the server answers. status : always "ok"."""

    status: str


@dataclass(frozen=True)
class Answers:
    """Predictions of the images that could be read, in their order, and the others with the reason.

    Attributes
    ----------
    predictions : `label` is the likeliest class, "unsure" below the least confidence that the server was started with,
        "unknown" beyond its largest distance from the training images; `labels` are there where an image has several
    """

    predictions: tuple[Prediction, ...]
    bad: tuple[Unread, ...]


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered, in a sentence. bad : the images that cannot be read, where that is why."""

    detail: str
    bad: tuple[Unread, ...] | None = None


_WHY = {
    400: "The form is damaged, cut off, or has no file.",
    401: "The key is missing or wrong.",
    403: "The request comes from another web site.",
    404: "Not found.",
    408: "The request took too long to arrive.",
    413: "The request is too large, or has too many images.",
    415: "The body is not multipart/form-data.",
    421: "The request was addressed to another machine.",
    422: "None of the images can be read, or a parameter has a value that it cannot have.",
    429: "Too many requests are under way; Retry-After says when to try again.",
    503: "The answer took too long.",
}


def make_app(service: Service, slots: Slots, key: str | None = None) -> FastAPI:
    """The routes over a service that has been started; `featx.serve.guard` belongs in front of them.

    slots : what is under way; key : what requests have to give, as the documents say
    """
    app = FastAPI(
        title="featx",
        summary=f"The model {service.name}",
        description=_ABOUT,
        version=__version__,
        docs_url=None,  # they would load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(AnyHTTPException, _answer_refused)
    app.add_exception_handler(ClientDisconnect, _answer_disconnected)
    app.add_exception_handler(Exception, _answer_failure)
    _add_answers(app, service, slots)
    _add_pages(app, service, key)
    _document_key(app, key)
    return app


def _add_answers(app: FastAPI, service: Service, slots: Slots) -> None:
    limits = service.limits
    usual = _responses(400, 403, 408, 413, 415, 422, 429, 503)

    @app.post("/predict", response_model=Answers, responses=usual, openapi_extra=_form(limits.images))
    async def predict(
        request: Request,
        top: Annotated[int | None, Query(ge=1, description="Number of top classes to list for each image.")] = None,
    ) -> JSONResponse:
        """Predict the classes of one or many images, with their confidence.

        A broken image costs its neighbours nothing: it is listed in `bad`. When no image can be read, that is an error.
        """
        _refuse_unknown(request, "top")
        uploads = await _in_time(limits.seconds, 408, _arriving(request, service, limits.images))
        with slots.work(await service.is_large(uploads)):
            answers = await _in_time(limits.seconds, 503, service.predict(uploads, top))
        found = Predicted.of(answers)
        if found.predictions:
            return JSONResponse(found.as_json())
        return _none_read([asdict(one) for one in found.unread])

    if service.terms.maps:

        @app.post("/explain", response_model=Explained, responses=usual, openapi_extra=_form(1))
        async def explain(request: Request) -> JSONResponse:
            """Show which regions of an image support its most likely classes.

            Takes longer than a prediction: the first map loads the network that maps need.
            """
            _refuse_unknown(request)
            (upload,) = await _in_time(limits.seconds, 408, _arriving(request, service, 1))
            with slots.work(await service.is_large([upload])):
                answer = await _in_time(limits.seconds, 503, service.explain(upload))
            if isinstance(answer, Unread):
                return _none_read([asdict(answer)])
            return JSONResponse({name: value for name, value in asdict(answer).items() if value is not None})

    @app.get("/model", response_model=ModelInfo)
    async def model() -> JSONResponse:
        """Return what the model is, how well it does, and how it is served."""
        return JSONResponse(asdict(service.info))

    @app.get("/health", response_model=Health)
    async def health() -> JSONResponse:
        """Return that the server is up. Needs no key."""
        return JSONResponse({"status": "ok"})


def _refuse_unknown(request: Request, *known: str) -> None:
    """Refuse a parameter that would be without effect, such as a misspelt one."""
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        takes = f"{' and '.join(known)} alone" if known else "none"
        started = "--min-confidence and the like are given to featx serve when it is started"
        raise HTTPException(422, f"{request.url.path} has no parameter {unknown[0]!r}, it takes {takes}: {started}.")


async def _in_time(seconds: float, status: int, work: Awaitable[Result]) -> Result:
    """What comes of the work; when it takes longer, the request is refused with this status."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError as error:
        what = "The request took longer to arrive" if status == 408 else "The answer takes longer"
        again = {"Retry-After": "1"} if status == 503 else None
        raise HTTPException(status, f"{what} than {seconds:g} seconds. Try again.", again) from error


async def _arriving(request: Request, service: Service, most: int) -> list[Upload]:
    length = request.headers.get("content-length", "")
    return await read_uploads(
        request.headers.get("content-type", ""),
        int(length) if length.isdecimal() else None,
        request.stream(),
        service.limits,
        most,
    )


def _add_pages(app: FastAPI, service: Service, key: str | None) -> None:
    def add(path: str, answer: Callable[[], Response]) -> None:
        async def endpoint(_: Request) -> Response:
            return answer()

        app.add_route(path, endpoint, include_in_schema=False)

    def first() -> Response:
        service.prepare_maps()  # who looks at the page is about to ask for one
        return page.page()

    def report() -> Response:
        path = service.report
        if path is None:
            raise HTTPException(404, "This bundle has no report to show. featx evaluate writes one.")
        return page.report(path)

    add("/", first)
    add("/page.css", lambda: page.asset("page.css"))
    add("/page.js", lambda: page.asset("page.js"))
    add("/docs", lambda: page.docs(app.openapi(), key is not None))
    add("/report", report)


def _document_key(app: FastAPI, key: str | None) -> None:
    """Say in the OpenAPI document how a key is given."""
    if key is None:
        return
    schema = app.openapi()
    schema["components"]["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": KEY_HEADER},
        "bearer": {"type": "http", "scheme": "bearer"},
        "basic": {"type": "http", "scheme": "basic"},
    }
    schema["security"] = [{"key": []}, {"bearer": []}, {"basic": []}]
    refused = {"description": _WHY[401], "content": {"application/json": {"schema": _REFUSAL}}}
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            if path in OPEN_PATHS:
                operation["security"] = []
            else:
                operation["responses"]["401"] = refused


_REFUSAL = {"$ref": "#/components/schemas/Refusal"}


def _responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Refusal, "description": _WHY[status]} for status in statuses}


def _form(most: int) -> dict[str, Any]:
    images = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1, "maxItems": most}
    schema = {"type": "object", "properties": {"images": images}, "required": ["images"]}
    return {"requestBody": {"required": True, "content": {FORM: {"schema": schema}}}}


def _none_read(bad: list[dict[str, str]]) -> JSONResponse:
    first = f"{bad[0]['path']}: {bad[0]['reason']}"
    text = f"The image cannot be read: {first}." if len(bad) == 1 else f"No image can be read, as {first}."
    return JSONResponse({"detail": text, "bad": bad}, 422)


async def _answer_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    reasons = [f"{one['loc'][-1]}: {one['msg']}" for one in error.errors()]
    return JSONResponse({"detail": f"{'; '.join(reasons)}."}, 422)


async def _answer_refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AnyHTTPException)
    detail = error.detail
    if not isinstance(error, HTTPException):  # the router's own, in the words of the standard
        allowed = (error.headers or {}).get("Allow")
        reason = f"{request.method} is not supported by this path, which takes {allowed}" if allowed else detail
        detail = f"{reason}. See /docs."
    return JSONResponse({"detail": detail}, error.status_code, error.headers)


async def _answer_disconnected(_: Request, error: Exception) -> JSONResponse:  # noqa: ARG001
    return JSONResponse({"detail": "The request was cut off."}, 400)


async def _answer_failure(_: Request, error: Exception) -> JSONResponse:
    text = f"Unexpected {type(error).__name__}. This is a bug in featx: the output of the server shows where."
    return JSONResponse({"detail": text}, 500)
