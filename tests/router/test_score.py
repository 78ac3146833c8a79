"""The score of a prompt: which source is asked, and what is said of it."""

import asyncio
import re
import threading
from collections.abc import Iterator

import pytest

from edgewise import (
    Event,
    Limits,
    Mode,
    NoSourceError,
    RequestError,
    Router,
    RouterClosedError,
    Score,
    Scored,
    Source,
    TokenScore,
    UnknownOptionError,
    VetoCode,
)
from edgewise.testing import (
    Attempt,
    ReceivedRequest,
    ScriptedCloud,
    ScriptedDevice,
    ends_after,
    fails_after,
    hangs_after,
)
from tests.router.routers import DRAINED

ASKED = ReceivedRequest("Once", "", max_tokens=0)


def names_of(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_score_has_each_token_of_the_prompt() -> None:
    """With the likeliest in its place; nothing predicts the first one. Nothing is generated."""
    device, cloud = ScriptedDevice(), ScriptedCloud()
    with Router(device, cloud=cloud) as router:
        score = router.score("Once", top=2)
    assert score.tokens[0] == TokenScore(ord("O"), None)
    assert score.tokens[3] == TokenScore(ord("e"), -0.5, ((101, -0.5), (102, -1.5)))
    assert (score.token_ids, score.prompt_tokens) == (tuple(b"Once"), 4)
    assert score.logprob == -1.5
    assert (score.source, score.decision.reason, score.model) == (
        "on_device",
        "preferred",
        "scripted@1",
    )
    assert (device.requests, cloud.requests) == ([ASKED], [])


def test_repr_shows_nothing_of_the_prompt() -> None:
    """A score tells what was scored, so nor do its tokens show their ids."""
    with Router(ScriptedDevice()) as router:
        score = router.score("Once", top=1)
    said = "on_device · preferred · 4 tokens · log-probability -1.500"
    assert re.fullmatch(rf"Score\({said} · \d+ ms\)", repr(score))
    assert repr(score.tokens[:2]) == "(TokenScore(logprob=None), TokenScore(logprob=-0.5))"


def test_json_of_a_score() -> None:
    """What `edgewise score --json` prints of it."""
    with Router(ScriptedDevice()) as router:
        told = router.score("ab").as_dict()
    assert told["tokens"][1] == {"token_id": 98, "logprob": -0.5, "top": ()}
    assert (told["prompt_tokens"], told["logprob"], told["source"]) == (2, -0.5, "on_device")
    assert told["decision"]["vetoes"]["in_cloud"]["code"] == "no_address"


@pytest.mark.parametrize("script", [fails_after(0), fails_after(2), ends_after(2)])
def test_other_source_scores_what_one_failed_to(script: object) -> None:
    """From the beginning; an answer of the wrong length is a failure."""
    device, cloud, events = ScriptedDevice("", script), ScriptedCloud(), list[Event]()
    with Router(device, cloud=cloud, observers=[events.append]) as router:
        score = router.score("Once")
    assert score.source is Source.IN_CLOUD
    assert score.decision.vetoes[Source.ON_DEVICE].code is VetoCode.FAILED
    assert len(score.tokens) == 4
    assert cloud.requests == [ASKED]
    assert names_of(events) == [
        *("Decided", "AttemptEnded", "HandedOver", "Decided", "AttemptEnded", "Scored")
    ]


def test_score_in_the_cloud_joins_the_trace() -> None:
    """As a generation does."""
    given: list[str | None] = []

    class Traced:
        def __call__(self, _: Event) -> None: ...

        def traceparent(self, _: str) -> str:
            return "00-trace"

    def records(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        given.append(attempt.traceparent)
        return tokens

    with Router(ScriptedDevice(), cloud=ScriptedCloud("", records), observers=[Traced()]) as router:
        router.score("Once", mode="only_in_cloud")
    assert given == ["00-trace"]


def test_cloud_that_fails_is_replaced_by_the_device() -> None:
    """As for a generation."""
    device, cloud = ScriptedDevice(), ScriptedCloud(reachable=False)
    with Router(device, cloud=cloud, mode="prefer_in_cloud") as router:
        assert router.score("Once").source is Source.ON_DEVICE


@pytest.mark.parametrize("mode", Mode)
def test_private_prompt_is_never_scored_elsewhere(mode: Mode) -> None:
    """Not even where the device fails, or may not answer."""
    device, cloud = ScriptedDevice("", fails_after(1)), ScriptedCloud()
    with Router(device, cloud=cloud) as router, pytest.raises(NoSourceError) as refused:
        router.score("Once", privacy="private", mode=mode)
    assert refused.value.vetoes[Source.IN_CLOUD].code is VetoCode.PRIVATE
    assert (Source.ON_DEVICE in refused.value.failures) is (mode is not Mode.ONLY_IN_CLOUD)
    assert not cloud.requests


def test_policy_decides_about_a_score() -> None:
    """Mode, state of the device and budget, as for a generation."""
    drained = Router(ScriptedDevice(), cloud=ScriptedCloud(), device=lambda: DRAINED)
    with drained as router:
        assert router.score("Once").source is Source.IN_CLOUD
        assert router.score("Once", mode="only_on_device").decision.reason == "last_resort"
    slow, fast = ScriptedDevice(first_token=2.0), ScriptedCloud(first_token=0.1)
    with Router(slow, cloud=fast) as router:
        assert router.score("Once", first_token_budget=0.5).decision.reason == "budget"
        assert router.score("Once").source is Source.ON_DEVICE


def test_prompt_may_fill_the_context_window() -> None:
    """Its last token is predicted, and predicts nothing; one more does not fit."""
    device, cloud = ScriptedDevice(context_window=4), ScriptedCloud(context_window=4)
    with Router(device, cloud=cloud) as router:
        for mode in ("prefer_on_device", "only_on_device", "prefer_in_cloud", "only_in_cloud"):
            score = router.score("Once", mode=mode)
            assert len(score.tokens) == 4
            assert score.decision.reason in {"preferred", "other_vetoed"}
        with pytest.raises(
            NoSourceError, match="the prompt's 5 tokens fill the context window of 4"
        ):
            router.score("Once!")


def test_refusal_is_reported_with_every_veto() -> None:
    """Before anything is asked, and after the last source has failed."""
    events: list[Event] = []
    options = {"cloud": ScriptedCloud("", fails_after(0)), "observers": [events.append]}
    device = ScriptedDevice("", fails_after(0))
    with Router(device, **options) as router, pytest.raises(NoSourceError) as failed:
        router.score("Once")
    assert set(failed.value.failures) == set(Source)
    assert names_of(events)[-2:] == ["Refused", "Scored"]
    events.clear()
    router = Router(ScriptedDevice(), observers=[events.append])
    with router, pytest.raises(NoSourceError):
        router.score("Once", mode="only_in_cloud")
    assert names_of(events) == ["Refused"]


def test_bug_of_a_source_reaches_the_app_and_is_reported() -> None:
    """The other source would hide it."""
    events: list[Event] = []
    device = ScriptedDevice("", fails_after(1, ZeroDivisionError()))
    router = Router(device, cloud=ScriptedCloud(), observers=[events.append])
    with router, pytest.raises(ZeroDivisionError):
        router.score("Once")
    assert events[-1].outcome == "failed"


def test_score_takes_a_place_on_the_device() -> None:
    """Where the device is busy the other source is asked, and where there is none it waits."""
    hanging, scored = threading.Event(), list[Score]()
    device = ScriptedDevice("a fox", hangs_after(1, hanging))
    limits = Limits(max_queue=1, queue_timeout=30)
    with Router(device, cloud=ScriptedCloud(), limits=limits) as router:
        stream = router.stream("Once", privacy="private")
        next(stream)
        assert router.score("Once").source is Source.IN_CLOUD
        waiting = threading.Thread(
            target=lambda: scored.append(router.score("Once", privacy="private"))
        )
        waiting.start()
        reader = threading.Thread(target=lambda: list(stream))
        reader.start()
        hanging.wait()
        stream.close()
        waiting.join(10)
        reader.join(10)
    assert scored[0].source is Source.ON_DEVICE


def test_task_that_is_cancelled_stops_the_work() -> None:
    """On the source that runs, and no other one is asked."""
    events, started = list[Event](), threading.Event()
    device, cloud = ScriptedDevice("", hangs_after(1, started)), ScriptedCloud()

    async def cancel() -> None:
        async with Router(device, cloud=cloud, observers=[events.append]) as router:
            task = asyncio.create_task(router.ascore("Once"))
            await asyncio.to_thread(started.wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            device.wait_until_idle()

    asyncio.run(cancel())
    assert not cloud.requests
    ended = next(event for event in events if isinstance(event, Scored))
    assert ended.outcome == "cancelled"


def test_asyncio_gives_the_same_score() -> None:
    """In a thread of its own."""

    async def score() -> Score:
        async with Router(ScriptedDevice()) as router:
            return await router.ascore("Once", top=1)

    with Router(ScriptedDevice()) as router:
        assert asyncio.run(score()).tokens == router.score("Once", top=1).tokens


def test_options_of_a_score_are_checked() -> None:
    """By the call; a generation's are none of a score's."""
    router = Router(ScriptedDevice())
    with pytest.raises(RequestError, match="top is 21; it must be a whole number, from 0 to 20"):
        router.score("Once", top=21)
    with pytest.raises(RequestError, match="top is False"):
        router.score("Once", top=False)
    with pytest.raises(UnknownOptionError, match="did you mean 'top'"):
        router.score("Once", topp=1)
    with pytest.raises(UnknownOptionError, match="no option 'max_tokens'"):
        router.score("Once", max_tokens=1)
    router.close()
    with pytest.raises(RouterClosedError):
        router.score("Once")
