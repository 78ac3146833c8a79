"""The device as a source: when its model is in memory, what it allows, and what it measures."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from edgewise import (
    Availability,
    ConfigurationError,
    LatencyLog,
    Limits,
    ModelError,
    Router,
    VetoCode,
)
from edgewise.device.source import DeviceSource
from edgewise.errors import DeviceBusyError
from edgewise.generation.attempt import StopSignal
from edgewise.policy.types import Veto
from edgewise_edge import DeviceModel, SamplingParams, TokenRequest
from tests.support.damaged_folder import copied_model

PROMPT = (10, 20, 30)


def new_source(**settings: object) -> DeviceSource:
    """The bundled model; its measurements are not saved."""
    return DeviceSource("tales", LatencyLog(), **settings)


def new_request(max_tokens: int = 5, **options: object) -> TokenRequest:
    return TokenRequest(
        token_ids=PROMPT,
        prompt_tokens=len(PROMPT),
        max_tokens=max_tokens,
        sampling=SamplingParams(temperature=0),
        **options,
    )


def generate(source: DeviceSource, max_tokens: int = 5) -> list[int]:
    with source.open(new_request(max_tokens)) as attempt:
        return list(attempt)


def loaded(source: DeviceSource) -> bool:
    return source.availability().loaded


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll; the test's timeout is the limit."""
    while not condition():
        time.sleep(0.01)


def wait_until_unloaded(source: DeviceSource) -> None:
    wait_until(lambda: not loaded(source))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """An entry for each load of a model."""
    loads, load = [], DeviceModel.load

    def counting_load(*arguments: object, **options: object) -> DeviceModel:
        loads.append(arguments)
        return load(*arguments, **options)

    monkeypatch.setattr(DeviceModel, "load", counting_load)
    return loads


def test_new_source_has_not_loaded_its_model() -> None:
    """The model is available, and needs memory to load."""
    source = new_source()
    found = source.availability()
    assert (found.status, found.loaded) == (Availability.AVAILABLE, False)
    assert str(found) == "available, not loaded"
    assert source.state(PROMPT, 5).memory_needed == source.manifest.memory > 0


def test_warm_up_loads_the_model_and_unload_drops_it() -> None:
    """By default it stays loaded; a loaded model needs no more memory."""
    source = new_source()
    source.warm_up()
    assert str(source.availability()) == "available, loaded"
    assert source.state(PROMPT, 5).memory_needed == 0
    source.unload()
    assert not loaded(source)
    assert source.state(PROMPT, 5).memory_needed == source.manifest.memory


def test_model_that_is_being_loaded_needs_no_more_memory() -> None:
    """A second request during the load uses the same model."""
    source = new_source()
    with source.loading:
        assert source.state(PROMPT, 5).memory_needed == 0


def test_idle_model_is_unloaded_and_loaded_again_when_needed() -> None:
    """It then generates the same tokens."""
    source = new_source(keep_alive=0.05)
    tokens = generate(source)
    wait_until_unloaded(source)
    assert generate(source) == tokens


def test_idle_time_starts_with_warm_up() -> None:
    """A model that was loaded ahead and never used is unloaded too."""
    source = new_source(keep_alive=0.05)
    source.warm_up()
    wait_until_unloaded(source)


def test_running_attempt_keeps_the_model_loaded() -> None:
    """Even with no idle time at all and a slow reader."""
    source = new_source(keep_alive=0.0)
    with source.open(new_request(30)) as attempt:
        next(attempt)
        time.sleep(0.1)
        assert loaded(source)
        assert len(list(attempt)) == 29
    wait_until_unloaded(source)


def test_model_stays_loaded_until_the_last_attempt_has_ended() -> None:
    """The end of another one starts no idle time."""
    source = new_source(keep_alive=0.0)
    with source.open(new_request(30)) as attempt:
        next(attempt)
        generate(source)
        time.sleep(0.1)
        assert loaded(source)
    wait_until_unloaded(source)


