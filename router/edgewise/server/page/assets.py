"""The files of the page as responses, with a policy that lets it talk to its own server only."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

HEADERS = {
    # No inline script or style, nothing from elsewhere, and in no other page's frame. Images: the icon.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # A browser asks each time, and is answered with 304: the page is as old as its server.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class Asset:
    """An endpoint that sends a file of this package. `media_type` is that of its text in UTF-8."""

    file: str
    media_type: str

    @cached_property
    def content(self) -> bytes:
        """The bytes of the file, read once."""
        return files(__package__).joinpath(self.file).read_bytes()

    @cached_property
    def entity_tag(self) -> str:
        """Changes with the content."""
        return f'"{sha256(self.content).hexdigest()[:32]}"'

    async def __call__(self, request: Request) -> Response:
        """The file, or 304 where the browser has it."""
        headers = HEADERS | {"ETag": self.entity_tag}
        if self.entity_tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers, media_type=self.media_type)


ASSETS = {
    "/": Asset("index.html", "text/html"),
    "/page.js": Asset("page.js", "text/javascript"),
    "/page.css": Asset("page.css", "text/css"),
}
PATHS = frozenset(ASSETS)  # they hold nothing of the user, and need no token
routes = [Route(path, asset.__call__) for path, asset in ASSETS.items()]
