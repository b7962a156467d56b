"""The Labs page: files of this package, which talk to the Images API as any program could."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request, Response

from gateway.http.errors import HttpError

FOLDER = Path(__file__).with_name("page")
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
# Nothing is fetched from elsewhere, and nobody puts the page into a frame.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # asked again, and answered with 304
}


@dataclass(frozen=True)
class Asset:
    """One of the page's files."""

    body: bytes
    kind: str

    @property
    def tag(self) -> str:
        """The same as long as the file is."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'


def add_page(app: FastAPI) -> None:
    """Serve the page at /, and its files below /page/."""
    files = [path for path in sorted(FOLDER.iterdir()) if path.suffix in KINDS]
    assets = {path.name: Asset(path.read_bytes(), KINDS[path.suffix]) for path in files}

    async def index(request: Request) -> Response:
        return _answer(request, assets["index.html"])

    async def asset(name: str, request: Request) -> Response:
        if name not in assets:
            raise HttpError(404, f"/page/{name:.200} is not here", name="not_found")
        return _answer(request, assets[name])

    app.get("/", include_in_schema=False)(index)
    app.get("/page/{name}", include_in_schema=False)(asset)


def _answer(request: Request, asset: Asset) -> Response:
    headers = {**HEADERS, "etag": asset.tag}
    # Proxies that compress make the tag a weak one.
    if asset.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(asset.body, media_type=f"{asset.kind}; charset=utf-8", headers=headers)
