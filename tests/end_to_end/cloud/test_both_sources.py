"""Device and cloud together: a real service on a real socket, and the same tokens."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewise import (
    CloudRefusedError,
    CloudTimeouts,
    CloudUnavailableError,
    DeviceState,
    LatencyLog,
    NoSourceError,
    Reason,
    Router,
    Source,
    VetoCode,
    VocabularyMismatchError,
)
from edgewise_cloud.convert.convert import convert
from edgewise_cloud.convert.quantization import Quantization
from edgewise_edge import DeviceModel, RuntimeFailedError
from tests.support.scripted_cloud import ScriptedCloud, serving_scripted
from tests.support.service import Running, serving
from tests.support.timeouts import PATIENT

DRAINED = DeviceState(battery=0.03, charging=False)
GREEDY = {"temperature": 0.0, "max_tokens": 100}
PROMPT = "in the winter the water was"


@pytest.fixture
def service(exact_folder: Path) -> Iterator[Running]:
    """Of each test its own: tests that stop one use the same compiled programs."""
    with serving(str(exact_folder), slots=2) as running:
        yield running


def router_to(
    address: str | None, folder: Path, state: DeviceState | None = None, **settings: object
) -> Router:
    device = state or DeviceState()
    given = {"cloud_timeouts": PATIENT, **settings}
    return Router(
        folder, cloud=address, device=lambda: device, latency=LatencyLog(), threads=1, **given
    )


def test_scores_are_the_same_on_both_sources(service: Running, exact_folder: Path) -> None:
    """Of a prompt, and of new tokens, which are as likely as in the score of the whole."""
    with router_to(service.address, exact_folder) as router:
        on_device = router.score(PROMPT, top=3)
        in_cloud = router.score(PROMPT, top=3, mode="only_in_cloud")
        made = router.generate(PROMPT, max_tokens=9, seed=1, logprobs=3, mode="only_in_cloud")
        prompt = [token.token_id for token in on_device.tokens]
        whole = router.score([*prompt, *made.token_ids], top=3)
    assert (on_device.source, in_cloud.source) == (Source.ON_DEVICE, Source.IN_CLOUD)
    for tokens, expected in (
        (in_cloud.tokens[1:], on_device.tokens[1:]),
        (made.logprobs, whole.tokens[len(prompt) :]),
    ):
        assert [each.token_id for each in tokens] == [each.token_id for each in expected]
        assert [each.logprob for each in tokens] == pytest.approx(
            [each.logprob for each in expected], abs=1e-3
        )


def test_greedy_text_is_the_same_on_both_sources(service: Running, exact_folder: Path) -> None:
    """100 tokens, for the unquantized model."""
    with router_to(service.address, exact_folder) as router:
        on_device = router.generate(PROMPT, **GREEDY)
        in_cloud = router.generate(PROMPT, **GREEDY, mode="only_in_cloud")
    assert (on_device.source, in_cloud.source) == (Source.ON_DEVICE, Source.IN_CLOUD)
    assert len(on_device.token_ids) == 100
    assert on_device.token_ids == in_cloud.token_ids
    assert on_device.text == in_cloud.text


def test_a_text_begins_and_ends_the_same_on_both_sources(
    service: Running, exact_folder: Path
) -> None:
    """It begins after the end-of-text token, which ends it too: with the reason stop, and unseen."""
    with router_to(service.address, exact_folder) as router:
        (end,) = router.device_source.tokenizer.end_ids
        by_id = router.generate([end], **GREEDY)
        for mode in ("only_on_device", "only_in_cloud"):
            begun = router.generate("", **GREEDY, mode=mode)
            assert begun.token_ids == by_id.token_ids
            assert begun.usage.prompt_tokens == 1
            ended = router.generate("", seed=1, logit_bias={end: 100}, mode=mode)
            assert (ended.text, ended.finish_reason, ended.source) == ("", "stop", begun.source)


@pytest.mark.soak
def test_the_bundled_model_agrees_too(tmp_path: Path) -> None:
    """tales, unquantized, and its own Keras weights."""
    convert("tales", tmp_path / "tales", Quantization.NONE)
    with (
        serving("tales", slots=1) as running,
        router_to(running.address, tmp_path / "tales") as router,
    ):
        on_device = router.generate("Once upon a time", **GREEDY)
        in_cloud = router.generate("Once upon a time", **GREEDY, mode="only_in_cloud")
    assert len(on_device.token_ids) == 100
    assert on_device.token_ids == in_cloud.token_ids


def test_a_low_battery_moves_a_request_to_the_cloud(service: Running, exact_folder: Path) -> None:
    """With a veto for the device, and the cloud's usage and timings."""
    with router_to(service.address, exact_folder, DRAINED) as router:
        generation = router.generate(PROMPT, max_tokens=20)
        assert generation.source is Source.IN_CLOUD
        assert generation.decision.reason is Reason.OTHER_VETOED
        assert generation.decision.vetoes[Source.ON_DEVICE].code is VetoCode.BATTERY
        assert generation.usage.completion_tokens == 20
        predicted = router.route(PROMPT, max_tokens=20).predicted[Source.IN_CLOUD]
        assert 0 < predicted.first_token < predicted.total