def test_attempt_that_starts_when_the_idle_time_ends_keeps_the_model() -> None:
    """The timer has fired and waits for the lock, under which the attempt starts."""
    before = set(threading.enumerate())
    source = new_source(keep_alive=0.01)
    source.warm_up()
    with source.open(new_request(30)) as attempt:
        with source.lock:
            time.sleep(0.1)  # the timer fires
            next(attempt)
        for timer in set(threading.enumerate()) - before:
            timer.join()
        assert loaded(source)


def test_attempt_loads_the_model_once(loads: list[object]) -> None:
    """The model is not idle between its load and the first token."""
    source = new_source(keep_alive=0.0)
    for _ in range(3):
        loads.clear()
        generate(source)
        assert len(loads) == 1
        wait_until_unloaded(source)


def test_handoff_for_lack_of_memory_unloads_the_model() -> None:
    """Other handoffs keep it."""
    source = new_source()
    for code, stays in ((VetoCode.BATTERY, True), (VetoCode.MEMORY, False)):
        with source.open(new_request(30)) as attempt:
            next(attempt)
            attempt.hand_off(Veto(code, "a test's veto"))
            list(attempt)
        assert loaded(source) is stays


@pytest.mark.parametrize(
    "settings",
    [{"keep_alive": -1.0}, {"keep_alive": float("nan")}, {"threads": 0}, {"threads": -2}],
)
def test_invalid_settings_are_refused(settings: dict[str, float]) -> None:
    """Before anything is loaded; the error names the setting."""
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        Router(**settings)


def test_unknown_model_is_refused() -> None:
    """The error names it."""
    with pytest.raises(ModelError, match="no-such-model"):
        DeviceSource("no-such-model", LatencyLog())


@pytest.mark.parametrize("sliding_window", [False, True])
def test_attempt_allows_as_many_tokens_as_fit_the_context_window(sliding_window: bool) -> None:
    """A sliding window allows all."""
    source = new_source()
    window = source.manifest.architecture.context_window
    request = new_request(2 * window, sliding_window=sliding_window)
    allowed = 2 * window if sliding_window else window - len(PROMPT)
    assert source.open(request).max_tokens == allowed


def test_attempt_over_the_queue_limit_fails() -> None:
    """The attempts that run are not affected, and the next one after them may run."""
    source, limits = new_source(), Limits(max_queue=2)
    tokens = generate(source)
    running = [source.open(new_request(), limits=limits) for _ in range(2)]
    first_tokens = [next(attempt) for attempt in running]
    assert source.state(PROMPT, 5).queue_length == 2
    with (
        source.open(new_request(), limits=limits) as attempt,
        pytest.raises(DeviceBusyError, match="running 2"),
    ):
        next(attempt)
    for first, attempt in zip(first_tokens, running, strict=True):
        assert [first, *attempt] == tokens
    assert generate(source) == tokens


def test_concurrent_attempts_are_not_measured() -> None:
    """They slow each other down, and predictions are for one that runs alone."""
    source = new_source()
    first = source.open(new_request())
    next(first)
    generate(source)
    list(first)
    assert not source.measured
    generate(source)
    assert source.measured


def test_calibration_measures_the_device() -> None:
    """Before it no time is predicted."""
    source = new_source()
    assert source.state(PROMPT, 5).predicted.total is None
    source.calibrate()
    assert source.measured
    predicted = source.state(PROMPT, 5).predicted
    assert 0 < predicted.first_token < predicted.total


