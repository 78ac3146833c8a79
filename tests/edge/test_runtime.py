"""The runtime against itself: tokens one by one and many at once, sessions side by side."""

import dataclasses
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

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
from edgewise_edge.errors import RuntimeFailedError
from edgewise_edge.runtime.backend import Ends, Memory, Shape, Step
from edgewise_edge.runtime.session import Runtime, Session
from edgewise_edge.store.manifest import MODEL_FILE, Architecture
from tests.conftest import CONTEXT, token_request

Logits = NDArray[np.float32]

TOKENS = [int(token) for token in np.random.default_rng(1).integers(0, 250, CONTEXT)]


def session(model: DeviceModel) -> Session:
    return model.runtime.session()


def read_in_chunks(reader: Session, tokens: list[int], chunk: int) -> Logits:
    """The logits after the last of `tokens`."""
    for start in range(0, len(tokens), chunk):
        logits = reader.read(tokens[start : start + chunk])
    return logits


@pytest.fixture(scope="module")
def one_by_one(exact_model: DeviceModel) -> list[Logits]:
    """The logits after each of TOKENS, which fill the window, read token by token."""
    reader = session(exact_model)
    return [reader.read([token]) for token in TOKENS]


def assert_same(found: Logits, expected: Logits) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("length", [1, 2, 3, 63, 64, 65, 127, 128, 129, 191, 192])
def test_a_prompt_of_any_length_means_what_its_tokens_mean(
    exact_model: DeviceModel, one_by_one: list[Logits], length: int
) -> None:
    """Read in the largest steps there are, and gone on from there token by token."""
    reader = session(exact_model)
    found = read_in_chunks(reader, TOKENS[:length], exact_model.runtime.chunk)
    assert_same(found, one_by_one[length - 1])
    assert reader.position == length
    for position in range(length, min(length + 3, CONTEXT)):
        assert_same(reader.read([TOKENS[position]]), one_by_one[position])


@pytest.mark.parametrize("chunk", [2, 31, 63, 64, 65, 100, 127, 128])
def test_chunks_do_not_show_in_the_logits(
    exact_model: DeviceModel, one_by_one: list[Logits], chunk: int
) -> None:
    """In pieces of any size, through the whole window, a text means the same at each of them."""
    reader = session(exact_model)
    while reader.position < CONTEXT:
        found = reader.read(TOKENS[reader.position : reader.position + chunk])
        assert_same(found, one_by_one[reader.position - 1])


def test_long_and_short_steps_may_take_turns(
    exact_model: DeviceModel, one_by_one: list[Logits]
) -> None:
    """Single tokens between chunks, on both sides of where the cached rows are rounded up."""
    reader = session(exact_model)
    for size in (1, 62, 1, 1, 2, 60, 1, 1, 1, 57, 1, 1, 3):
        found = reader.read(TOKENS[reader.position : reader.position + size])
        assert_same(found, one_by_one[reader.position - 1])
    assert reader.position == CONTEXT


def test_what_is_beyond_the_window_cannot_be_read(
    exact_model: DeviceModel, one_by_one: list[Logits]
) -> None:
    """A session that was refused is where it was before, and goes on."""
    reader = session(exact_model)
    read_in_chunks(reader, TOKENS[:150], 128)
    with pytest.raises(RuntimeFailedError, match="at position 150"):
        reader.read(TOKENS[:43])
    assert reader.tokens == TOKENS[:150]
    assert_same(reader.read(TOKENS[150:]), one_by_one[-1])
    with pytest.raises(RuntimeFailedError, match="at position 192"):
        reader.read([1])
    assert reader.position == CONTEXT


@pytest.mark.parametrize("before", [10, 40, 64, 100])
def test_a_session_that_starts_again_forgets(
    exact_model: DeviceModel, one_by_one: list[Logits], before: int
) -> None:
    """Whatever it read before, and wherever that ended."""
    reader = session(exact_model)
    for token in reversed(TOKENS[-before:]):
        reader.read([token])
    reader.restart()
    assert reader.position == 0
    for position in range(3):
        assert_same(reader.read([TOKENS[position]]), one_by_one[position])
    assert_same(reader.read(TOKENS[3:30]), one_by_one[29])
    assert_same(reader.read(TOKENS[30:31]), one_by_one[30])


def test_a_continuation_draws_what_the_unbroken_run_drew(exact_model: DeviceModel) -> None:
    """Stopped anywhere and asked again with the tokens so far, the text is the same."""
    settings = {"temperature": 1.0, "top_k": 0, "seed": 3, "repetition_penalty": 1.3}
    unbroken = list(exact_model.stream_tokens(token_request(TOKENS[:10], 40, **settings)))
    for cut in (1, 17, 39):
        resumed = token_request([*TOKENS[:10], *unbroken[:cut]], 40 - cut, **settings)
        assert list(exact_model.stream_tokens(resumed)) == unbroken[cut:]


