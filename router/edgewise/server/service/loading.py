"""Loads the model in the background once the server listens."""

import asyncio
import logging

from edgewise.policy.types import Availability, Mode
from edgewise.router import Router
from edgewise_edge import EdgewiseError

log = logging.getLogger("edgewise")

_CLOUD_FIRST = {Mode.ONLY_IN_CLOUD, Mode.PREFER_IN_CLOUD}


class ModelLoading:
    """Whether a text can be answered now."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._running = False
        self._failure: EdgewiseError | None = None

    async def run(self) -> None:
        """Load the model, unless the cloud answers first."""
        if self._router.mode in _CLOUD_FIRST or not self._router.availability().status.usable:
            return
        self._running = True
        try:
            await asyncio.to_thread(self._router.warm_up)
        except EdgewiseError as error:
            self._failure = error
            log.warning("the model could not be loaded: %s", type(error).__name__)
        finally:
            self._running = False

    def problem(self) -> str:
        """Why no text can be answered yet; "" if one can be."""
        found = self._router.availability()
        if found.status is Availability.UNAVAILABLE and self._router.cloud_source:
            return ""  # a file is broken, but its vocabulary is here: the cloud answers
        if not found.status.usable:
            return f"the model is {found}"
        if found.loaded:
            return ""
        if self._running:
            return "the model is being loaded"
        if self._failure and not self._router.cloud_source:
            return f"the model could not be loaded: {self._failure}"
        return ""
