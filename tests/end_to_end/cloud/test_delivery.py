"""A device downloads the files of a channel from the cloud service. No model is loaded."""

import hashlib
import random
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from edgewise import CloudSecurity, CloudUnavailableError, ConfigurationError
from edgewise.cloud.client import CloudClient
from edgewise.cloud.delivery import GrpcFetcher
from edgewise.delivery.download import Clock, download
from edgewise.delivery.fetch import Fetcher, FetchError, FetchFailure, open_fetcher
from edgewise.delivery.settings import DownloadSettings
from edgewise_cloud.serving.security.settings import Security
from edgewise_cloud.serving.security.tokens import append_line, new_token
from edgewise_cloud.serving.server.delivery.settings import DeliverySettings
from tests.support.certificates import Authority
from tests.support.network.fault_proxy import FaultProxy, fault_proxy
from tests.support.service import Running, serving

PATH = "targets/model.tflite"
CONTENT = random.Random(0).randbytes(1_000_000)
QUICK = DownloadSettings(stall_timeout=0.3)


class MemoryPartial:
    """The bytes of a download that are there; see edgewise.delivery.download.Partial."""

    sha256 = hashlib.sha256(CONTENT).hexdigest()
    total = len(CONTENT)

    def __init__(self) -> None:
        self.content = bytearray()
        self.journal: Mapping[str, str] = {}
        self.resets = 0

    @property
    def size(self) -> int:
        return len(self.content)

    def append(self, content: bytes) -> None:
        self.content += content

    def note(self, journal: Mapping[str, str]) -> None:
        self.journal = journal

    def reset(self) -> None:
        self.content.clear()
        self.resets += 1

    def finish(self) -> Path:
        assert bytes(self.content) == CONTENT
        return Path("finished")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("delivery") / "channel"
    (folder / "metadata").mkdir(parents=True)
    (folder / "targets").mkdir()
    (folder / PATH).write_bytes(CONTENT)
    return folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Running]:
    with serving("tales", load=False, delivery=DeliverySettings(channel=folder)) as running:
        yield running


@pytest.fixture
def proxy(service: Running) -> Iterator[FaultProxy]:
    with fault_proxy(service.address) as proxy:
        yield proxy


@pytest.fixture
def fetcher(proxy: FaultProxy) -> Iterator[Fetcher]:
    fetcher = open_fetcher(f"grpc://{proxy.address}", QUICK)
    yield fetcher
    fetcher.close()


def content(fetcher: Fetcher, path: str = PATH, offset: int = 0, validator: str = "") -> bytes:
    with fetcher.open(path, offset, validator) as reply:
        return b"".join(reply.chunks)


def failure(fetcher: Fetcher, path: str = PATH, offset: int = 0) -> FetchError:
    with pytest.raises(FetchError) as error:
        content(fetcher, path, offset)
    return error.value


def test_it_reads_a_file_from_any_byte_on(fetcher: Fetcher) -> None:
    """With its size and what tells its version; `close` is enough to end it."""
    assert content(fetcher) == CONTENT
    assert content(fetcher, offset=999_999) == CONTENT[-1:]
    assert content(fetcher, offset=len(CONTENT)) == b""
    with fetcher.open(PATH, 70_000) as reply:
        assert (reply.offset, reply.size) == (70_000, len(CONTENT))
        assert reply.validator
        assert next(reply.chunks) == CONTENT[70_000 : 70_000 + 2**16]


def test_a_download_goes_on_at_the_byte_that_is_there(proxy: FaultProxy, fetcher: Fetcher) -> None:
    """Each time the connection breaks, at whatever byte."""
    partial, cuts = MemoryPartial(), iter([200_000, 1, 77_777])

    def next_fault(_seconds: float) -> None:
        proxy.heal()
        if (after := next(cuts, None)) is not None:
            proxy.cut(after_bytes=after)

    next_fault(0)
    clock = Clock(sleep=next_fault)
    assert download(fetcher, PATH, partial, clock=clock) == Path("finished")
    assert next(cuts, None) is None
    assert partial.resets == 0
    assert proxy.bytes_to_device < 1.4 * len(CONTENT)


def test_a_stall_is_temporary(proxy: FaultProxy, fetcher: Fetcher) -> None:
    """After `stall_timeout` seconds without a byte. The time that its user takes does not count."""
    proxy.stall(after_bytes=300_000)
    error = failure(fetcher)
    assert error.kind is FetchFailure.TEMPORARY
    assert "sent nothing for 0.3 s" in str(error)