def test_concurrent_first_attempts_share_one_load(loads: list[object]) -> None:
    """The second one waits for the first one's load."""
    source = new_source()
    threads = [threading.Thread(target=generate, args=(source,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1


def test_model_unloaded_as_an_attempt_starts_stays_for_the_attempt(loads: list[object]) -> None:
    """Otherwise its own memory would count as missing, and the next attempt would load a copy."""

    class UnloadingLog(LatencyLog):
        def add_load_time(self, key: str, seconds: float) -> None:
            source.unload()

    source = DeviceSource("tales", UnloadingLog())
    with source.open(new_request()) as attempt:
        next(attempt)
        assert loaded(source)
        assert source.state(PROMPT, 5).memory_needed == 0
        generate(source)
    assert len(loads) == 1
    assert not loaded(source)


def test_unloading_waits_for_the_running_attempts(loads: list[object]) -> None:
    """Those that start meanwhile share their model."""
    source = new_source()
    with source.open(new_request(30)) as attempt:
        next(attempt)
        source.unload()
        generate(source)
        assert loaded(source)
    assert len(loads) == 1
    assert not loaded(source)


def test_score_agrees_with_what_a_generation_said_of_its_tokens() -> None:
    """To what int8 loses by other chunks: a token out of line would differ by whole units.

    A generation after the same tokens continues from there.
    """
    source = new_source()
    with Router(source) as router:
        told = router.generate(
            "Once upon a time", max_tokens=24, temperature=0, repetition_penalty=1, logprobs=2
        )
        prompt = (*source.tokenizer.encode("Once upon a time"), *told.token_ids)
        score = router.score(prompt, top=2)
        assert source.model.cached_prefix(prompt) == len(prompt) - 1
    assert score.token_ids == prompt
    for said, scored in zip(told.logprobs, score.tokens[-24:], strict=True):
        assert said.logprob == pytest.approx(scored.logprob, abs=0.3)
        assert said.top[0] == (said.token_id, said.logprob)  # greedy takes the likeliest


def test_score_loads_the_model_and_is_not_learned_from() -> None:
    """Its time is that of no generation."""
    source = new_source()
    assert len(source.score(new_request(0), 0, StopSignal(), limits=Limits())) == len(PROMPT)
    assert loaded(source)
    assert not source.measured
    assert not source.running


def test_score_waits_for_a_place_or_is_refused() -> None:
    """As an attempt, within the limits of the device."""
    source, full = new_source(), Limits(max_queue=1, queue_timeout=0.01)
    with source.open(new_request(30), limits=full) as attempt:
        next(attempt)
        for may_wait in (False, True):
            with pytest.raises(DeviceBusyError) as refused:
                source.score(new_request(0), 0, StopSignal(), limits=full, may_wait=may_wait)
            assert refused.value.soft is not may_wait


class Replacing:
    """A Watch that has another revision."""

    def __init__(self, other: DeviceSource) -> None:
        self.other = other
        self.failures: list[Exception] = []

    def starting(self) -> AbstractContextManager[None]:
        return nullcontext()

    def successor(self, _source: DeviceSource, error: Exception) -> DeviceSource:
        self.failures.append(error)
        return self.other


def test_damaged_revision_is_replaced_for_a_score_too(tmp_path: Path) -> None:
    """By the one that a generation would continue on."""
    watch = Replacing(new_source())
    damaged = DeviceSource(copied_model(tmp_path / "copy"), LatencyLog(), watch=watch)
    (damaged.folder / "model.tflite").write_bytes(b"damaged")
    assert len(damaged.score(new_request(0), 0, StopSignal())) == len(PROMPT)
    assert isinstance(watch.failures[0], ModelError)


def test_replacement_with_too_small_a_window_is_none_for_a_score(tmp_path: Path) -> None:
    """The failure of the first is what the router learns, so that it may ask the cloud."""
    other = new_source()
    shape = replace(other.manifest.architecture, context_window=len(PROMPT) - 1)
    other.manifest = replace(other.manifest, architecture=shape)
    damaged = DeviceSource(copied_model(tmp_path / "copy"), LatencyLog(), watch=Replacing(other))
    (damaged.folder / "model.tflite").write_bytes(b"damaged")
    with pytest.raises(ModelError):
        damaged.score(new_request(0), 0, StopSignal())
