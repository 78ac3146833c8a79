"""What the scripted device and the scripted cloud have in common."""

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from edgewise.generation.attempt import Attempt
from edgewise.policy.types import PredictedTime
from edgewise.testing.scripts import Script, completes
from edgewise_edge import Tokenizer, TokenRequest
from edgewise_edge.decoding.tokenizer import END_OF_TEXT

# A token for each byte, and one that ends a text.
BYTES = Tokenizer({bytes([byte]): byte for byte in range(256)}, {END_OF_TEXT: 256})

# The answer to every prompt, or a function of the prompt.
Answer = str | Callable[[str], str]


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request that a scripted source has run; equal to others with the same first three."""

    prompt: str
    generated: str = ""  # the answer so far, which the source continues
    max_tokens: int = 128  # new ones
    tokens: TokenRequest | None = field(default=None, compare=False, repr=False)  # the original


class ScriptedSource:
    """Runs one script for each attempt, in order, and then `completes`.

    `requests` are those that it has run, and `running` the attempts that have not ended.
    """

    def __init__(
        self,
        answer: Answer,
        scripts: tuple[Script, ...],
        tokenizer: Tokenizer,
        first_token: float | None,
        gap: float | None,
    ) -> None:
        self.tokenizer = tokenizer
        self.requests: list[ReceivedRequest] = []
        self.running: list[Attempt] = []
        self._answer, self._scripts = answer, iter(scripts)
        self._first_token, self._gap = first_token, gap
        # Re-entrant: garbage collection may end a stream at any point, in any thread.
        self._changed = threading.Condition(threading.RLock())

    def wait_until_idle(self, timeout: float = 10.0) -> None:
        """Wait until no attempt runs: those that lost a hedge end in threads of their own.

        Raises TimeoutError after `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self.running, timeout):
                raise TimeoutError(f"an attempt has not ended in {timeout} s: {self.running}")

    def _run(self, request: TokenRequest, attempt: Attempt) -> Generator[int, None, None]:
        """Attempt.run: the next script."""
        received, text = self._received(request), self._answer
        answer = text if isinstance(text, str) else text(received.prompt)
        generated = request.position - request.prompt_tokens
        rest = (*self.tokenizer.encode(answer), *self.tokenizer.end_ids)[generated:]
        self.requests.append(received)
        with self._changed:
            self.running.append(attempt)
        attempt.ready(uncached=request.position)
        try:
            script = next(self._scripts, completes)
            yield from script(iter(rest[: request.max_tokens]), attempt)
        finally:
            with self._changed:
                self.running.remove(attempt)
                self._changed.notify_all()

    def _received(self, request: TokenRequest) -> ReceivedRequest:
        ids, end_of_prompt = list(request.token_ids), request.prompt_tokens
        return ReceivedRequest(
            prompt=self.tokenizer.decode(ids[:end_of_prompt]),
            generated=self.tokenizer.decode(ids[end_of_prompt:]),
            max_tokens=request.max_tokens,
            tokens=request,
        )

    def _predicted(self, max_tokens: int) -> PredictedTime:
        """The predicted time of `max_tokens` more tokens."""
        first, gap = self._first_token, self._gap
        total = None if first is None or gap is None else first + gap * (max_tokens - 1)
        return PredictedTime(first, total, gap)
