"""The body of POST /v1/completions."""

from edgewise.server.errors import HttpError
from edgewise.server.openai.request.fields import SharedFields, check_number, check_texts
from edgewise.server.openai.request.prompts import PromptField
from edgewise_edge.checks import Range
from edgewise_edge.decoding.token_score import MAX_TOP

_LENGTHS = Range(0, 2**31 - 1, whole=True, unit="tokens")


class CompletionRequest(SharedFields):
    """OpenAI's fields; unknown ones are ignored."""

    prompt: PromptField = None
    n: int | None = None
    best_of: int | None = None
    echo: bool | None = None
    logprobs: int | None = None
    max_tokens: int | None = None
    suffix: str | None = None

    @property
    def texts(self) -> int:
        """How many each prompt gets in the reply."""
        return 1 if self.n is None else self.n

    @property
    def candidates(self) -> int:
        """How many are written for each prompt."""
        return self.texts if self.best_of is None else self.best_of

    @property
    def selects(self) -> bool:
        """Whether the likeliest of several are replied."""
        return self.candidates > self.texts

    def check(self, prompts: int, most: int) -> None:
        """Raise HttpError for what the router does not check. `most`: texts of one request."""
        if self.suffix:
            message = (
                "suffix is given; the model continues text and cannot fill a gap. Leave it out"
            )
            raise HttpError(400, message, param="suffix")
        check_number("n", self.texts, Range(1, most, whole=True))
        name = "n" if self.best_of is None else "best_of"
        check_number(name, self.candidates, Range(self.texts, most, whole=True))
        check_texts(name, prompts, self.candidates, most)
        if self.logprobs is not None:
            check_number("logprobs", self.logprobs, Range(0, MAX_TOP, whole=True))
        if self.max_tokens is not None:
            check_number("max_tokens", self.max_tokens, _LENGTHS)
        if self.stream and self.selects:
            message = (
                f"best_of is {self.candidates}, above n; the best are known at the end only: set "
                "stream to false, or leave best_of out"
            )
            raise HttpError(400, message, param="best_of")
