"""What the scripted device and the scripted cloud have in common."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace

from edgewise.device.queue import DeviceQueue
from edgewise.errors import ConfigurationError
from edgewise.generation.attempt import Attempt
from edgewise.options import require_function, require_type
from edgewise.policy.types import PolicyLimits, PredictedTime
from edgewise.testing.scripts import Script, completes
from edgewise_edge import Tokenizer, TokenRequest, TokenScore
from edgewise_edge.checks import Range
from edgewise_edge.decoding.tokenizer import END_OF_TEXT

# A token for each byte, and one that ends a text.
BYTES = Tokenizer({bytes([byte]): byte for byte in range(256)}, {END_OF_TEXT: 256})

SECONDS = Range(0, 10**6, unit="seconds")
WINDOW = Range(1, 2**20, whole=True, unit="tokens")

LOGPROB = -0.5  # of each scripted token, which is the likeliest one in its place

# The answer to every prompt, or a function of the prompt.
Answer = str | Callable[[str], str]


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request that a scripted source has run; equal to others with the same first three.

    That for a score has no `max_tokens`: 0.
    """

    prompt: str
    generated: str = ""  # the answer so far, which the source continues
    max_tokens: int = 128  # new ones
    tokens: TokenRequest | None = field(default=None, compare=False, repr=False)  # the original


class ScriptedSource:
    """Runs one script for each attempt, in order, and then `completes`.

    `requests` are those that it has run.
    """

    def __init__(
        self,
        answer: Answer,
        scripts: tuple[Script, ...],
        tokenizer: Tokenizer,
        first_token: float | None,
        gap: float | None,
    ) -> None:
        if not callable(answer):
            require_type("answer", answer, str, "text, or a function of the prompt")
        for script in scripts:
            require_function("a script", script, "a function such as completes or fails_after(2)")
        require_type("tokenizer", tokenizer, Tokenizer, "a Tokenizer")
        for name, value in {"first_token": first_token, "gap": gap}.items():
            if value is not None:
                SECONDS.check(name, value, ConfigurationError)
        self.tokenizer = tokenizer
        self.requests: list[ReceivedRequest] = []
        self._answer, self._scripts = answer, iter(scripts)
        self._first_token, self._gap = first_token, gap
        self._queue = DeviceQueue()

    @property
    def running(self) -> list[Attempt]:
        """The attempts that have not ended."""
        return self._queue.running

    def wait_until_idle(self, timeout: float = 10.0) -> None:
        """Wait until no attempt runs: those that lost a hedge end in threads of their own.

        Raises TimeoutError after `timeout` seconds.
        """
        if not self._queue.wait_until_idle(timeout):
            raise TimeoutError(f"an attempt has not ended in {timeout} s: {self.running}")

    def _run(
        self, request: TokenRequest, attempt: Attempt, limits: PolicyLimits | None = None
    ) -> Generator[int, None, None]:
        """Attempt.run: the next script, once there is a place."""
        received, text = self._received(request), self._answer
        answer = text if isinstance(text, str) else text(received.prompt)
        generated = request.position - request.prompt_tokens
        rest = (*self.tokenizer.encode(answer), *self.tokenizer.end_ids)[generated:]
        with self._queue.place(attempt, limits):
            if not self._receive(received, attempt):
                return
            attempt.ready(uncached=request.position)
            tokens = self._next_script(iter(rest[: request.max_tokens]), attempt)
            if request.logprobs is None:
                yield from tokens
            else:
                yield from self._scored(tokens, attempt, request.logprobs)

    def _run_score(
        self, request: TokenRequest, top: int, attempt: Attempt, limits: PolicyLimits | None = None
    ) -> tuple[TokenScore, ...]:
        """The scores that the next script gives, once there is a place."""
        with self._queue.place(attempt, limits):
            if not self._receive(self._received(request), attempt):
                return ()
            tokens = self._next_script(iter(request.token_ids), attempt)
            scores = [self._token_score(token, top) for token in tokens]
        return tuple(
            replace(score, logprob=None, top=()) if index == 0 else score
            for index, score in enumerate(scores)
        )

    def _next_script(self, tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        return next(self._scripts, completes)(tokens, attempt)

    def _scored(
        self, tokens: Iterator[int], attempt: Attempt, top: int
    ) -> Generator[int, None, None]:
        for token in tokens:
            attempt.scores.append(self._token_score(token, top))
            yield token

    def _token_score(self, token: int, top: int) -> TokenScore:
        """The ids after `token` are the next likeliest, each by 1 less."""
        size = self.tokenizer.size
        likeliest = [((token + rank) % size, LOGPROB - rank) for rank in range(min(top, size))]
        return TokenScore(token, LOGPROB, tuple(likeliest))

    def _receive(self, received: ReceivedRequest, _attempt: Attempt) -> bool:
        """Take the request; whether it is to run."""
        self.requests.append(received)
        return True

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
