"""The files for browsers, each with rules for what it may load: only from this server."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi.responses import FileResponse, HTMLResponse, Response

if TYPE_CHECKING:
    from markupsafe import Markup

_STRICT = "base-uri 'none'; form-action 'none'"
_PAGE_RULES = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    f"frame-src 'self'; frame-ancestors 'none'; {_STRICT}"
)
_DOCS_RULES = f"default-src 'none'; style-src 'self'; img-src data:; frame-ancestors 'none'; {_STRICT}"
# The report carries its pictures and its one script, which sorts tables. It lies beside the bundle, unsealed: whatever
# is in it gets an origin of its own and can load nothing.
_REPORT_RULES = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; sandbox allow-scripts; "
    f"frame-ancestors 'self'; {_STRICT}"
)
_KINDS = {".css": "text/css", ".js": "text/javascript"}


def page() -> Response:
    """The page to show images to the model."""
    return _html(_carried("page.html"), _PAGE_RULES)


def label_page() -> Response:
    """The page of `featx label`."""
    return _html(_carried("label.html"), _PAGE_RULES)


def asset(name: str) -> Response:
    """`page.css` or `page.js`, or those of the page that labels."""
    return Response(_carried(name), media_type=_KINDS[Path(name).suffix])


def report(path: Path) -> Response:
    """A bundle's report."""
    return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": _REPORT_RULES})


def docs(schema: dict[str, Any], needs_key: bool) -> Response:
    """An OpenAPI document for people, without a script and without anything from elsewhere."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"kind": kind_of, "typed": _with_code}
    template = environment.from_string(_carried("docs.html"))
    return _html(template.render(api=schema, needs_key=needs_key), _DOCS_RULES)


def _with_code(text: str) -> Markup:
    """A text as HTML in which what stands between backticks is code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped here


def kind_of(schema: dict[str, Any]) -> str:
    """A JSON schema in words: `list of string`, `number or null`, `Prediction`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "anyOf" in schema:
        return " or ".join(kind_of(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return "list of " + ", ".join(kind_of(one) for one in schema["prefixItems"])
        return f"list of {kind_of(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"{kind_of(schema['additionalProperties'])} by name"
    if schema.get("format") == "binary":
        return "file"
    return str(schema.get("type", "anything"))


def _html(text: str, rules: str) -> Response:
    return HTMLResponse(text, headers={"Content-Security-Policy": rules})


def _carried(name: str) -> str:
    return (files("featx.serve") / name).read_text(encoding="utf-8")
