"""Reads the body of a request: bounded, and checked field by field."""

import asyncio
import re
from functools import cache
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from edgewise.server.errors import HttpError

Kind = TypeVar("Kind", bound=msgspec.Struct)

_PATIENCE = 30.0  # seconds that a body may take to arrive


async def read_body(request: Request, kind: type[Kind]) -> Kind:
    """The body as `kind`.

    Raises HttpError: 400 with the field at fault as `param`, 408 for a body that does not arrive in
    time, 413 for one of more than `max_body` bytes. That it is JSON is checked before any endpoint.
    """
    return _decode(await _read(request), kind)


async def _read(request: Request) -> bytes:
    most: int = request.app.state.service.settings.max_body
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > most:
        raise _too_large(most)
    body = bytearray()
    try:
        async with asyncio.timeout(_PATIENCE):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise _too_large(most)
    except TimeoutError:
        message = f"the body did not arrive within {_PATIENCE:g} s"
        raise HttpError(408, message, code="timeout") from None
    return bytes(body)


def _too_large(most: int) -> HttpError:
    message = f"the body is larger than {most:,} bytes; send less"
    return HttpError(413, message, code="request_too_large")


def _decode(body: bytes, kind: type[Kind]) -> Kind:
    """Without the causes of errors, which may quote the body."""
    try:
        decoded: Kind = _decoder(kind).decode(body)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `")
        missing = re.search(r"required field `([^`]+)`", what)
        found = re.search(r"\$\.?([^`]+)`", place) or missing  # of a key: `key` in `$.field`
        field = found[1] if found else None
        start = f"{field}: " if field else ""
        raise HttpError(400, f"{start}{what[0].lower()}{what[1:]}", param=field) from None
    except UnicodeDecodeError:
        raise HttpError(400, "the body is not UTF-8", code="invalid_json") from None
    except RecursionError:
        raise HttpError(400, "the body is nested too deeply", code="invalid_json") from None
    except msgspec.DecodeError as error:
        message = f"the body is not valid JSON: {error}"
        raise HttpError(400, message, code="invalid_json") from None
    return decoded


@cache
def _decoder(kind: type[Any]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)
