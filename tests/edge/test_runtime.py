"""The runtime against itself: chunks, caches that grow, sessions side by side."""

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from edgewise_edge import (
    ContextOverflowError,
    DeviceModel,
    Manifest,
    ModelIncompatibleError,
    RequestError,
    SamplingParams,
    TokenRequest,
    complete,
)
from edgewise_edge.manifest import MODEL_FILE, Architecture
from edgewise_edge.runtime import Runtime, Session
from tests.conftest import CONTEXT, token_request

TOKENS = [int(token) for token in np.random.default_rng(1).integers(0, 250, 180)]


def session(model: DeviceModel) -> Session:
    return model.runtime.session()


def test_chunks_do_not_show_in_the_logits(exact_model: DeviceModel) -> None:
    """Read in one go, in pieces or token by token, a prompt means the same."""
    prompt = TOKENS[:50]
    whole, pieces, single = (session(exact_model) for _ in range(3))
    whole.prefill(prompt[:-1])
    for start in range(0, 49, 20):
        pieces.prefill(prompt[start : min(start + 20, 49)])
    for token in prompt[:-1]:
        single.decode(token)
    expected = whole.decode(prompt[-1])
    np.testing.assert_allclose(pieces.decode(prompt[-1]), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(single.decode(prompt[-1]), expected, rtol=0, atol=1e-4)


def test_growing_the_cache_does_not_show(exact_model: DeviceModel) -> None:
    """A session that outgrows its first bucket agrees with one read in larger steps."""
    assert exact_model.runtime.buckets == [128, CONTEXT]
    slow, fast = session(exact_model), session(exact_model)
    for token in TOKENS[:-1]:
        slow.decode(token)
    for start in range(0, len(TOKENS) - 1, exact_model.runtime.chunk):
        fast.prefill(TOKENS[start : min(start + exact_model.runtime.chunk, len(TOKENS) - 1)])
    np.testing.assert_allclose(slow.decode(TOKENS[-1]), fast.decode(TOKENS[-1]), rtol=0, atol=1e-4)


def test_a_continuation_draws_what_the_unbroken_run_drew(exact_model: DeviceModel) -> None:
    """Stopped anywhere and asked again with the tokens so far, the text is the same."""
    settings = {"temperature": 1.0, "top_k": 0, "seed": 3, "repetition_penalty": 1.3}
    unbroken = list(exact_model.stream_tokens(token_request(TOKENS[:10], 40, **settings)))
    for cut in (1, 17, 39):
        resumed = token_request([*TOKENS[:10], *unbroken[:cut]], 40 - cut, **settings)
        assert list(exact_model.stream_tokens(resumed)) == unbroken[cut:]


def test_the_whole_window_can_be_used(exact_model: DeviceModel) -> None:
    """Prompt and answer may fill the context window to the last token, and no further."""
    tokens = list(exact_model.stream_tokens(token_request(TOKENS[:100], CONTEXT - 100)))
    assert len(tokens) == CONTEXT - 100
    with pytest.raises(ContextOverflowError, match=str(CONTEXT)):
        exact_model.stream_tokens(token_request(TOKENS[:100], CONTEXT - 99))


def test_requests_nobody_could_answer_are_refused_at_once(exact_model: DeviceModel) -> None:
    """No prompt, no tokens wanted, ids that do not exist."""
    for tokens, count in (([], 1), ([1], 0), ([1], -5), ([100_000], 1)):
        with pytest.raises(RequestError):
            exact_model.stream_tokens(token_request(tokens, count))


def test_sessions_in_threads_do_not_disturb_each_other(exact_model: DeviceModel) -> None:
    """Four texts written at once are those written one after the other."""
    requests = [token_request(TOKENS[n : n + 10], 30, seed=n) for n in range(4)]
    expected = [list(exact_model.stream_tokens(one)) for one in requests]
    found: dict[int, list[int]] = {}

    def write(index: int) -> None:
        found[index] = list(exact_model.stream_tokens(requests[index]))

    threads = [threading.Thread(target=write, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(4)] == expected


def test_closing_stops_between_tokens(exact_model: DeviceModel) -> None:
    """A closed generator yields nothing more."""
    tokens = exact_model.stream_tokens(token_request(TOKENS[:5], 50))
    next(tokens)
    tokens.close()
    assert list(tokens) == []


def test_an_end_token_ends_the_text(exact_model: DeviceModel) -> None:
    """It is yielded, so that whoever counts positions sees it, and nothing after it."""
    unbroken = list(exact_model.stream_tokens(token_request(TOKENS[:5], 20, seed=1)))
    end = unbroken[7]
    ending = TokenRequest(
        token_ids=tuple(TOKENS[:5]),
        prompt_tokens=5,
        max_tokens=20,
        sampling=SamplingParams(seed=1),
        end_ids=frozenset({end}),
    )
    assert list(exact_model.stream_tokens(ending)) == unbroken[: unbroken.index(end) + 1]


def test_a_model_of_another_shape_is_refused(exact_folder: Path) -> None:
    """Signatures that do not fit the manifest are named before anything runs."""
    wrong = Architecture(264, CONTEXT, 3, 2, 16)
    with pytest.raises(ModelIncompatibleError, match="key_2"):
        Runtime.load(exact_folder / MODEL_FILE, wrong, threads=1)


def test_a_vocabulary_of_another_size_is_refused(exact_folder: Path) -> None:
    """LiteRT would write its logits past the end of the memory made for them."""
    shape = Manifest.read(exact_folder).architecture
    for size in (shape.vocabulary_size - 10, shape.vocabulary_size + 10):
        wrong = dataclasses.replace(shape, vocabulary_size=size)
        with pytest.raises(ModelIncompatibleError, match="logits of"):
            Runtime.load(exact_folder / MODEL_FILE, wrong, threads=1)


def test_reading_a_prompt_can_be_cancelled(exact_model: DeviceModel) -> None:
    """Before the first token, from outside."""
    cancelled = threading.Event()
    cancelled.set()
    assert list(exact_model.stream_tokens(token_request(TOKENS, 5), cancelled)) == []


def test_models_loading_at_once_leave_standard_error_alone(exact_folder: Path) -> None:
    """What other threads write to it meanwhile arrives, and LiteRT's lines do not."""
    code = """
import sys, threading
from edgewise_edge import DeviceModel
loads = [threading.Thread(target=DeviceModel.load, args=(sys.argv[1],)) for _ in range(4)]
for load in loads: load.start()
for n in range(200): sys.stderr.write(f"line {n}\\n")
for load in loads: load.join()
print("end", file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, exact_folder], capture_output=True, text=True, check=True
    )
    assert sorted(done.stderr.split("\n")) == sorted(
        [*(f"line {n}" for n in range(200)), "end", ""]
    )


def test_complete_is_one_call() -> None:
    """The bundled model, a seed, a text: the same again when asked again."""
    first = complete("Once upon a time", max_tokens=12, seed=1)
    again = complete("Once upon a time", max_tokens=12, seed=1)
    assert first.text == again.text
    assert first.usage.completion_tokens == len(first.token_ids) == 12
    assert 0 < first.time_to_first_token <= first.duration


def test_complete_stops_at_a_stop_string() -> None:
    """The stop string and what follows are not part of the text."""
    whole = complete("Once upon a time", max_tokens=40, seed=1).text
    stop = whole[10:14]
    short = complete("Once upon a time", max_tokens=40, seed=1, stop=stop)
    assert short.text == whole[: whole.index(stop)]
    assert short.finish_reason == "stop"


def test_no_network_stack_is_imported() -> None:
    """Completing a prompt needs no sockets; and LiteRT's log lines stay off standard error."""
    code = (
        "import sys, edgewise_edge; edgewise_edge.complete('Once', max_tokens=2);"
        "print([m for m in ('grpc', 'socket', 'ssl', 'http.client', 'urllib3', 'requests',"
        " 'tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
