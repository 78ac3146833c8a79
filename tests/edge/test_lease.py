"""A model that many threads use: loaded once, and unloaded only while nobody needs it."""

import random
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgewise_edge import ModelError
from edgewise_edge.lease import SharedModel


class Model:
    """Stands for a loaded model."""


def test_first_leases_at_once_share_one_load() -> None:
    """Those that come during the load wait for it."""
    loads, others = [], threading.Event()

    def load() -> Model:
        others.wait(60)
        loads.append(Model())
        return loads[-1]

    shared, entered = SharedModel(load), threading.Semaphore(0)

    def use() -> object:
        entered.release()
        with shared.lease() as model:
            return model

    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(use) for _ in range(4)]
        for _ in range(4):
            entered.acquire(timeout=60)
        others.set()
        assert {id(future.result(60)) for future in found} == {id(loads[0])}
    assert len(loads) == 1


def test_a_leased_model_is_not_unloaded() -> None:
    """Whenever that was asked for: it is unloaded when the last lease ends, and loaded again later."""
    loads = []

    def load() -> Model:
        shared.unload()  # during the load
        loads.append(Model())
        return loads[-1]

    shared = SharedModel(load)
    with shared.lease() as model:
        assert shared.model is model
        shared.unload()
        with shared.lease() as same:
            assert same is model
        assert shared.model is model
    assert shared.model is None
    with shared.lease() as model:
        assert model is loads[1]


def test_an_unused_model_is_unloaded_at_once() -> None:
    """And one that is not loaded may be unloaded too, which does not count for the next load."""
    shared = SharedModel(Model)
    shared.unload()
    with shared.lease():
        pass
    assert shared.model
    shared.unload()
    assert shared.model is None


def test_a_load_that_fails_is_tried_again() -> None:
    """By the next lease; the failed one leaves nothing behind."""
    outcomes = [ModelError("for once"), Model()]

    def load() -> Model:
        if isinstance(outcomes[0], Exception):
            raise outcomes.pop(0)
        return outcomes[0]

    shared = SharedModel(load, keep_alive=0.0)
    with pytest.raises(ModelError, match="for once"), shared.lease():
        pass
    with shared.lease() as model:
        assert model is outcomes[0]
    while shared.model:  # the test's timeout is the limit
        pass


def test_in_any_order_one_model_is_in_memory() -> None:
    """Threads lease and unload; the timer unloads between them."""
    alive = weakref.WeakSet()
    most = [0]

    def load() -> Model:
        model = Model()
        alive.add(model)
        most[0] = max(most[0], len(alive))
        return model

    shared = SharedModel(load, keep_alive=0.0)

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(150):
            with shared.lease() as model:
                assert shared.model is model
                if chance.random() < 0.5:
                    shared.unload()
                if chance.random() < 0.5:
                    with shared.lease() as same:
                        assert same is model
                assert shared.model is model
            del model
            same = None

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, seed) for seed in range(4)]:
            done.result(60)
    assert most[0] == 1
