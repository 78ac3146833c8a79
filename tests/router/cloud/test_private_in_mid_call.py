"""A request that becomes private while the real client is calling a real socket."""

import threading
from collections.abc import Iterator

import pytest

from edgewise import CloudBusyError, DeviceState, LatencyLog, Router
from edgewise.policy.types import Source, VetoCode
from edgewise.testing import ScriptedDevice
from edgewise_proto import generation_pb2 as pb
from tests.support.scripted_cloud import ScriptedCloud, ended, serving_scripted, tokens

TEXT = "the answer"
PROMPT = "Once"


def router_on(device: ScriptedDevice, address: str) -> Router:
    return Router(device, cloud=address, device=DeviceState, latency=LatencyLog())


def test_prompt_is_not_sent_where_the_cloud_was_still_asked_for_its_model() -> None:
    """The call for it is cancelled, and the one with the prompt never starts."""
    device = ScriptedDevice(TEXT)
    cloud = ScriptedCloud(device)
    cloud.ready.clear()
    with serving_scripted(cloud) as address, router_on(device, address) as router:
        stream = router.stream(PROMPT, mode="prefer_in_cloud")

        def change() -> None:
            cloud.asked.wait()
            stream.change(privacy="private")
            cloud.ready.set()

        threading.Thread(target=change).start()
        assert "".join(chunk.text for chunk in stream) == TEXT
        assert stream.abandoned[Source.IN_CLOUD].code is VetoCode.PRIVATE
        assert not cloud.requests


def test_call_that_runs_is_cancelled() -> None:
    """The device goes on at the next token."""
    device, ended = ScriptedDevice(TEXT), threading.Event()
    position = len(PROMPT)

    def answers() -> Iterator[pb.GenerateResponse]:
        yield tokens(position, *TEXT[:4].encode())
        ended.wait()

    cloud = ScriptedCloud(device, answers())
    with serving_scripted(cloud) as address, router_on(device, address) as router:
        stream = router.stream(PROMPT, mode="prefer_in_cloud")
        text = "".join(next(stream).text for _ in range(4))
        threading.Timer(0.01, stream.change, kwargs={"privacy": "private"}).start()
        assert text + "".join(chunk.text for chunk in stream) == TEXT
        ended.set()
        segments = stream.generation.segments
        assert [(part.source, part.tokens) for part in segments] == [
            (Source.IN_CLOUD, 4),
            (Source.ON_DEVICE, len(TEXT) - 4),
        ]
        assert len(cloud.requests) == 1


def test_stopped_attempt_sends_nothing_to_a_cloud_that_is_known() -> None:
    """Nothing is asked before the call with the prompt, which does not start."""
    device = ScriptedDevice(TEXT)
    answers = [tokens(len(PROMPT), *TEXT.encode()), ended(len(PROMPT + TEXT), 4, len(TEXT))]
    cloud = ScriptedCloud(device, answers)
    with serving_scripted(cloud) as address, router_on(device, address) as router:
        options = {"mode": "only_in_cloud", "max_tokens": len(TEXT)}
        assert router.generate(PROMPT, **options).text == TEXT
        attempt = router.cloud_source.open(router.stream(PROMPT, **options).request.after(()))
        attempt.stop.set()
        with pytest.raises(CloudBusyError, match="was cancelled"):
            next(attempt)
        router.describe_cloud()  # arrives after whatever was sent before
        assert len(cloud.requests) == 1
