"""The log-probabilities of a prompt's own tokens, for `echo`."""

import asyncio

from edgewise.generation.result import Score
from edgewise.options import RequestOptions, ScoreOptions
from edgewise.router import Router
from edgewise.server.openai.request.prompts import Prompt


class PromptScores:
    """Those of one prompt, computed once for all of its choices, in the place of the first."""

    def __init__(self, router: Router, prompt: Prompt, top: int, options: RequestOptions) -> None:
        self._router, self._prompt = router, prompt
        self._options = ScoreOptions(
            top=top,
            mode=options.get("mode"),
            privacy=options.get("privacy"),
            first_token_budget=options.get("first_token_budget"),
        )
        self._lock = asyncio.Lock()
        self._score: Score | None = None

    async def score(self) -> Score:
        """Raises as Router.score."""
        async with self._lock:
            if self._score is None:
                self._score = await self._router.ascore(self._prompt, **self._options)
        return self._score
