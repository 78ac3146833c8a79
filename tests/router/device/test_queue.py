"""The device's places: who gets one, who waits, and who is refused."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from edgewise import Limits, NoSourceError, Router, Source, VetoCode
from edgewise.device.queue import DeviceQueue
from edgewise.errors import DeviceBusyError
from edgewise.generation.attempt import Attempt
from edgewise.testing import ScriptedCloud, ScriptedDevice, waits_for

ONE = Limits(max_queue=1, queue_timeout=60)


def new_attempt(*, may_wait: bool = True) -> Attempt:
    return Attempt(Source.ON_DEVICE, 1, 1, run=lambda _: iter(()), may_wait=may_wait)


class Waiting:
    """Attempts that take a place in threads of their own, and keep it until `leave` is set."""

    def __init__(self, queue: DeviceQueue) -> None:
        self.queue, self.leave = queue, threading.Event()
        self.placed: list[Attempt] = []

    def take(self, attempt: Attempt) -> None:
        with self.queue.place(attempt, ONE):
            self.placed.append(attempt)
            self.leave.wait(60)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def waits(queue: DeviceQueue, count: int) -> bool:
    return queue.waiting == count


def until(found: Callable[[], object]) -> None:
    """The test's timeout is the limit."""
    while not found():
        threading.Event().wait(0.005)


def test_waiting_attempts_get_places_in_their_order(pool: ThreadPoolExecutor) -> None:
    """So that none starves; one that is stopped while it waits goes on at once."""
    queue, attempts = DeviceQueue(), [new_attempt() for _ in range(4)]
    others = Waiting(queue)
    with queue.place(new_attempt(), ONE):
        for count, attempt in enumerate(attempts, 1):
            pool.submit(others.take, attempt)
            until(partial(waits, queue, count))
        attempts[1].stop.set()
        until(lambda: queue.waiting == 3)
        assert others.placed == [attempts[1]]
        with (
            pytest.raises(DeviceBusyError) as refused,
            queue.place(new_attempt(may_wait=False), ONE),
        ):
            pass
        assert refused.value.soft
    others.leave.set()
    until(lambda: len(others.placed) == 4)
    assert others.placed == [attempts[1], attempts[0], attempts[2], attempts[3]]


def test_attempt_without_a_place_in_time_is_refused() -> None:
    """For good: it has waited."""
    queue = DeviceQueue()
    limits = Limits(max_queue=1, queue_timeout=0.01)
    with (
        queue.place(new_attempt(), limits),
        pytest.raises(DeviceBusyError, match=r"no place within 0\.01 s") as refused,
        queue.place(new_attempt(), limits),
    ):
        pass
    assert not refused.value.soft
    assert queue.waiting == 0


def test_many_texts_at_once_are_all_answered(pool: ThreadPoolExecutor) -> None:
    """A refusal would be an error that an app has to handle for nothing."""
    started = threading.Event()
    with Router(ScriptedDevice("a fox", waits_for(started)), limits=ONE) as router:
        texts = [pool.submit(router.generate, "Once") for _ in range(8)]
        started.set()
        assert {text.result(60).text for text in texts} == {"a fox"}


@pytest.mark.parametrize("reachable", [True, False])
def test_device_is_waited_for_only_if_the_cloud_does_not_answer(
    pool: ThreadPoolExecutor, reachable: bool
) -> None:
    """A busy device yields to the cloud at once; if that fails, the request waits for the device."""
    go_on = threading.Event()
    device, cloud = ScriptedDevice("a fox", waits_for(go_on)), ScriptedCloud("a fox")
    cloud.reachable = reachable
    with Router(device, cloud=cloud, limits=ONE) as router:
        first, second = router.stream("Once"), router.stream("Once")  # both for an idle device
        one = pool.submit(list, first)
        until(lambda: device.running)
        two = pool.submit(list, second)
        if not reachable:
            go_on.set()
        assert "".join(chunk.text for chunk in two.result(60)) == "a fox"
        assert second.generation.source is (Source.IN_CLOUD if reachable else Source.ON_DEVICE)
        go_on.set()
        one.result(60)


def test_private_text_is_refused_with_the_reason_after_the_wait() -> None:
    """Nothing else may answer it."""
    hanging = threading.Event()
    device = ScriptedDevice("a fox", waits_for(hanging))
    with Router(device, limits=Limits(max_queue=1, queue_timeout=0.01)) as router:
        first = router.stream("Once")
        reader = threading.Thread(target=list, args=[first])
        reader.start()
        until(lambda: device.running)
        with pytest.raises(NoSourceError, match="no place within") as refused:
            router.generate("Once", privacy="private")
        assert refused.value.vetoes[Source.ON_DEVICE].code is VetoCode.QUEUE_FULL
        assert isinstance(refused.value.failures[Source.ON_DEVICE], DeviceBusyError)
        hanging.set()
        reader.join()
