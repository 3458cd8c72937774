"""Uploaded images: parsed on arrival, held in memory, never written, refused as soon as they are too large.

The form is parsed by python-multipart. FastAPI's own way puts files above 1 MB into temporary files and takes a form
that was cut off for one with fewer files.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import dataclass

from fastapi import HTTPException
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from featx.serve.limits import Limits

FORM = "multipart/form-data"
HOW = "Send images as files of a form: curl -F images=@cat.jpg"
_LONGEST_NAME = 200  # characters


@dataclass(frozen=True)
class Upload:
    """A file of a request. name : what the sender calls it, which is nothing but words; content : its bytes."""

    name: str
    content: bytes


async def read_uploads(
    content_type: str, length: int | None, body: AsyncIterable[bytes], limits: Limits, most: int
) -> list[Upload]:
    """The files of a form, at least one.

    content_type, length : the headers of the request; most : files

    Raises
    ------
    HTTPException
        400: not a whole form, or one without files; 413: too large, or too many files; 415: no form.
    """
    kind, options = parse_options_header(content_type.encode("latin-1", "replace"))
    if kind.decode("latin-1") != FORM:
        raise HTTPException(415, f"The body is {content_type or 'of no known type'}, not {FORM}. {HOW}")
    if not options.get(b"boundary"):
        raise HTTPException(400, f"The content type names no boundary between the parts of the form. {HOW}")
    if length is not None and length > limits.upload:
        raise _too_large(limits)
    arrived = 0
    try:
        form = _Form(options[b"boundary"], most)
        async for chunk in body:
            arrived += len(chunk)
            if arrived > limits.upload:
                raise _too_large(limits)
            form.write(chunk)
    except FormParserError as error:
        raise HTTPException(400, f"The form is damaged: {error}. {HOW}") from error
    return form.finish()


def _too_large(limits: Limits) -> HTTPException:
    return HTTPException(
        413, f"The request is larger than {limits.upload / 1e6:g} MB. Send smaller images, or fewer at once."
    )


class _Form:
    """Collects the files of a form."""

    def __init__(self, boundary: bytes, most: int) -> None:
        self._most = most
        self._files: list[Upload] = []
        self._ended = False
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = b"", b""
        self._name = ""
        self._content: list[bytes] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._take_header,
                "on_header_value": self._take_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._take_content,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def write(self, chunk: bytes) -> None:
        self._parser.write(chunk)

    def finish(self) -> list[Upload]:
        if not self._ended:
            raise HTTPException(400, "The form was cut off: its closing boundary is missing. Send it again.")
        if not self._files:
            raise HTTPException(400, f"The form has no file. {HOW}")
        return self._files

    def _begin_part(self) -> None:
        if len(self._files) == self._most:
            images = f"{self._most} image{'s' if self._most > 1 else ''}"
            raise HTTPException(413, f"A request may hold {images}, but this one has more. Send several requests.")
        self._headers, self._content = {}, []
        self._header, self._value = b"", b""

    def _take_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"filename" not in options:
            raise HTTPException(400, f"A part of the form is not a file: it has no file name. {HOW}")
        name = options[b"filename"].decode("utf-8", "replace")
        printable = "".join(character for character in name if character.isprintable())
        self._name = printable[:_LONGEST_NAME].strip() or f"image {len(self._files) + 1}"

    def _take_content(self, data: bytes, start: int, end: int) -> None:
        self._content.append(data[start:end])

    def _end_part(self) -> None:
        self._files.append(Upload(self._name, b"".join(self._content)))
        self._content = []

    def _end(self) -> None:
        self._ended = True
