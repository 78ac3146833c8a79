"""A cloud on a real socket whose responses are scripted."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from edgewise_edge import DeviceModel
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

Answers = Iterable[pb.GenerateResponse | pb.ScoreResponse]


class ScriptedCloud(pb_grpc.GeneratorServicer):
    """Sends the given responses, whatever the request."""

    def __init__(self, model: DeviceModel, answers: Answers = ()) -> None:
        self._model, self._answers = model, answers
        self.vocabulary = model.tokenizer.fingerprint
        self.revision, self.level = "", 2
        self.requests = list[pb.GenerateRequest | pb.ScoreRequest]()
        self.traces = list[str | None]()  # of the scores
        self.expected_wait = 0.0
        self.asked = threading.Event()  # set by GetModel
        self.ready = threading.Event()  # GetModel waits for it
        self.ready.set()

    def GetModel(self, request: pb.GetModelRequest, context: object) -> pb.GetModelResponse:
        self.asked.set()
        self.ready.wait()
        shape = self._model.manifest.architecture
        return pb.GetModelResponse(
            name="scripted",
            revision=self.revision,
            level=self.level,
            vocabulary=self.vocabulary,
            vocabulary_size=shape.vocabulary_size,
            context_window=shape.context_window,
        )

    def GetLoad(self, request: pb.GetLoadRequest, context: object) -> pb.GetLoadResponse:
        return pb.GetLoadResponse(expected_wait=self.expected_wait)

    def Generate(self, request: pb.GenerateRequest, context: object) -> Iterator[object]:
        self.requests.append(request)
        yield from self._answers

    def Score(self, request: pb.ScoreRequest, context: grpc.ServicerContext) -> Iterator[object]:
        self.requests.append(request)
        self.traces.append(dict(context.invocation_metadata()).get("traceparent"))
        yield from self._answers


@contextmanager
def serving_scripted(cloud: ScriptedCloud, port: int = 0) -> Iterator[str]:
    """Serve `cloud`; yields its address."""
    server = grpc.server(ThreadPoolExecutor(4))
    pb_grpc.add_GeneratorServicer_to_server(cloud, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        cloud.ready.set()
        server.stop(0).wait()


@contextmanager
def scripted(model: DeviceModel, answers: Answers) -> Iterator[str]:
    """Serve a cloud that sends these responses; yields its address."""
    with serving_scripted(ScriptedCloud(model, answers)) as address:
        yield address


def tokens(position: int, *ids: int) -> pb.GenerateResponse:
    return pb.GenerateResponse(position=position, token_ids=ids)


def ended(position: int, prompt: int, completion: int) -> pb.GenerateResponse:
    return pb.GenerateResponse(
        position=position,
        finish_reason=pb.FINISH_REASON_LENGTH,
        usage=pb.Usage(prompt_tokens=prompt, completion_tokens=completion),
    )