def test_a_file_that_changed_starts_at_its_first_byte(fetcher: Fetcher, folder: Path) -> None:
    """With the validator of what is there; a file that is shorter by now does so without, too."""
    file = folder / "metadata/timestamp.json"
    file.write_bytes(b"old one")
    with fetcher.open("metadata/timestamp.json") as reply:
        old = reply.validator
    file.write_bytes(b"new")
    for offset, validator in ((4, old), (4, "")):
        with fetcher.open("metadata/timestamp.json", offset, validator) as reply:
            assert reply.offset == 0
            assert b"".join(reply.chunks) == b"new"


def test_what_is_not_there_is_told_from_what_is_refused(fetcher: Fetcher) -> None:
    """Neither is tried again."""
    missing = failure(fetcher, "targets/other")
    assert missing.kind is FetchFailure.MISSING
    assert str(missing).endswith("has no targets/other")
    refused = failure(fetcher, "../targets/other")
    assert refused.kind is FetchFailure.REFUSED
    assert "no path of a file within the channel" in str(refused)


def test_a_service_without_a_channel_says_what_to_do() -> None:
    """It needs --channel."""
    with serving("tales", load=False) as running:
        fetcher = GrpcFetcher(running.address)
        error = failure(fetcher)
        fetcher.close()
    assert error.kind is FetchFailure.REFUSED
    assert "--channel" in str(error)


def test_a_service_that_is_gone_is_temporary() -> None:
    """The device may be elsewhere now."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        fetcher = GrpcFetcher(f"127.0.0.1:{unused.getsockname()[1]}")
        assert failure(fetcher).kind is FetchFailure.TEMPORARY
        fetcher.close()


def test_a_full_service_says_when_to_come_again(folder: Path) -> None:
    """`retry_after`, in seconds."""
    settings = DeliverySettings(channel=folder, downloads=1, bandwidth=100_000)
    with serving("tales", load=False, delivery=settings) as running:
        fetcher = GrpcFetcher(running.address)
        with fetcher.open(PATH) as reply:
            next(reply.chunks)
            error = failure(fetcher)
        fetcher.close()
    assert error.kind is FetchFailure.TEMPORARY
    assert 1 <= error.retry_after <= 60


def test_it_passes_the_services_own_security(folder: Path, tmp_path: Path) -> None:
    """Certificate and token; without them it is refused, or finds nobody to talk to."""
    authority, tokens = Authority(tmp_path), tmp_path / "tokens"
    pair = authority.issue("server")
    token, line = new_token("phone-1")
    append_line(tokens, line)
    file = tmp_path / "token"
    file.write_text(f"{token}\n")
    security = Security(certificate=pair.certificate, key=pair.key, tokens=tokens)
    delivery = DeliverySettings(channel=folder)
    with serving("tales", load=False, security=security, delivery=delivery) as running:
        for settings, kind in (
            (DownloadSettings(root_certificates=authority.file, token_file=file), None),
            (DownloadSettings(root_certificates=authority.file), FetchFailure.REFUSED),
            (DownloadSettings(), FetchFailure.TEMPORARY),
        ):
            fetcher = open_fetcher(f"grpc://{running.address}", settings)
            if kind:
                error = failure(fetcher)
                assert error.kind is kind
                assert token not in str(error)
            else:
                assert content(fetcher) == CONTENT
            fetcher.close()
        given = GrpcFetcher(
            running.address,
            security=CloudSecurity(root_certificates=authority.file, token=token),
        )
        assert content(given) == CONTENT
        given.close()


def test_other_machines_are_reached_over_tls() -> None:
    """Unless the caller's CloudSecurity says that the network is trusted."""
    assert GrpcFetcher("192.0.2.1:1")._security.encrypted
    assert not GrpcFetcher("localhost:1")._security.encrypted
    assert not GrpcFetcher("192.0.2.1:1", security=CloudSecurity(insecure=True))._security.encrypted
    with pytest.raises(ConfigurationError, match="not encrypted"):
        GrpcFetcher("192.0.2.1:1", security=CloudSecurity())
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        open_fetcher("grpc://somewhere/else")


def test_its_connection_is_not_that_of_prompts(proxy: FaultProxy, fetcher: Fetcher) -> None:
    """Whoever sees one of them cannot tell from it what goes over the other."""
    client = CloudClient(proxy.address, CloudSecurity())
    with pytest.raises(CloudUnavailableError):  # its model is not loaded
        client.model("", 10)
    assert proxy.connections == 1
    content(fetcher)
    assert proxy.connections == 2
    client.close()


def test_grpc_is_imported_for_a_grpc_address_only() -> None:
    """A device that reads a folder needs no network stack."""
    script = (
        "import sys; from edgewise.delivery.fetch import open_fetcher; open_fetcher('.'); "
        "assert 'grpc' not in sys.modules; open_fetcher('grpc://localhost:1').close(); "
        "assert 'grpc' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
