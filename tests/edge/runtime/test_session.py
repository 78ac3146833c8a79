"""Sessions: tokens one by one and in chunks, and sessions next to each other."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgewise_edge import DeviceModel
from edgewise_edge.errors import RuntimeFailedError
from edgewise_edge.runtime.session import Runtime, Session
from tests.conftest import CONTEXT
from tests.edge.runtime.backends import FailingBackend

Logits = NDArray[np.float32]

TOKENS = [int(token) for token in np.random.default_rng(1).integers(0, 250, CONTEXT)]


def new_session(model: DeviceModel) -> Session:
    return model.runtime.session()


def forward_in_chunks(session: Session, tokens: list[int], chunk: int) -> Logits:
    """The logits after the last of `tokens`."""
    for start in range(0, len(tokens), chunk):
        logits = session.forward(tokens[start : start + chunk])
    return logits


@pytest.fixture(scope="module")
def one_by_one(exact_model: DeviceModel) -> list[Logits]:
    """The logits after each of TOKENS, which fill the window, from decode steps alone."""
    session = new_session(exact_model)
    return [session.forward([token]).copy() for token in TOKENS]


def assert_same(found: Logits, expected: Logits) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("length", [1, 2, 3, 63, 64, 65, 127, 128, 129, 191, 192])
def test_prefill_gives_the_logits_of_decode(
    exact_model: DeviceModel, one_by_one: list[Logits], length: int
) -> None:
    """A prompt of any length, in the largest chunks, with decode steps after it."""
    session = new_session(exact_model)
    found = forward_in_chunks(session, TOKENS[:length], exact_model.runtime.chunk)
    assert_same(found, one_by_one[length - 1])
    assert session.position == length
    for position in range(length, min(length + 3, CONTEXT)):
        assert_same(session.forward([TOKENS[position]]), one_by_one[position])


@pytest.mark.parametrize("chunk", [2, 31, 63, 64, 65, 100, 127, 128])
def test_logits_do_not_depend_on_the_chunk(
    exact_model: DeviceModel, one_by_one: list[Logits], chunk: int
) -> None:
    """Checked after every chunk, through the whole window."""
    session = new_session(exact_model)
    while session.position < CONTEXT:
        found = session.forward(TOKENS[session.position : session.position + chunk])
        assert_same(found, one_by_one[session.position - 1])


def test_prefill_and_decode_steps_may_alternate(
    exact_model: DeviceModel, one_by_one: list[Logits]
) -> None:
    """Single tokens between chunks, on both sides of where the cached rows are padded."""
    session = new_session(exact_model)
    for size in (1, 62, 1, 1, 2, 60, 1, 1, 1, 57, 1, 1, 3):
        found = session.forward(TOKENS[session.position : session.position + size])
        assert_same(found, one_by_one[session.position - 1])
    assert session.position == CONTEXT


def test_tokens_beyond_the_window_are_refused(
    exact_model: DeviceModel, one_by_one: list[Logits]
) -> None:
    """The session is unchanged, and can be continued."""
    session = new_session(exact_model)
    forward_in_chunks(session, TOKENS[:150], 128)
    with pytest.raises(RuntimeFailedError, match="at position 150"):
        session.forward(TOKENS[:43])
    assert session.tokens == TOKENS[:150]
    assert_same(session.forward(TOKENS[150:]), one_by_one[-1])
    with pytest.raises(RuntimeFailedError, match="at position 192"):
        session.forward([1])
    assert session.position == CONTEXT


@pytest.mark.parametrize("before", [10, 40, 64, 100])
def test_a_restarted_session_shows_no_trace(
    exact_model: DeviceModel, one_by_one: list[Logits], before: int
) -> None:
    """Of any number of earlier tokens."""
    session = new_session(exact_model)
    for token in reversed(TOKENS[-before:]):
        session.forward([token])
    session.restart()
    assert session.position == 0
    for position in range(3):
        assert_same(session.forward([TOKENS[position]]), one_by_one[position])
    assert_same(session.forward(TOKENS[3:30]), one_by_one[29])
    assert_same(session.forward(TOKENS[30:31]), one_by_one[30])


def test_sessions_may_alternate(exact_model: DeviceModel, one_by_one: list[Logits]) -> None:
    """Steps of different sizes on different caches."""
    short, long = new_session(exact_model), new_session(exact_model)
    forward_in_chunks(long, TOKENS[:130], 128)
    for position in range(20):
        assert_same(short.forward([TOKENS[position]]), one_by_one[position])
        assert_same(long.forward([TOKENS[130 + position]]), one_by_one[130 + position])
    assert_same(short.forward(TOKENS[20:40]), one_by_one[39])
    assert_same(long.forward(TOKENS[150:170]), one_by_one[169])


@pytest.mark.parametrize("threads", [1, 3])
def test_logits_do_not_depend_on_the_threads(
    exact_folder: Path, one_by_one: list[Logits], threads: int
) -> None:
    """In prefill and in decode."""
    session = new_session(DeviceModel.load(exact_folder, threads=threads))
    assert_same(session.forward(TOKENS[:100]), one_by_one[99])
    assert_same(session.forward(TOKENS[100:101]), one_by_one[100])


@pytest.mark.parametrize("tokens", [[7], [7, 8, 9]])
def test_a_failing_library_is_named(exact_model: DeviceModel, tokens: list[int]) -> None:
    """With the position; and the session is unchanged."""
    runtime = exact_model.runtime
    session = Runtime(FailingBackend(runtime.backend.signatures), runtime.architecture).session()
    with pytest.raises(RuntimeFailedError, match=r"a library failed at position 0: .* is broken"):
        session.forward(tokens)
    assert session.position == 0


def test_unaligned_rows_are_copied_into_the_cache(exact_model: DeviceModel) -> None:
    """With the same logits and rows as when prefill writes them in place."""
    in_place, tokens = exact_model.runtime, TOKENS[:90]
    assert in_place.attention.writes_in_place  # as for any width that is a multiple of 16
    copying = Runtime(in_place.backend, in_place.architecture)
    copying.attention.writes_in_place = False
    sessions = [runtime.session() for runtime in (in_place, copying)]
    expected, found = (
        [session.forward(part).copy() for part in (tokens[:50], tokens[50:])]
        for session in sessions
    )
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(sessions[1].cache.rows, sessions[0].cache.rows)


def test_loading_in_threads_leaves_standard_error_intact(exact_folder: Path) -> None:
    """Lines that other threads write meanwhile arrive, and LiteRT's do not."""
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
    # A busy machine takes so long to try a new model that a line says so.
    lines = [line for line in done.stderr.split("\n") if not line.startswith("trying the new")]
    assert sorted(lines) == sorted([*(f"line {n}" for n in range(200)), "end", ""])
