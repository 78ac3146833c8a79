"""The files of a channel, sent by a service whose model is not loaded."""

import asyncio
import json
import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc

from edgewise_cloud.serving.observe.observers import ObserverSettings
from edgewise_cloud.serving.security.settings import Security
from edgewise_cloud.serving.security.tokens import append_line, new_token
from edgewise_cloud.serving.server.delivery import downloads as downloads_module
from edgewise_cloud.serving.server.delivery.downloads import Download, Downloads
from edgewise_cloud.serving.server.delivery.service import CHUNK_BYTES, SERVICE
from edgewise_cloud.serving.server.delivery.settings import DeliverySettings
from edgewise_cloud.serving.types import RefusedError
from edgewise_proto import delivery_pb2 as pb
from edgewise_proto import delivery_pb2_grpc as pb_grpc
from tests.support.credentials import bearer
from tests.support.generate_requests import refusal, until
from tests.support.service import Running, serving

MODEL = "targets/blobs/" + "a" * 64 + ".model"
LARGE = os.urandom(8 * 2**20)  # more than gRPC keeps for a caller that does not read
SMALL = os.urandom(3 * CHUNK_BYTES + 7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A channel, with files that are not part of it."""
    folder = tmp_path_factory.mktemp("delivery") / "channel"
    (folder / "metadata").mkdir(parents=True)
    (folder / "targets/blobs").mkdir(parents=True)
    (folder / "metadata/1.root.json").write_bytes(SMALL)
    (folder / "metadata/empty.json").write_bytes(b"")
    (folder / MODEL).write_bytes(LARGE)
    secret = folder.with_name("secret")
    secret.write_text("secret")
    (folder / "notes.txt").write_text("secret")
    (folder / "metadata/.hidden").write_text("secret")
    (folder / "targets/link").symlink_to(secret)
    (folder / "targets/parent").symlink_to(folder.parent)
    os.mkfifo(folder / "targets/fifo")
    return folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Running]:
    with serving("tales", load=False, delivery=DeliverySettings(channel=folder)) as running:
        yield running


@pytest.fixture(scope="module")
def stub(service: Running) -> Iterator[pb_grpc.DeliveryStub]:
    with grpc.insecure_channel(service.address) as channel:
        yield pb_grpc.DeliveryStub(channel)


def request(name: str = MODEL, **changes: object) -> pb.FetchRequest:
    return pb.FetchRequest(name=name, **changes)


@pytest.mark.parametrize("offset", [0, 1, CHUNK_BYTES, len(SMALL) - 1, len(SMALL)])
def test_a_file_is_sent_from_any_byte_on(stub: pb_grpc.DeliveryStub, offset: int) -> None:
    """While the model is still loading: the size first, then chunks in order, none too large."""
    first, *chunks = stub.Fetch(request("metadata/1.root.json", offset=offset))
    assert (first.offset, first.size, first.data) == (offset, len(SMALL), b"")
    assert b"".join(chunk.data for chunk in chunks) == SMALL[offset:]
    position = offset
    for chunk in chunks:
        assert chunk.offset == position
        assert 0 < len(chunk.data) <= CHUNK_BYTES
        position += len(chunk.data)


def test_an_empty_file_is_one_message(stub: pb_grpc.DeliveryStub) -> None:
    """Which says that it has no bytes."""
    (only,) = stub.Fetch(request("metadata/empty.json"))
    assert (only.offset, only.size) == (0, 0)


@pytest.mark.parametrize(
    "name",
    [
        *("", "/etc/passwd", "..", "metadata/../../secret", "metadata/..", "metadata//1.root.json"),
        *("metadata/.hidden", "metadata/1.root.json\0", "metadata\\1.root.json", "metadata/"),
        *("metadata/1.root.json\n", "metadata/%2e%2e/x", f"metadata/{'x' * 600}", "metadata/ü"),
    ],
)
def test_a_name_that_is_no_plain_path_is_invalid(stub: pb_grpc.DeliveryStub, name: str) -> None:
    """Nothing is looked for."""
    code, _ = refusal(lambda: list(stub.Fetch(request(name))))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "name",
    [
        *("metadata/2.root.json", "metadata", "targets/blobs", "notes.txt", "secret"),
        *("targets/link", "targets/parent/secret", "targets/fifo", "metadata/1.root.json/x"),
        f"metadata/{'x' * 300}",
    ],
)
def test_only_regular_files_of_the_channel_exist(stub: pb_grpc.DeliveryStub, name: str) -> None:
    """No folder, link or FIFO, nothing outside of metadata and targets: one answer for all."""
    code, text = refusal(lambda: list(stub.Fetch(request(name))))
    assert (code, text) == (grpc.StatusCode.NOT_FOUND, "the channel has no such file")


def test_an_offset_behind_the_end_is_out_of_range(stub: pb_grpc.DeliveryStub) -> None:
    """However large."""
    for offset in (len(SMALL) + 1, 2**64 - 1):
        code, text = refusal(
            lambda offset=offset: list(stub.Fetch(request("metadata/1.root.json", offset=offset)))
        )
        assert code is grpc.StatusCode.OUT_OF_RANGE
        assert f"{len(SMALL):,} bytes" in text


def test_another_version_of_a_file_starts_at_its_first_byte(
    stub: pb_grpc.DeliveryStub, folder: Path
) -> None:
    """The same one goes on; what is named by its content has one version on all servers."""
    file = folder / "metadata/timestamp.json"
    file.write_bytes(b"old one")
    version = next(stub.Fetch(request("metadata/timestamp.json"))).version
    again = list(stub.Fetch(request("metadata/timestamp.json", offset=4, version=version)))
    assert b"".join(chunk.data for chunk in again) == b"one"
    file.write_bytes(b"a new one")
    first, *rest = stub.Fetch(request("metadata/timestamp.json", offset=4, version=version))
    assert first.offset == 0
    assert b"".join(chunk.data for chunk in rest) == b"a new one"
    assert next(stub.Fetch(request())).version == "a" * 64


def test_a_file_that_changes_meanwhile_ends_unavailable(
    stub: pb_grpc.DeliveryStub, folder: Path
) -> None:
    """Parts of two versions are never mixed."""
    file = folder / "targets/growing"
    file.write_bytes(LARGE)
    call = stub.Fetch(request("targets/growing"))
    next(call)
    file.write_bytes(b"short")
    code, text = refusal(lambda: list(call))
    assert (code, text) == (grpc.StatusCode.UNAVAILABLE, "the file has changed meanwhile")


def test_health_says_serving_at_once(service: Running) -> None:
    """For the download stream, while the model still loads."""
    with grpc.insecure_channel(service.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name, status in ((SERVICE, "SERVING"), ("", "NOT_SERVING")):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name))
            assert health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status) == status


def test_without_a_channel_there_is_no_such_method() -> None:
    """As in any service of another kind."""
    with (
        serving("tales", load=False) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        code, _ = refusal(lambda: list(pb_grpc.DeliveryStub(channel).Fetch(request())))
    assert code is grpc.StatusCode.UNIMPLEMENTED


def test_downloads_are_logged_and_counted_without_their_callers(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line each; the file that an invalid name could not name is empty."""
    caplog.set_level(logging.INFO, logger="edgewise_cloud.downloads")
    with (
        serving(
            "tales",
            load=False,
            delivery=DeliverySettings(channel=folder),
            observers=ObserverSettings(metrics_port=0),
        ) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        stub = pb_grpc.DeliveryStub(channel)
        list(stub.Fetch(request("metadata/1.root.json")))
        refusal(lambda: list(stub.Fetch(request("../secret\n"))))
        until(lambda: len(caplog.records) == 2)
        registry = running.server.observers._metrics.registry
        count = registry.get_sample_value
        assert count("edgewise_downloads_total", {"code": "OK"}) == 1
        assert count("edgewise_downloads_total", {"code": "INVALID_ARGUMENT"}) == 1
        assert count("edgewise_download_bytes_total") == len(SMALL)
    fields = [record.fields for record in caplog.records]
    assert [field.pop("total") >= 0 for field in fields] == [True, True]
    assert fields == [
        {"code": "OK", "file": "metadata/1.root.json", "sent": len(SMALL)},
        {"code": "INVALID_ARGUMENT", "file": "", "sent": 0},
    ]
    assert "127.0.0.1" not in json.dumps(fields)


# Limits


def test_a_download_that_was_ended_is_not_given_more_time_to_send() -> None:
    """Which may begin before the event loop comes to end it."""
    downloads: list[Download] = []

    async def send() -> None:
        download = Download("anna", asyncio.Lock(), send_timeout=600.0)
        downloads.append(download)
        async with download.timer:
            download.end(RefusedError(grpc.StatusCode.UNAVAILABLE, "over"))
            with download.sending():
                await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(send(), 60.0))
    assert downloads[0].timer.expired()


def test_draining_ends_downloads_at_once(folder: Path) -> None:
    """UNAVAILABLE, within a grace period that would last for ever."""
    settings = DeliverySettings(channel=folder, bandwidth=100_000)
    with (
        serving("tales", load=False, grace=600.0, delivery=settings) as running,
        grpc.insecure_channel(running.address) as channel,
        ThreadPoolExecutor(1) as reader,
    ):
        call = pb_grpc.DeliveryStub(channel).Fetch(request())
        next(call)
        ended = reader.submit(refusal, lambda: list(call))
        running.stop()
        code, text = ended.result()
    assert (code, text) == (grpc.StatusCode.UNAVAILABLE, "the service is shutting down")


@pytest.fixture
def callers(tmp_path: Path) -> tuple[Path, dict[str, list[tuple[str, str]]]]:
    """A token file, and the headers of two callers."""
    headers, file = {}, tmp_path / "tokens"
    for name in ("anna", "bert"):
        token, line = new_token(name)
        append_line(file, line)
        headers[name] = bearer(token)
    return file, headers


def test_a_place_is_shared_by_callers(
    folder: Path, callers: tuple[Path, dict[str, list[tuple[str, str]]]]
) -> None:
    """Behind tokens. A full service refuses with the time to retry, and makes room for who has less."""
    file, headers = callers
    settings = DeliverySettings(channel=folder, downloads=2, bandwidth=100_000)
    with (
        serving("tales", load=False, security=Security(tokens=file), delivery=settings) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        stub = pb_grpc.DeliveryStub(channel)
        code, _ = refusal(lambda: list(stub.Fetch(request())))
        assert code is grpc.StatusCode.UNAUTHENTICATED
        annas = [stub.Fetch(request(), metadata=headers["anna"]) for _ in range(2)]
        for call in annas:
            next(call)
        with pytest.raises(grpc.RpcError) as error:
            list(stub.Fetch(request(), metadata=headers["anna"]))
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        trailer = dict(error.value.trailing_metadata())["grpc-status-details-bin"]
        retry = RetryInfo()
        assert Status.FromString(trailer).details[0].Unpack(retry)
        assert retry.retry_delay.seconds >= 1
        small = stub.Fetch(request("metadata/empty.json"), metadata=headers["bert"])
        assert len(list(small)) == 1
        code, text = refusal(lambda: list(annas[1]))  # the latest of hers gave way
        assert (code, "others need" in text) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
        annas[0].cancel()


def test_a_reader_that_stops_holds_no_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its download gives way to another, of the same caller too."""
    monkeypatch.setattr(downloads_module, "UNREAD", 0.05)
    settings = DeliverySettings(channel=folder, downloads=1, bandwidth=10**9)
    with (
        serving("tales", load=False, delivery=settings) as running,
        grpc.insecure_channel(running.address) as channel,
        grpc.insecure_channel(running.address, [("grpc.use_local_subchannel_pool", 1)]) as other,
    ):
        stalled = pb_grpc.DeliveryStub(channel).Fetch(request())
        next(stalled)

        def small() -> list[pb.Chunk]:
            try:
                return list(pb_grpc.DeliveryStub(other).Fetch(request("metadata/empty.json")))
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # noqa: PT017
                return []

        until(small)
        code, _ = refusal(lambda: list(stalled))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_all_downloads_together_keep_to_the_bandwidth(folder: Path) -> None:
    """Four chunks at eight a second take three eighths of a second, less what is credited."""
    settings = DeliverySettings(channel=folder, bandwidth=8 * CHUNK_BYTES)
    with (
        serving("tales", load=False, delivery=settings) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        started = time.monotonic()
        list(pb_grpc.DeliveryStub(channel).Fetch(request("metadata/1.root.json")))
        assert time.monotonic() - started > 0.3


def test_callers_take_turns() -> None:
    """A caller with three downloads sends as much as one with one."""

    async def order() -> list[str]:
        downloads = Downloads(DeliverySettings(bandwidth=10**6), 60)
        sent: list[str] = []

        async def send(caller: str) -> None:
            async with downloads.place(caller) as download:
                for _ in range(4):
                    await downloads.take(download, 1000)
                    sent.append(caller)

        async with asyncio.TaskGroup() as tasks:
            for caller in ("anna", "anna", "anna", "bert"):
                tasks.create_task(send(caller))
        return sent

    sent = asyncio.run(order())
    assert sent[:8].count("bert") == 4
