"""Clouds whose responses are invalid: that source has failed, and readers never see it."""

import itertools
from pathlib import Path

import pytest

from edgewise import CloudTimeouts, DeviceState, LatencyLog, Router, Source
from edgewise_edge import DeviceModel
from edgewise_proto import generation_pb2 as pb
from tests.support.scripted_cloud import Answers, ended, scripted, tokens
from tests.support.timeouts import PATIENT


@pytest.mark.parametrize(
    ("answers", "kept"),
    [
        ([], 0),  # ends at once
        ([tokens(3, 10), tokens(4, 11)], 2),  # ends without a finish reason
        ([tokens(3, 10), tokens(3, 10)], 1),  # repeats itself
        ([tokens(3, 10), tokens(9, 11)], 1),  # leaves tokens out
        ([tokens(0, 10)], 0),  # answers another request
        ([tokens(3, 10**6)], 0),  # ids outside the vocabulary
        ([pb.GenerateResponse(position=3, finish_reason=pb.FINISH_REASON_LENGTH)], 0),
        ([tokens(3, 10), pb.GenerateResponse(position=4, finish_reason=pb.FINISH_REASON_STOP)], 1),
        # ends another request: its prompt has another length
        ([tokens(3, 10), ended(4, prompt=9, completion=1)], 1),
        ([tokens(3, 10), ended(4, prompt=3, completion=2)], 1),
    ],
)
def test_the_device_continues_after_the_last_valid_token(
    exact_folder: Path, exact_model: DeviceModel, answers: Answers, kept: int
) -> None:
    """Valid tokens are kept, the device generates the rest, and nothing is repeated."""
    assert len(exact_model.tokenizer.encode("abc")) == 3
    with (
        scripted(exact_model, answers) as address,
        Router(
            exact_folder,
            cloud=address,
            cloud_timeouts=PATIENT,
            mode="prefer_in_cloud",
            device=DeviceState,
            latency=LatencyLog(),
        ) as router,
    ):
        generation = router.generate("abc", max_tokens=20, seed=1)
    assert generation.finish_reason == "length"
    assert len(generation.token_ids) == 20
    assert generation.token_ids[:kept] == (10, 11)[:kept]
    assert [part.source for part in generation.segments] == (
        [Source.IN_CLOUD, Source.ON_DEVICE] if kept else [Source.ON_DEVICE]
    )


def test_a_cloud_that_never_ends_is_cancelled(exact_folder: Path, exact_model: DeviceModel) -> None:
    """Nothing is read after max_tokens."""
    answers = [tokens(3 + n, n % 200) for n in range(10_000)]
    with (
        scripted(exact_model, answers) as address,
        Router(
            exact_folder,
            cloud=address,
            cloud_timeouts=PATIENT,
            mode="only_in_cloud",
            latency=LatencyLog(),
        ) as router,
    ):
        generation = router.generate("abc", max_tokens=5)
    assert generation.token_ids == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("before", [[], [tokens(3, 10)]])
def test_empty_messages_are_no_tokens(
    exact_folder: Path, exact_model: DeviceModel, before: list[pb.GenerateResponse]
) -> None:
    """A cloud that sends only those has stalled."""
    position = 3 + len(before)
    answers = itertools.chain(before, itertools.repeat(pb.GenerateResponse(position=position)))
    with (
        scripted(exact_model, answers) as address,
        Router(
            exact_folder,
            cloud=address,
            cloud_timeouts=CloudTimeouts(connect=300.0, first_token=0.3, between_tokens=0.3),
            mode="prefer_in_cloud",
            device=DeviceState,
            latency=LatencyLog(),
        ) as router,
    ):
        generation = router.generate("abc", max_tokens=20)
    assert len(generation.token_ids) == 20
    assert generation.segments[-1].source is Source.ON_DEVICE
    assert "sent no token" in generation.decision.vetoes[Source.IN_CLOUD].detail
