"""A cloud that starts in a second: the bundled device model behind gRPC.

    python -m tests.support.device_as_cloud --port PORT

is one for the demo. It logs as `edgewise-cloud serve` does, and its third answer stops at the 30th
token: the demo ends it there, whatever the speed of the machine.
"""

import signal
import sys
import threading
from collections.abc import Iterator

from edgewise_cloud.serving.server.codec import token_request
from edgewise_edge import DeviceModel
from edgewise_proto import generation_pb2 as pb
from tests.support.scripted_cloud import ScriptedCloud, ended, serving_scripted


class DeviceAsCloud(ScriptedCloud):
    """Generates what it is asked for."""

    def __init__(self, model: DeviceModel) -> None:
        super().__init__(model)
        self._model = model

    def Generate(self, request: pb.GenerateRequest, context: object) -> Iterator[object]:
        asked = token_request(request)
        self.requests.append(request)
        position = len(asked.token_ids)
        for token in self._model.stream_tokens(asked):
            yield pb.GenerateResponse(position=position, token_ids=[token])
            position += 1
        yield ended(position, asked.prompt_tokens, position - asked.prompt_tokens)


class DemoCloud(DeviceAsCloud):
    """Generates two answers."""

    def Generate(self, request: pb.GenerateRequest, context: object) -> Iterator[object]:
        if len(self.requests) == 2:
            ids = self._model.tokenizer.encode(" snow" * 30)
            yield pb.GenerateResponse(position=len(request.token_ids), token_ids=ids[:30])
            threading.Event().wait()
        yield from super().Generate(request, context)


def main(port: int) -> None:
    """Serve until it is ended."""
    print("2026-01-01T00:00:00.000Z INFO loading tales", file=sys.stderr, flush=True)
    with serving_scripted(DemoCloud(DeviceModel.load("tales", threads=1)), port):
        signal.pause()


if __name__ == "__main__":
    main(int(sys.argv[-1]))
