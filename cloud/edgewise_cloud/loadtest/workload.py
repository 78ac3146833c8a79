"""Random requests: the same for the same seed, in whichever order they are asked for."""

from dataclasses import dataclass

import numpy as np

from edgewise_cloud.errors import LoadTestError
from edgewise_cloud.loadtest.plan import LoadPlan
from edgewise_proto import generation_pb2 as pb

WARM_UP_TOKENS = 8  # at most; enough to have gone through every part once


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request to send, and after how many of its tokens to cancel it, if at all."""

    number: int
    message: pb.GenerateRequest
    cancel_after: int | None = None


class Prompts:
    """Makes the jobs of a plan for a model. Raises LoadTestError when they do not fit it."""

    def __init__(self, plan: LoadPlan, model: pb.GetModelResponse) -> None:
        longest = plan.prompt_tokens.high + plan.max_tokens.high
        if longest > model.context_window:
            raise LoadTestError(
                f"a prompt of {plan.prompt_tokens.high} tokens and {plan.max_tokens.high} new ones "
                f"do not fit '{model.name}', whose context window is {model.context_window}; "
                "make prompt_tokens or max_tokens smaller"
            )
        self._plan, self._model = plan, model
        self._shared = self._tokens(np.random.default_rng((plan.seed, 0)), plan.shared_prefix)

    def job(self, number: int) -> Job:
        """The request of that number."""
        plan, random = self._plan, np.random.default_rng((self._plan.seed, 1, number))
        cancelled = random.random() < plan.cancel_rate
        message = self._message(random, int(random.integers(1 << 32)))
        half = max(1, message.max_tokens // 2)
        return Job(number=number, message=message, cancel_after=half if cancelled else None)

    def warm_up_job(self, number: int) -> Job:
        """A short one whose prompt no other has, but for what all share."""
        message = self._message(np.random.default_rng((self._plan.seed, 2, number)), seed=0)
        message.max_tokens = min(message.max_tokens, WARM_UP_TOKENS)
        return Job(number=number, message=message)

    def _message(self, random: np.random.Generator, seed: int) -> pb.GenerateRequest:
        prompt, new = (
            int(random.integers(span.low, span.high + 1))
            for span in (self._plan.prompt_tokens, self._plan.max_tokens)
        )
        return pb.GenerateRequest(
            token_ids=self._shared + self._tokens(random, prompt - len(self._shared)),
            prompt_tokens=prompt,
            max_tokens=new,
            sampling=pb.Sampling(
                temperature=self._plan.temperature, top_p=1, repetition_penalty=1, seed=seed
            ),
            vocabulary=self._model.vocabulary,
        )

    def _tokens(self, random: np.random.Generator, count: int) -> list[int]:
        tokens: list[int] = random.integers(self._model.vocabulary_size, size=count).tolist()
        return tokens
