"""Completing a prompt in one call, without the router: the same answers as with it."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgewise import DeviceState, LatencyLog, Router
from edgewise_edge import DeviceModel, ModelNotFoundError, RequestError, complete
from tests.conftest import CONTEXT

PROMPT = "the"  # one token of the tiny model


@pytest.fixture(scope="module")
def router(exact_folder: Path) -> Iterator[Router]:
    """A router with the same model."""
    with Router(exact_folder, device=DeviceState, latency=LatencyLog()) as router:
        yield router


def assert_equal(router: Router, folder: Path, prompt: str, **options: object) -> None:
    expected = router.generate(prompt, **options)
    found = complete(prompt, model=folder, **options)
    assert found.text == expected.text
    assert found.token_ids == expected.token_ids
    assert found.finish_reason == expected.finish_reason
    assert found.usage == expected.usage


def test_an_empty_prompt_begins_a_text(router: Router, exact_folder: Path) -> None:
    """As with a router."""
    assert_equal(router, exact_folder, "", max_tokens=9, seed=3)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    max_tokens=st.integers(1, 30) | st.integers(CONTEXT - 2, 300),
    temperature=st.sampled_from([0.0, 0.8, 2.0]),
    starts=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4)), max_size=3),
    rest=st.sampled_from(["", "never to be found"]),
    prompt_length=st.integers(1, CONTEXT - 1),
    sliding_window=st.booleans(),
)
@example(3, 12, 0.8, [(11, 1)], "never to be found", 1, False)  # held back at the last token
@example(3, 12, 0.8, [], "", CONTEXT - 12, False)  # both limits at once
def test_the_answer_is_the_routers(
    router: Router,
    exact_folder: Path,
    seed: int,
    max_tokens: int,
    temperature: float,
    starts: list[tuple[int, int]],
    rest: str,
    prompt_length: int,
    sliding_window: bool,
) -> None:
    """Its text, tokens and reason, for any limits, seeds and stop strings, found or held back."""
    options = {
        "seed": seed,
        "max_tokens": min(max_tokens, 40) if sliding_window else max_tokens,
        "temperature": temperature,
        "sliding_window": sliding_window,
    }
    prompt = PROMPT * prompt_length
    text = router.generate(prompt, **options).text
    pieces = [text[start : start + length] for start, length in starts]
    stop = [piece + rest for piece in pieces if piece]
    if text and rest:
        stop.append(text[-1] + rest)
    assert_equal(router, exact_folder, prompt, stop=stop, **options)


def test_first_calls_at_once_load_the_model_once(
    exact_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It then stays loaded."""
    loads, load = [], DeviceModel.load

    def slow_load(*arguments: object, **options: object) -> DeviceModel:
        loads.append(arguments)
        time.sleep(0.1)  # the other calls come meanwhile
        return load(*arguments, **options)

    monkeypatch.setattr(DeviceModel, "load", slow_load)
    folder = tmp_path / "new to this process"
    folder.symlink_to(exact_folder)
    together = threading.Barrier(4)

    def call(seed: int) -> str:
        together.wait(60)
        return complete(PROMPT, model=folder, max_tokens=2, seed=seed).text

    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(call, range(4)))
    assert [complete(PROMPT, model=folder, max_tokens=2, seed=n).text for n in range(4)] == texts
    assert len(loads) == 1


def test_complete_is_one_call() -> None:
    """The bundled model, a seed, a text: the same again when asked again."""
    first = complete("Once upon a time", max_tokens=12, seed=1)
    again = complete("Once upon a time", max_tokens=12, seed=1)
    assert first.text == again.text
    assert first.usage.completion_tokens == len(first.token_ids) == 12
    assert first.finish_reason == "length"
    assert 0 < first.time_to_first_token <= first.duration


@pytest.mark.parametrize("max_tokens", [0, -1, 1.5, True, "5"])
def test_an_invalid_number_of_tokens_is_refused(max_tokens: object) -> None:
    """The error names the option and the value."""
    with pytest.raises(RequestError, match=f"max_tokens is {max_tokens!r}"):
        complete(PROMPT, max_tokens=max_tokens)


def test_an_unknown_model_is_refused() -> None:
    """The model of the call before stays loaded."""
    complete(PROMPT, max_tokens=1)
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        complete(PROMPT, model="no-such-model")


def test_no_network_stack_is_imported() -> None:
    """Completing a prompt opens no socket, and LiteRT's log lines stay off standard error."""
    code = (
        "import sys;"
        "events = []; sys.addaudithook(lambda event, _: events.append(event));"
        "import edgewise_edge; edgewise_edge.complete('Once', max_tokens=2);"
        "print([m for m in ('grpc', 'ssl', 'http.client', 'urllib3', 'requests',"
        " 'tensorflow', 'keras') if m in sys.modules]"
        " + [event for event in events if event.startswith('socket.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
