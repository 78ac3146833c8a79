"""Any JSON at all: the server answers or says what is wrong with it."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.router.server.openai.served import CHAT, COMPLETIONS, RESPONSES, served

WORDS = st.sampled_from(["role", "content", "type", "text", "user", "system", "format"])
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    # Lone surrogates are no JSON: the client could not send them.
    | st.text(st.characters(codec="utf-8"), max_size=5) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
COUNTS, NUMBERS, TEXTS = st.integers(-2, 25), st.floats(-3, 3), st.text("ab—", max_size=6)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "assistant", "tool"]), "content": TEXTS | ANY}
)
SHARED = {
    **dict.fromkeys(("temperature", "top_p", "presence_penalty", "frequency_penalty"), NUMBERS),
    "top_k": COUNTS,
    "seed": st.integers(),
    "stop": TEXTS | st.lists(TEXTS, max_size=5),
    "logit_bias": st.dictionaries(st.integers(-2, 300).map(str), st.floats(-120, 120), max_size=3),
    "stream": st.booleans(),
    "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}),
}
IDS = st.lists(st.integers(-1, 257), max_size=4)
ENDPOINTS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    COMPLETIONS: {
        "prompt": TEXTS | IDS | st.lists(IDS, max_size=3) | st.lists(TEXTS, max_size=3),
        **dict.fromkeys(("n", "best_of", "logprobs", "max_tokens"), COUNTS),
        "echo": st.booleans(),
        "suffix": TEXTS,
    },
    CHAT: {
        "messages": st.lists(MESSAGE, min_size=1, max_size=3),
        **dict.fromkeys(("n", "top_logprobs", "max_tokens", "max_completion_tokens"), COUNTS),
        "logprobs": st.booleans(),
        **dict.fromkeys(("tools", "response_format"), ANY),
    },
    RESPONSES: {
        "input": TEXTS | st.lists(MESSAGE, max_size=3),
        "instructions": TEXTS,
        **dict.fromkeys(("top_logprobs", "max_output_tokens"), COUNTS),
        **dict.fromkeys(("include", "metadata", "text", "store"), ANY),
    },
}


@pytest.mark.parametrize("path", ENDPOINTS)
def test_any_json_is_answered_or_refused(path: str) -> None:
    """Never a failure of the server, and never a stream that breaks off."""
    fields = SHARED | ENDPOINTS[path]
    wild = {name: st.one_of(value, value, value, st.none(), ANY) for name, value in fields.items()}

    with served() as client:

        @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.fixed_dictionaries({}, optional=wild) | ANY)
        def check(body: Any) -> None:
            response = client.post(path, json=body)
            assert response.status_code < 500, response.text
            if response.status_code >= 400:
                assert set(response.json()["error"]) == {"message", "type", "param", "code"}
            assert 'data: {"error"' not in response.text
            assert "event: error" not in response.text

        check()