def test_a_private_prompt_stays_on_the_device(service: Running, exact_folder: Path) -> None:
    """Whatever the battery level."""
    with router_to(service.address, exact_folder, DRAINED) as router:
        generation = router.generate(PROMPT, max_tokens=5, privacy="private")
        assert generation.source is Source.ON_DEVICE
        assert router.cloud_source.served_model is None  # it was not even asked what it serves


def test_a_stopped_cloud_falls_back_to_the_device(exact_folder: Path) -> None:
    """Before the first token: the answer is complete, and the decision names the failure."""
    with (
        serving(str(exact_folder), slots=2) as running,
        router_to(running.address, exact_folder, DRAINED) as router,
    ):
        assert router.generate(PROMPT, max_tokens=3).source is Source.IN_CLOUD
        running.stop()
        generation = router.generate(PROMPT, max_tokens=10)
    assert generation.source is Source.ON_DEVICE
    assert generation.decision.vetoes[Source.IN_CLOUD].code is VetoCode.FAILED
    assert generation.usage.completion_tokens == 10


def test_a_cloud_that_ends_midway_is_continued_on_the_device(exact_folder: Path) -> None:
    """After the first token: no token is lost or repeated, and segments name their sources."""
    with router_to(None, exact_folder) as alone:
        unbroken = alone.generate(PROMPT, **GREEDY)
    with (
        serving(str(exact_folder), slots=2, grace=0.0) as running,
        router_to(running.address, exact_folder, mode="prefer_in_cloud") as router,
        router.stream(PROMPT, **GREEDY) as stream,
    ):
        chunks = [next(stream) for _ in range(5)]
        running.stop()
        chunks += list(stream)
        generation = stream.generation
    assert "".join(chunk.text for chunk in chunks) == generation.text == unbroken.text
    assert generation.token_ids == unbroken.token_ids
    first, second = generation.segments
    assert (first.source, second.source) == (Source.IN_CLOUD, Source.ON_DEVICE)
    assert first.tokens + second.tokens == 100
    assert second.start == first.tokens >= 5


def test_a_device_that_fails_midway_is_continued_in_the_cloud(
    service: Running, exact_folder: Path
) -> None:
    """The other direction."""
    with router_to(service.address, exact_folder) as router:
        unbroken = router.generate(PROMPT, **GREEDY)
        model = router.device_source.model
        whole = model.stream_tokens

        def failing(*arguments):
            for count, token in enumerate(whole(*arguments)):
                if count == 7:
                    raise RuntimeFailedError("made to fail")
                yield token

        model.stream_tokens = failing
        generation = router.generate(PROMPT, **GREEDY)
        assert generation.token_ids == unbroken.token_ids
        assert [part.tokens for part in generation.segments] == [7, 93]
        with pytest.raises(NoSourceError, match="made to fail"):
            router.generate(PROMPT, **GREEDY, privacy="private")


