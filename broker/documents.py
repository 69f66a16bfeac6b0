"""What a browser is given: `/openapi.json`, `/docs`, the playground at `/`, and the files of the two pages.

SECURITY: a program's output is hostile, and these pages show it in the origin of the API. So they run no script but
those files, load nothing from elsewhere, and have no way to make text into markup: the policy below forbids each, and
the pages would work without it (tests/browser/test_hostile_output.py).
"""

from __future__ import annotations

import html
from functools import cache
from pathlib import Path

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from broker.callers import is_loopback
from broker.openapi import document
from broker.operations import OPERATIONS
from broker.service import service_of
from broker.settings import Settings
from broker.version import SERVICE_VERSION

PAGES = Path(__file__).resolve().parent / "pages"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # They are small, and a page of one release must not meet a script of another.
    "Cache-Control": "no-cache",
}


async def openapi(request: Request) -> Response:
    found = document(service_of(request).settings.max_exec_timeout_ms)
    return Response(msgspec.json.encode(found), media_type="application/json")


async def docs(request: Request) -> Response:
    return _page("docs.html", has_playground(service_of(request).settings))


async def playground(request: Request) -> Response:
    if not has_playground(service_of(request).settings):
        raise HTTPException(404)
    return _page("playground.html", True)


def has_playground(settings: Settings) -> bool:
    if settings.playground == "auto":
        return is_loopback(settings.host)
    return settings.playground == "on"


async def page_file(request: Request) -> Response:
    # SECURITY: a name is looked up among those that are there; no path is ever made of it.
    found = _files().get(request.path_params["name"])
    if found is None:
        raise HTTPException(404)
    data, media = found
    return Response(data, headers=HEADERS, media_type=media)


def _page(name: str, with_playground: bool) -> Response:
    return Response(_text(name, with_playground), headers=HEADERS, media_type="text/html")


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    return {path.name: (path.read_bytes(), TYPES[path.suffix]) for path in PAGES.iterdir() if path.suffix in TYPES}


@cache
def _text(name: str, with_playground: bool) -> str:
    """A page with what it leaves open: none of it comes from outside."""
    text = (PAGES / name).read_text(encoding="utf-8")
    values = {
        "version": SERVICE_VERSION,
        "operations": _operations(),
        "playground": '<a href="./">Playground</a>' if with_playground else "",
    }
    for key, value in values.items():
        text = text.replace(f"{{{{{key}}}}}", value)
    return text


def _operations() -> str:
    """Without a script too, the page says what there is."""
    return "\n".join(
        f'<li><a href="#{each.name}"><code>{each.method.upper()} {html.escape(each.path)}</code></a>'
        f"<span>{html.escape(each.summary)}</span></li>"
        for each in OPERATIONS
    )
