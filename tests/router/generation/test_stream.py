"""Streams of a router on the real runtime with a tiny model."""

import threading
import time
from itertools import zip_longest
from operator import attrgetter
from pathlib import Path

import pytest

from edgewise import Reason, Source
from tests.router.routers import new_router
from tests.support.garbage_collection import collect_within


def test_generate_returns_what_stream_yields(exact_folder: Path) -> None:
    """The same text; the result accounts for every token."""
    options = {"max_tokens": 30, "seed": 4, "temperature": 1.0}
    with new_router(exact_folder) as router:
        whole = router.generate("the", **options)
        with router.stream("the", **options) as stream:
            chunks = list(stream)
    assert "".join(chunk.text for chunk in chunks) == whole.text == stream.generation.text
    assert sum(len(chunk.token_ids) for chunk in chunks) <= 30
    assert len(whole.token_ids) == whole.usage.completion_tokens == 30
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 30
    assert [(part.source, part.start, part.tokens) for part in whole.segments] == [
        (Source.ON_DEVICE, 0, 30)
    ]
    assert (whole.finish_reason, whole.source, whole.seed) == ("length", "on_device", 4)
    assert whole.decision.reason is Reason.PREFERRED
    assert 0 < whole.timings.time_to_first_token < whole.timings.total


def test_closing_stops_the_device_and_keeps_the_answer_so_far(exact_folder: Path) -> None:
    """Nothing runs on the device when close returns."""
    with new_router(exact_folder) as router:
        stream = router.stream("the", max_tokens=100, seed=1)
        first = [next(stream) for _ in range(3)]
        stream.close()
        generation = stream.generation
        assert generation.finish_reason == "cancelled"
        assert generation.text.startswith("".join(chunk.text for chunk in first))
        assert 3 <= len(generation.token_ids) < 100
        assert router.device_source.running == []
        assert list(stream) == []


def test_breaking_out_of_the_loop_stops_the_device(exact_folder: Path) -> None:
    """Without a call to close. The next request is answered."""
    with new_router(exact_folder) as router:
        for _ in router.stream("the", max_tokens=100):
            break
        assert router.device_source.running == []
        assert router.generate("the", max_tokens=3).usage.completion_tokens == 3


def test_two_streams_may_be_read_alternately(exact_folder: Path) -> None:
    """In one thread; each has the text that it would have alone."""
    options = {"max_tokens": 20, "temperature": 0}
    with new_router(exact_folder) as router:
        alone = [router.generate(prompt, **options).text for prompt in ("the", "win")]
        with router.stream("the", **options) as one, router.stream("win", **options) as two:
            texts = ["", ""]
            for first, second in zip_longest(one, two):
                texts[0] += first.text if first else ""
                texts[1] += second.text if second else ""
    assert texts == alone


def test_another_thread_may_close_a_stream(exact_folder: Path) -> None:
    """The reader's loop ends, and the generation is cancelled."""
    endless = {"max_tokens": 10**6, "sliding_window": True, "temperature": 0.0}
    with new_router(exact_folder) as router:
        stream = router.stream("the", **endless)
        next(stream)
        closer = threading.Timer(0.01, stream.close)
        closer.start()
        for _ in stream:
            pass
        closer.join()
    assert stream.generation.finish_reason == "cancelled"


def test_predictions_leave_out_the_time_of_a_slow_reader(exact_folder: Path) -> None:
    """They follow the time in which tokens are generated."""
    pause = 0.1  # seconds
    with new_router(exact_folder) as router:
        router.warm_up()
        started, pauses = time.monotonic(), 0
        for _ in router.stream("the", max_tokens=5, temperature=0):
            time.sleep(pause)
            pauses += 1
        elapsed = time.monotonic() - started
        predicted = router.route("the", max_tokens=5).predicted[Source.ON_DEVICE]
    assert pauses > 2
    assert predicted.total < elapsed - (pauses - 1) * pause


def test_stop_may_be_a_single_string(exact_folder: Path) -> None:
    """It is not taken for a list of characters."""
    with new_router(exact_folder) as router:
        text = router.generate("the", max_tokens=60, seed=2).text
        stop = text[5:8]
        short = router.generate("the", max_tokens=60, seed=2, stop=stop)
    assert (short.text, short.finish_reason) == (text[: text.index(stop)], "stop")


@pytest.mark.parametrize("lock", ["latency.lock", "latency.save_lock", "device_source.lock"])
def test_stream_may_be_garbage_collected_while_a_lock_is_held(
    exact_folder: Path, lock: str
) -> None:
    """The collector runs in any thread at any time, also in one that holds a lock."""
    router = new_router(exact_folder)
    streams = [router.stream("the", max_tokens=50)]
    next(streams[0])
    assert collect_within(attrgetter(lock)(router), streams)
    assert router.device_source.running == []
    router.close()
