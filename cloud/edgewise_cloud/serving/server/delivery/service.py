"""The Delivery service on gRPC's asyncio server."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import grpc

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.security.settings import caller_name
from edgewise_cloud.serving.server.delivery.downloads import Download, Downloads
from edgewise_cloud.serving.server.delivery.files import FilePart, check_name, read_part
from edgewise_cloud.serving.server.service import refuse
from edgewise_cloud.serving.types import DownloadOutcome, RefusedError
from edgewise_proto import delivery_pb2 as pb
from edgewise_proto import delivery_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    # Generic for the type checker only.
    Context: TypeAlias = grpc.aio.ServicerContext[pb.FetchRequest, pb.Chunk]

log = logging.getLogger("edgewise_cloud.serving.delivery")

SERVICE = pb.DESCRIPTOR.services_by_name["Delivery"].full_name
CHUNK_BYTES = 2**16
_READERS = 4  # threads: disks may be slow, and the event loop must not wait for them


class DeliveryService(pb_grpc.DeliveryServicer):
    """Sends the files of the channel in the folder `channel`; `on_end` is told of each download."""

    def __init__(
        self, channel: Path, downloads: Downloads, on_end: Callable[[DownloadOutcome], None]
    ) -> None:
        self._channel, self._downloads, self._on_end = channel, downloads, on_end
        self._readers = ThreadPoolExecutor(_READERS, "delivery")

    async def Fetch(  # type: ignore[override]  # the form that calls context.write
        self, request: pb.FetchRequest, context: "Context"
    ) -> None:
        """See delivery.proto."""
        code, started, sent = grpc.StatusCode.CANCELLED, time.monotonic(), _Sent()
        try:
            check_name(request.name)
            sent.file = request.name
            async with self._downloads.place(caller_name(context)) as download:
                await self._send(request, context, download, sent)
            code = grpc.StatusCode.OK
        except RefusedError as refusal:
            code = refusal.code
            await refuse(context, refusal)
        finally:
            total = time.monotonic() - started
            self._on_end(DownloadOutcome(sent.file, code, sent.bytes, total))

    def close(self) -> None:
        """End all downloads, and refuse new ones."""
        self._downloads.close()

    async def _send(
        self, request: pb.FetchRequest, context: "Context", download: Download, sent: "_Sent"
    ) -> None:
        file = await self._read(request.name, 0, 0)
        changed = request.version not in {"", file.version}
        offset = 0 if changed else request.offset
        if offset > file.size:
            raise RefusedError(
                grpc.StatusCode.OUT_OF_RANGE,
                f"the offset is {offset:,}, and the file has {file.size:,} bytes",
            )
        first = pb.Chunk(offset=offset, size=file.size, version=file.version)
        await _write(context, download, first)
        while offset < file.size:
            download.left = file.size - offset
            await self._downloads.take(download, min(CHUNK_BYTES, download.left))
            part = await self._read(request.name, offset, CHUNK_BYTES)
            if not part.data or (part.size, part.version) != (file.size, file.version):
                raise RefusedError(grpc.StatusCode.UNAVAILABLE, "the file has changed meanwhile")
            await _write(context, download, pb.Chunk(offset=offset, data=part.data))
            offset += len(part.data)
            sent.bytes += len(part.data)

    async def _read(self, name: str, offset: int, size: int) -> FilePart:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._readers, read_part, self._channel, name, offset, size
            )
        except ServeError as error:
            log.error("%s", error)  # noqa: TRY400  # there is nothing more to say
            raise RefusedError(
                grpc.StatusCode.UNAVAILABLE, "the channel cannot be read now"
            ) from error


class _Sent:
    """What a download has sent so far."""

    file = ""
    bytes = 0


async def _write(context: "Context", download: Download, chunk: pb.Chunk) -> None:
    with download.sending():
        await context.write(chunk)
