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
COUNTS, NUMBERS, TEXTS = st.integers(-1, 5), st.floats(0, 1), st.text("ab—", max_size=6)
TOKENS = st.integers(-1, 30)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "assistant"]), "content": TEXTS}
    ),
    min_size=1,
    max_size=3,
)
SHARED = {
    **dict.fromkeys(("temperature", "top_p", "presence_penalty", "frequency_penalty"), NUMBERS),
    "top_k": COUNTS,
    "min_p": NUMBERS,
    "seed": st.integers(-(2**63), 2**63),
    "stop": TEXTS | st.lists(TEXTS.filter(bool), max_size=5),
    "logit_bias": st.dictionaries(st.integers(0, 256).map(str), st.floats(-100, 100), max_size=3),
    "stream": st.booleans(),
    "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}),
}
IDS = st.lists(st.integers(0, 256), min_size=1, max_size=4)
# Nearly always valid; what is not comes in place of one or two fields, or of all.
ENDPOINTS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    COMPLETIONS: {
        "prompt": TEXTS | IDS | st.lists(IDS, max_size=3) | st.lists(TEXTS, max_size=3),
        **dict.fromkeys(("n", "best_of", "logprobs"), COUNTS),
        "max_tokens": TOKENS,
        "echo": st.booleans(),
    },
    CHAT: {
        "messages": MESSAGES,
        **dict.fromkeys(("n", "top_logprobs"), COUNTS),
        **dict.fromkeys(("max_tokens", "max_completion_tokens"), TOKENS),
        "logprobs": st.booleans(),
    },
    RESPONSES: {
        "input": TEXTS | MESSAGES,
        "instructions": TEXTS,
        "top_logprobs": COUNTS,
        "max_output_tokens": TOKENS,
    },
}


@pytest.mark.parametrize("path", ENDPOINTS)
def test_any_json_is_answered_or_refused(path: str) -> None:
    """Never a failure of the server, and never a stream that breaks off."""
    main, *others = ENDPOINTS[path]
    optional = SHARED | {name: ENDPOINTS[path][name] for name in others}
    valid = st.fixed_dictionaries({main: ENDPOINTS[path][main]}, optional=optional)
    names = st.sampled_from([main, *optional, "suffix", "tools", "text", "include", "metadata"])
    odd = st.dictionaries(names, ANY, max_size=2)
    statuses = set()

    with served() as client:

        @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.builds(lambda fields, others: fields | others, valid, odd) | ANY)
        def check(body: Any) -> None:
            response = client.post(path, json=body)
            statuses.add(response.status_code)
            assert response.status_code < 500, response.text
            if response.status_code >= 400:
                assert set(response.json()["error"]) == {"message", "type", "param", "code"}
            assert 'data: {"error"' not in response.text
            assert "event: error" not in response.text

        check()
    assert {200, 400} <= statuses
