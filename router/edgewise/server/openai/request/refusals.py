"""Fields that ask for what a model of plain text cannot do."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from edgewise.server.errors import HttpError


def refuse(request: Struct, names: Iterable[str]) -> None:
    """Raise HttpError if one of these fields holds anything; null, false and [] ask for nothing."""
    for name in names:
        if getattr(request, name):
            message = f"{name} is not supported: the model writes plain text. Leave it out"
            raise HttpError(400, message, param=name, code="unsupported_parameter")


def require_text_format(name: str, format_: dict[str, Any] | None) -> None:
    """Raise HttpError for any format but text."""
    if format_ and format_.get("type") != "text":
        message = f"{name}.type is not 'text'; the model writes plain text only"
        raise HttpError(400, message, param=name, code="unsupported_parameter")
