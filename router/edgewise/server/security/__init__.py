"""Who may use the server, and how. Each file is one check, made before any endpoint."""

from starlette.middleware import Middleware

from edgewise.server.security.content_types import ContentTypeCheck
from edgewise.server.security.hosts import HostCheck
from edgewise.server.security.origins import OriginCheck
from edgewise.server.security.settings import check_settings
from edgewise.server.security.tokens import TokenCheck
from edgewise.server.settings import ServerSettings

__all__ = ["check_settings", "checks"]


def checks(settings: ServerSettings) -> list[Middleware]:
    """In the order in which a request passes them. A preflight carries no token."""
    return [
        Middleware(HostCheck, settings),
        Middleware(OriginCheck, settings),
        Middleware(TokenCheck, settings),
        Middleware(ContentTypeCheck),
    ]