def test_the_whole_window_can_be_used(exact_model: DeviceModel) -> None:
    """Prompt and answer may fill the context window to the last token, where the text ends."""
    room = CONTEXT - 100
    tokens = list(exact_model.stream_tokens(token_request(TOKENS[:100], room)))
    assert len(tokens) == room
    more = list(exact_model.stream_tokens(token_request(TOKENS[:100], 10 * CONTEXT)))
    assert more == tokens
    with pytest.raises(ContextOverflowError, match=str(CONTEXT)):
        exact_model.stream_tokens(token_request(TOKENS[:CONTEXT], 1))


def test_a_sliding_window_goes_on_from_the_last_half(exact_model: DeviceModel) -> None:
    """Twice over the end of the window, each time as if the half were all there is."""
    wanted = dataclasses.replace(
        token_request(TOKENS[:150], 200, temperature=0), sliding_window=True
    )
    found = list(exact_model.stream_tokens(wanted))
    text, reader, new = TOKENS[:150], session(exact_model), TOKENS[:150]
    for _ in range(200):
        if reader.position + len(new) > CONTEXT:
            reader, new = session(exact_model), text[-CONTEXT // 2 :]
        text.append(int(read_in_chunks(reader, new, 128).argmax()))
        new = text[-1:]
    assert found == text[150:]


def test_requests_nobody_could_answer_are_refused_at_once(exact_model: DeviceModel) -> None:
    """No prompt, no tokens wanted, ids that do not exist."""
    for tokens, count in (([], 1), ([1], 0), ([1], -5), ([100_000], 1)):
        with pytest.raises(RequestError):
            exact_model.stream_tokens(token_request(tokens, count))


def test_sessions_in_threads_do_not_disturb_each_other(exact_model: DeviceModel) -> None:
    """Texts of different lengths written at once are those written one after the other."""
    lengths = (1, 30, 64, 100, 150)
    requests = [token_request(TOKENS[n : n + n], 40, seed=n) for n in lengths]
    expected = [list(exact_model.stream_tokens(one)) for one in requests]
    model = DeviceModel(exact_model.manifest, exact_model.tokenizer, exact_model.runtime, 0)

    def write(request: TokenRequest) -> list[int]:
        return list(model.stream_tokens(request))

    with ThreadPoolExecutor(len(lengths)) as pool:
        assert list(pool.map(write, requests)) == expected


def test_sessions_may_take_turns_token_by_token(
    exact_model: DeviceModel, one_by_one: list[Logits]
) -> None:
    """Steps of different sizes on different caches, one after the other."""
    short, long = session(exact_model), session(exact_model)
    read_in_chunks(long, TOKENS[:130], 128)
    for position in range(20):
        assert_same(short.read([TOKENS[position]]), one_by_one[position])
        assert_same(long.read([TOKENS[130 + position]]), one_by_one[130 + position])
    assert_same(short.read(TOKENS[20:40]), one_by_one[39])
    assert_same(long.read(TOKENS[150:170]), one_by_one[169])


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


class OtherModel:
    """A library whose model has these signatures, and fails whenever it runs."""

    name = "a library"

    def __init__(self, signatures: dict[str, Ends]) -> None:
        self.signatures = signatures

    def bind(self, signature: str, _inputs: Memory, _outputs: Memory) -> Step:
        def step() -> None:
            raise ValueError(f"{signature} is broken")

        return step


@pytest.mark.parametrize("name", ["decode", "prefill"])
def test_a_model_without_a_signature_is_refused(exact_model: DeviceModel, name: str) -> None:
    """It is named, and so are those that are there."""
    runtime = exact_model.runtime
    others = {key: ends for key, ends in runtime.backend.signatures.items() if key != name}
    with pytest.raises(ModelIncompatibleError, match=rf"no signature '{name}', it has \['"):
        Runtime(OtherModel(others), runtime.architecture)
    Runtime(OtherModel(dict(runtime.backend.signatures)), runtime.architecture)


ENDS = [
    ("decode", "inputs", "tokens"),
    ("decode", "inputs", "key_0"),
    ("decode", "outputs", "new_value_1"),
    ("decode", "outputs", "logits"),
    ("prefill", "inputs", "positions"),
    ("prefill", "inputs", "mask"),
    ("prefill", "inputs", "last"),
    ("prefill", "outputs", "new_key_1"),
]


def with_end(
    model: DeviceModel, signature: str, kind: str, change: Callable[[dict[str, Shape]], object]
) -> OtherModel:
    """The model's signatures after a `change` of one's inputs or outputs."""
    signatures = dict(model.runtime.backend.signatures)
    ends = dict(getattr(signatures[signature], kind))
    change(ends)
    signatures[signature] = dataclasses.replace(signatures[signature], **{kind: ends})
    return OtherModel(signatures)


@pytest.mark.parametrize(("signature", "kind", "end"), ENDS)
def test_a_signature_that_lacks_an_end_is_refused(
    exact_model: DeviceModel, signature: str, kind: str, end: str
) -> None:
    """Both are named."""
    model = with_end(exact_model, signature, kind, lambda ends: ends.pop(end))
    with pytest.raises(
        ModelIncompatibleError, match=rf"{kind} of .*'{signature}' lack \['{end}'\]"
    ):
        Runtime(model, exact_model.runtime.architecture)


@pytest.mark.parametrize(("signature", "kind"), [("decode", "inputs"), ("prefill", "outputs")])
def test_a_signature_with_an_end_too_many_is_refused(
    exact_model: DeviceModel, signature: str, kind: str
) -> None:
    """A model for a later runtime, say: nobody knows what the end is for."""
    model = with_end(exact_model, signature, kind, lambda ends: ends.update(surprise=(1,)))
    with pytest.raises(ModelIncompatibleError, match=rf"'{signature}' lack .*'surprise'"):
        Runtime(model, exact_model.runtime.architecture)


@pytest.mark.parametrize(
    ("signature", "kind", "end", "shape"),
    [
        ("decode", "inputs", "tokens", (1, 1)),
        ("decode", "inputs", "mask", (1,)),
        ("decode", "inputs", "key_1", (1, 3, 8)),
        ("decode", "outputs", "new_key_0", (1, 2, 4)),
        ("decode", "outputs", "logits", (1, 264)),
        ("prefill", "inputs", "last", (2,)),
        ("prefill", "inputs", "value_0", (1, 16)),
        ("prefill", "outputs", "new_value_1", (1, 2, 16)),
        ("prefill", "outputs", "logits", (263,)),
    ],
)
def test_an_end_of_another_shape_is_refused(
    exact_model: DeviceModel, signature: str, kind: str, end: str, shape: Shape
) -> None:
    """The end, its signature and its shape are named: memory made for it would not fit."""
    model = with_end(exact_model, signature, kind, lambda ends: ends.update({end: shape}))
    with pytest.raises(
        ModelIncompatibleError, match=rf"^{end} of .*'{signature}' .*{re.escape(str(shape))}"
    ):
        Runtime(model, exact_model.runtime.architecture)


@pytest.mark.parametrize("tokens", [[7], [7, 8, 9]])
def test_a_library_that_fails_is_named(exact_model: DeviceModel, tokens: list[int]) -> None:
    """With where it happened; and the session has read nothing."""
    runtime = exact_model.runtime
    reader = Runtime(OtherModel(runtime.backend.signatures), runtime.architecture).session()
    with pytest.raises(RuntimeFailedError, match=r"a library failed at position 0: .* is broken"):
        reader.read(tokens)
    assert reader.position == 0


@pytest.mark.parametrize("threads", [0, -1, -4])
def test_no_threads_are_too_few(exact_folder: Path, threads: int) -> None:
    """Before anything is loaded."""
    with pytest.raises(RequestError, match=f"threads is {threads}"):
        DeviceModel.load(exact_folder, threads=threads)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_show_in_the_logits(
    exact_folder: Path, one_by_one: list[Logits], threads: int
) -> None:
    """However many there are."""
    reader = session(DeviceModel.load(exact_folder, threads=threads))
    assert_same(reader.read(TOKENS[:100]), one_by_one[99])
    assert_same(reader.read(TOKENS[100:101]), one_by_one[100])


def test_reading_a_prompt_can_be_cancelled(exact_model: DeviceModel) -> None:
    """Before the first token, from outside."""
    cancelled = threading.Event()
    cancelled.set()
    assert list(exact_model.stream_tokens(token_request(TOKENS[:100], 5), cancelled)) == []


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
    """Completing a prompt makes no socket; and LiteRT's log lines stay off standard error."""
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


def test_a_prompt_reads_the_same_where_rows_are_not_aligned(
    exact_model: DeviceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that cannot be written to the cache at once are copied there."""
    runtime, tokens = exact_model.runtime, TOKENS[:90]
    assert runtime._in_place  # as for any width that 16 divides
    at_once = runtime.session()
    at_once.read(tokens[:50])
    expected = at_once.read(tokens[50:])
    monkeypatch.setattr(runtime, "_in_place", False)
    copied = runtime.session()
    copied.read(tokens[:50])
    np.testing.assert_array_equal(copied.read(tokens[50:]), expected)
    np.testing.assert_array_equal(copied.cache.rows, at_once.cache.rows)
