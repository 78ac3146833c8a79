"""Clouds that answer wrongly: a fault of that source, never shown to the reader."""

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from edgewise import CloudTimeouts, DeviceState, LatencyLog, Router, Source
from edgewise_edge import DeviceModel
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

Answers = Iterable[pb.GenerateResponse]


class Scripted(pb_grpc.GeneratorServicer):
    """Says what it is told to say, whatever was asked."""

    def __init__(self, model: DeviceModel, answers: Answers) -> None:
        self._model, self._answers = model, answers

    def GetModel(self, request: pb.GetModelRequest, context: object) -> pb.GetModelResponse:
        shape = self._model.manifest.architecture
        return pb.GetModelResponse(
            name="scripted",
            vocabulary=self._model.tokenizer.fingerprint,
            vocabulary_size=shape.vocabulary_size,
            context_window=shape.context_window,
        )

    def Generate(self, request: pb.GenerateRequest, context: object) -> Iterator[object]:
        yield from self._answers


@contextmanager
def scripted(model: DeviceModel, answers: Answers) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    pb_grpc.add_GeneratorServicer_to_server(Scripted(model, answers), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def tokens(position: int, *ids: int) -> pb.GenerateResponse:
    return pb.GenerateResponse(position=position, token_ids=ids)


def ended(position: int, prompt: int, completion: int) -> pb.GenerateResponse:
    return pb.GenerateResponse(
        position=position,
        finish_reason=pb.FINISH_REASON_LENGTH,
        usage=pb.Usage(prompt_tokens=prompt, completion_tokens=completion),
    )


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
        # ends another request: the count of the prompt's tokens is another one
        ([tokens(3, 10), ended(4, prompt=9, completion=1)], 1),
        ([tokens(3, 10), ended(4, prompt=3, completion=2)], 1),
    ],
)
def test_the_device_takes_over_where_the_cloud_was_right(
    exact_folder: Path, exact_model: DeviceModel, answers: Answers, kept: int
) -> None:
    """What was in order is kept, the rest is written on the device, and nothing is repeated."""
    assert len(exact_model.tokenizer.encode("abc")) == 3
    with (
        scripted(exact_model, answers) as address,
        Router(
            exact_folder,
            cloud=address,
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


def test_a_cloud_that_never_ends_is_cut_off(exact_folder: Path, exact_model: DeviceModel) -> None:
    """After max_tokens nothing more is read."""
    answers = [tokens(3 + n, n % 200) for n in range(10_000)]
    with (
        scripted(exact_model, answers) as address,
        Router(exact_folder, cloud=address, mode="only_in_cloud", latency=LatencyLog()) as router,
    ):
        generation = router.generate("abc", max_tokens=5)
    assert generation.token_ids == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("before", [[], [tokens(3, 10)]])
def test_empty_messages_are_no_answer(
    exact_folder: Path, exact_model: DeviceModel, before: list[pb.GenerateResponse]
) -> None:
    """A cloud that sends them for ever is given up on as if it were silent."""
    position = 3 + len(before)
    answers = itertools.chain(before, itertools.repeat(pb.GenerateResponse(position=position)))
    with (
        scripted(exact_model, answers) as address,
        Router(
            exact_folder,
            cloud=address,
            cloud_timeouts=CloudTimeouts(first_token=0.3, between_tokens=0.3),
            mode="prefer_in_cloud",
            device=DeviceState,
            latency=LatencyLog(),
        ) as router,
    ):
        generation = router.generate("abc", max_tokens=20)
    assert len(generation.token_ids) == 20
    assert generation.segments[-1].source is Source.ON_DEVICE
    assert "sent no token" in generation.decision.vetoes[Source.IN_CLOUD].detail
