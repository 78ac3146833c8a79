"""Odd types for the options of public functions: a typed error that names the option."""

import threading
from collections.abc import Callable, Mapping
from decimal import Decimal
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewise import (
    CloudTimeouts,
    ConfigurationError,
    EdgewiseError,
    LatencyLog,
    Limits,
    Router,
)
from edgewise.testing import (
    ScriptedCloud,
    ScriptedDevice,
    ends_after,
    fails_after,
    hands_off_after,
    hangs_after,
    waits_for,
)
from edgewise_edge import (
    DeviceModel,
    SamplingParams,
    TextAssembler,
    complete,
    find_model,
)


@Real.register
class BrokenNumber:
    """Of a library whose conversion fails."""

    def __float__(self) -> float:
        raise RuntimeError("cannot be converted")


ODD: list[object] = [None, True, "5", b"x", [1], object(), 1.5, Decimal("sNaN"), np.float64("nan")]
ODD += [np.timedelta64(5, "s"), np.timedelta64(5), np.datetime64(5, "s"), BrokenNumber()]
ODD += [np.array([1.0, 2.0])]  # has no truth value


async def asynchronous(_prompt: str) -> str:
    """A hook that would have to be awaited."""
    return "private"


def ask(**options: Any) -> object:
    """Ask a scripted router."""
    with Router(ScriptedDevice("A")) as router:
        return router.generate("A", **options)


def change(**options: Any) -> None:
    """Change a scripted text."""
    with Router(ScriptedDevice("A")) as router, router.stream("A") as stream:
        stream.change(**options)


# A function, its option, and the values among ODD that it takes.
CALLS: list[tuple[Callable[..., object], str, tuple[object, ...]]] = [
    (complete, "max_tokens", ()),
    (complete, "stop", ("5",)),
    (complete, "sliding_window", (True,)),
    (complete, "temperature", (None, 1.5)),
    (complete, "seed", (None,)),
    (complete, "model", ()),
    (find_model, "model", ()),
    (DeviceModel.load, "model", ()),
    (DeviceModel.load, "threads", (None,)),
    (DeviceModel.load, "prefix_memory", ()),
    (SamplingParams, "top_k", ()),
    (SamplingParams, "presence_penalty", (1.5,)),
    (SamplingParams, "logit_bias", ()),
    (ask, "logprobs", (None,)),
    (ask, "logit_bias", (None,)),
    (ask, "device", (None,)),
    (change, "privacy", (None,)),
    (change, "first_token_budget", (None, 1.5)),
    (TextAssembler, "stop", ("5",)),
    (ask, "max_tokens", (None,)),
    (ask, "stop", (None, "5")),
    (ask, "latency_budget", (None, 1.5)),
    (ask, "mode", (None,)),
    (ask, "privacy", (None,)),
    (Limits, "max_queue", ()),
    (CloudTimeouts, "connect", (1.5,)),
    (LatencyLog, "path", (None, "5")),
    (ScriptedDevice, "answer", ("5",)),
    (ScriptedDevice, "context_window", ()),
    (ScriptedDevice, "availability", ()),
    (ScriptedDevice, "memory", ()),
    (ScriptedDevice, "first_token", (None, 1.5)),
    (ScriptedCloud, "reachable", (True,)),
    (ScriptedCloud, "busy_for", (1.5,)),
    (ScriptedCloud, "tokenizer", ()),
    (fails_after, "count", ()),
    (ends_after, "count", ()),
    (hands_off_after, "count", ()),
    (hangs_after, "count", ()),
    (waits_for, "event", ()),
]


@pytest.mark.parametrize(("call", "option", "valid"), CALLS)
def test_odd_type_is_a_typed_error_that_names_the_option(
    call: Callable[..., object], option: str, valid: tuple[object, ...]
) -> None:
    """Never a TypeError or AttributeError from inside."""
    arguments = ("A",) if call is complete else ()
    for value in ODD:
        if any(value is one for one in valid):
            continue
        with pytest.raises(EdgewiseError, match=option.replace("stop", "stop|a stop string")):
            call(*arguments, **{option: value})


@pytest.mark.parametrize("prompt", [None, True, 5, b"x", ["A"]])
def test_prompt_that_is_not_text_is_refused(prompt: Any) -> None:
    """By both packages, before a model is loaded."""
    for call in (complete, Router(ScriptedDevice()).stream):
        with pytest.raises(EdgewiseError, match=r"prompt('s item 0)? is of type"):
            call(prompt)


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": np.int64(2), "temperature": np.float32(0.5), "seed": np.int32(3)},
        {"max_tokens": Decimal(2), "temperature": Decimal("0.5"), "top_k": Decimal(3)},
        {"max_tokens": 2, "top_p": Decimal("0.9"), "stop": ("x", "y")},
    ],
)
def test_numbers_of_other_libraries_are_numbers(
    exact_folder: Path, options: Mapping[str, Any]
) -> None:
    """In one call on the device as in the router."""
    assert len(complete("the", model=exact_folder, **options).token_ids) <= 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [(True, "True"), (None, "None"), (5, "a int"), (asynchronous("A"), "a coroutine")],
)
def test_hook_that_does_not_return_text_is_an_error(answer: object, said: str) -> None:
    """It says what is expected; nothing is generated, or sent."""
    device, cloud = ScriptedDevice("A"), ScriptedCloud("A")
    message = f"classify returned {said}; it must return 'private' or 'allow_cloud'"
    with (
        Router(device, cloud=cloud, classify=lambda _: answer) as router,
        pytest.raises(ConfigurationError, match=message),
    ):
        router.generate("A")
    assert not device.requests + cloud.requests


@pytest.mark.parametrize("answer", ["Private", "allow-cloud", " allow_cloud", ""])
def test_hook_that_nearly_allows_the_cloud_does_not(
    answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The prompt is private, and the log says why, without what the hook returned."""
    cloud = ScriptedCloud("A")
    with Router(ScriptedDevice("A"), cloud=cloud, classify=lambda _: answer) as router:
        assert router.generate("A").source == "on_device"
        assert not cloud.requests
    assert "neither 'private' nor 'allow_cloud'" in caplog.text


def test_scripts_take_what_they_document() -> None:
    """An event, and a count of NumPy."""
    assert callable(waits_for(threading.Event(), fails_after(np.int64(2))))
