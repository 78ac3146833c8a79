"""The texts that are being written, by their ids."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.datastructures import State

from edgewise.generation.stream import AsyncTextStream
from edgewise.policy.types import DeviceState
from edgewise.router import Router
from edgewise.server.errors import HttpError
from edgewise.server.native.fields import AssumedDevice


class WhatIf:
    """A DeviceProbe: the router's device, but for what is made up, which may change at any time."""

    def __init__(self, router: Router, assumed: AssumedDevice | None) -> None:
        self._router, self.assumed = router, assumed or AssumedDevice()

    def __call__(self) -> DeviceState:
        """The state now."""
        return self.assumed.over(self._router.device_state())


@dataclass(frozen=True, slots=True)
class Running:
    """One of them."""

    stream: AsyncTextStream
    device: WhatIf


@contextmanager
def registered(state: State, running: Running) -> Iterator[str]:
    """An id that nobody can guess, by which `find` finds it until the context ends."""
    id_ = secrets.token_urlsafe(16)
    _all(state)[id_] = running
    try:
        yield id_
    finally:
        del _all(state)[id_]


def find(state: State, id_: str) -> Running:
    """Raises HttpError (404) for one that has ended."""
    if found := _all(state).get(id_):
        return found
    raise HttpError(404, "there is no such generation; it may have ended", code="not_found")


def _all(state: State) -> dict[str, Running]:
    """Of one app."""
    if not hasattr(state, "generations"):
        state.generations = {}
    generations: dict[str, Running] = state.generations
    return generations
