"""What a request's X-Edgewise-* headers say about routing."""

from collections.abc import Callable
from typing import Any, cast

from starlette.datastructures import Headers
from starlette.requests import Request

from edgewise.options import REQUEST_RANGES, RequestOptions, parse_choice
from edgewise.policy.types import Mode, Privacy
from edgewise.server.errors import HttpError
from edgewise.server.service import Service
from edgewise_edge import RequestError


def request_options(request: Request, service: Service) -> RequestOptions:
    """Mode, privacy and budgets; what no header says is left out. `--private` comes before all.

    Raises HttpError (400) with the header as `param`.
    """
    for name in request.headers:
        if name.startswith(_PREFIX) and name not in _NAMES:
            known = ", ".join(_NAMES)
            raise HttpError(400, f"{name} is no header of this server; it has {known}", param=name)
    found: dict[str, Any] = {}
    for name, (option, parse) in _NAMES.items():
        if (value := _single(request.headers, name)) is not None:
            try:
                found[option] = parse(name, value.strip())
            except RequestError as error:
                raise HttpError(400, str(error), param=name) from None
    if service.settings.private:
        found["privacy"] = Privacy.PRIVATE
    return cast(RequestOptions, found)


def _single(headers: Headers, name: str) -> str | None:
    """Raises HttpError for a header that is there twice: two proxies may not mean the same."""
    values = headers.getlist(name)
    if len(values) > 1:
        raise HttpError(400, f"{name} is there {len(values)} times; send it once", param=name)
    return values[0] if values else None


def _mode(name: str, value: str) -> Mode:
    return parse_choice(name, Mode, value.lower(), RequestError)


def _privacy(name: str, value: str) -> Privacy:
    return parse_choice(name, Privacy, value.lower(), RequestError)


def _budget(name: str, value: str) -> float:
    try:
        number: object = float(value)
    except ValueError:
        number = value
    return REQUEST_RANGES["latency_budget"].check(name, number, RequestError)


_PREFIX = "x-edgewise-"
_NAMES: dict[str, tuple[str, Callable[[str, str], object]]] = {
    _PREFIX + "mode": ("mode", _mode),
    _PREFIX + "privacy": ("privacy", _privacy),
    _PREFIX + "latency-budget": ("latency_budget", _budget),
    _PREFIX + "first-token-budget": ("first_token_budget", _budget),
}
