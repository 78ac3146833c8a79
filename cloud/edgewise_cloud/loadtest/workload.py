"""The random requests of a load test: a request depends only on the seed and its number."""

from dataclasses import dataclass

import numpy as np

from edgewise_cloud.errors import LoadTestError
from edgewise_cloud.loadtest.plan import LoadPlan
from edgewise_proto import generation_pb2 as pb

WARM_UP_TOKENS = 8  # at most; enough for prefill and decode to have run


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRequest:
    """A request to send, and the number of tokens after which to cancel it, if at all."""

    number: int
    message: pb.GenerateRequest
    cancel_after: int | None = None


class Workload:
    """Makes the requests of a plan. Raises LoadTestError if they do not fit the model."""

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

    def request(self, number: int) -> PlannedRequest:
        """Request number `number`."""
        plan, random = self._plan, np.random.default_rng((self._plan.seed, 1, number))
        cancelled = random.random() < plan.cancel_rate
        message = self._message(random, int(random.integers(1 << 32)))
        half = max(1, message.max_tokens // 2)
        return PlannedRequest(
            number=number, message=message, cancel_after=half if cancelled else None
        )

    def warm_up_request(self, number: int) -> PlannedRequest:
        """A short request whose prompt shares only the shared prefix with others."""
        message = self._message(np.random.default_rng((self._plan.seed, 2, number)), seed=0)
        message.max_tokens = min(message.max_tokens, WARM_UP_TOKENS)
        return PlannedRequest(number=number, message=message)

    def _message(self, random: np.random.Generator, seed: int) -> pb.GenerateRequest:
        prompt, new = (
            int(random.integers(tokens.low, tokens.high + 1))
            for tokens in (self._plan.prompt_tokens, self._plan.max_tokens)
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
