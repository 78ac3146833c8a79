"""The log-probabilities of a prompt's own tokens, for `echo`."""

import asyncio
from collections.abc import Mapping
from typing import Any

from edgewise import Score
from edgewise.router import Router
from edgewise.server.openai.request.prompts import Prompt

_OPTIONS = ("mode", "privacy", "first_token_budget")  # of Router.score


class PromptScores:
    """Those of one prompt, computed once for all of its choices, in the place of the first."""

    def __init__(
        self, router: Router, prompt: Prompt, top: int, options: Mapping[str, Any]
    ) -> None:
        self._router, self._prompt, self._top = router, prompt, top
        self._options = {name: options[name] for name in _OPTIONS if name in options}
        self._lock = asyncio.Lock()
        self._score: Score | None = None

    async def score(self) -> Score:
        """Raises as Router.score."""
        async with self._lock:
            if self._score is None:
                self._score = await self._router.ascore(
                    self._prompt, top=self._top, **self._options
                )
        return self._score