def test_closing_a_stream_frees_the_cloud(service: Running, exact_folder: Path) -> None:
    """The slot is released though nobody reads on."""
    with router_to(service.address, exact_folder, DRAINED) as router:
        stream = router.stream(PROMPT, max_tokens=150)
        next(stream)
        stream.close()
    while service.held:  # the test's timeout is the limit
        time.sleep(0.01)
    assert stream.generation.finish_reason == "cancelled"


def test_dropping_a_stream_frees_the_cloud(service: Running, exact_folder: Path) -> None:
    """Without closing it."""
    with router_to(service.address, exact_folder, DRAINED) as router:
        for _ in router.stream(PROMPT, max_tokens=150):
            break
        while service.held:  # the test's timeout is the limit
            time.sleep(0.01)


def test_a_full_cloud_is_busy_and_the_device_answers(exact_folder: Path) -> None:
    """It says when to come back, and does not count as failed."""
    with (
        serving(str(exact_folder), queue=0) as running,
        running.on_engine.gated() as gate,
        router_to(running.address, exact_folder, DRAINED) as router,
        router.stream(PROMPT, max_tokens=150) as first,
        router.stream(PROMPT, max_tokens=150) as second,
    ):
        gate.close()
        gate.let_pass(40)  # enough for a whole character of each
        assert next(first).source is Source.IN_CLOUD
        assert next(second).source is Source.IN_CLOUD
        vetoes = [
            router.generate(PROMPT, max_tokens=3).decision.vetoes[Source.IN_CLOUD] for _ in range(4)
        ]
        # It said for how long, and is not asked until then.
        assert {veto.code for veto in vetoes} == {VetoCode.BUSY}
        assert all("is busy" in veto.detail for veto in vetoes)


def test_a_cloud_with_another_vocabulary_is_refused(
    exact_folder: Path, exact_model: DeviceModel
) -> None:
    """With what to do where the cloud is the only source; otherwise the device answers."""
    cloud = ScriptedCloud(exact_model)
    cloud.vocabulary = "0" * 64
    with serving_scripted(cloud) as address, router_to(address, exact_folder) as router:
        with pytest.raises(NoSourceError, match="same model on the device") as error:
            router.generate(PROMPT, max_tokens=3, mode="only_in_cloud")
        assert isinstance(error.value.__cause__, VocabularyMismatchError)
        generation = router.generate(PROMPT, max_tokens=3, mode="prefer_in_cloud")
        assert generation.source is Source.ON_DEVICE


def test_a_cloud_that_is_not_there(exact_folder: Path) -> None:
    """Nothing listens: three failures open the circuit."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with router_to(address, exact_folder) as router:
            for _ in range(3):
                with pytest.raises(NoSourceError, match="edgewise-cloud serve") as error:
                    router.generate(PROMPT, mode="only_in_cloud")
                assert isinstance(error.value.__cause__, CloudUnavailableError)
            with pytest.raises(NoSourceError) as error:
                router.generate(PROMPT, mode="only_in_cloud")
            assert error.value.vetoes[Source.IN_CLOUD].code is VetoCode.CIRCUIT_OPEN


def test_a_cloud_that_accepts_and_sends_nothing(exact_folder: Path) -> None:
    """The connect timeout ends the attempt, and the device answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        timeouts = CloudTimeouts(connect=0.5)
        with router_to(address, exact_folder, DRAINED, cloud_timeouts=timeouts) as router:
            generation = router.generate(PROMPT, max_tokens=3)
    assert generation.source is Source.ON_DEVICE
    assert generation.decision.reason is Reason.LAST_RESORT


def test_a_request_over_the_cloud_context_window_is_refused(
    service: Running, exact_folder: Path
) -> None:
    """Before anything is sent except GetModel."""
    with router_to(service.address, exact_folder) as router:
        for code in (VetoCode.FAILED, VetoCode.CONTEXT_WINDOW):
            with pytest.raises(NoSourceError, match="context window") as error:
                router.generate(PROMPT, max_tokens=500, mode="only_in_cloud")
            assert error.value.vetoes[Source.IN_CLOUD].code is code
            refused = code is VetoCode.FAILED
            assert isinstance(error.value.__cause__, CloudRefusedError) == refused
