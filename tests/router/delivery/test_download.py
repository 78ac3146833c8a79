"""A download ends with the right file, whatever the server does, or with an error that says why."""

from pathlib import Path

import pytest

from edgewise import DownloadFailedError, StoreError
from edgewise.delivery.settings import DownloadSettings
from edgewise_edge.installed.store import ModelStore
from tests.router.delivery.conftest import CONTENT, PATIENT, QUICK, SHA256, FakeClock, Fetch
from tests.support.file_server import Fault, FileServer, Misbehaviour

HALF = len(CONTENT) // 2
TWICE = {"times": 2}


@pytest.fixture
def server(folder: Path):
    """Serves `folder`."""
    with FileServer(folder) as server:
        yield server


def ranges(server: FileServer) -> list[str]:
    """The Range of each request."""
    return [request.headers.get("range", "") for request in server.requests]


def test_a_good_server_is_asked_once(server: FileServer, fetch: Fetch) -> None:
    """And the file becomes a blob."""
    assert fetch(server.address).read_bytes() == CONTENT
    assert ranges(server) == [""]


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.TRUNCATE])
def test_what_came_is_not_fetched_twice(server: FileServer, fetch: Fetch, fault: Fault) -> None:
    """After a stall or a lost connection the rest is asked for, of the same version of the file."""
    server.misbehave(fault, after=HALF)
    settings = QUICK if fault is Fault.STALL else PATIENT
    assert fetch(server.address, settings).read_bytes() == CONTENT
    assert len(server.requests) >= 2
    assert all("if-range" in request.headers for request in server.requests[1:])
    assert server.sent == len(CONTENT)


def test_partial_bytes_survive_a_failed_download(server: FileServer, fetch: Fetch) -> None:
    """The next download goes on from there, and reports so."""
    server.misbehave(Fault.TRUNCATE, after=HALF)
    server.misbehave(Fault.STATUS, status=400)
    with pytest.raises(DownloadFailedError, match="400"):
        fetch(server.address)
    reports: list[tuple[int, int, int]] = []
    fetch(server.address, on_progress=lambda *report: reports.append(report))
    assert server.sent == len(CONTENT)
    assert reports[0] == (HALF, len(CONTENT), HALF)
    assert reports[-1] == (len(CONTENT), len(CONTENT), HALF)


@pytest.mark.parametrize("fault", [Fault.MORE, Fault.MORE_THAN_SAID])
@pytest.mark.parametrize("after", [1, 500_000])
def test_more_bytes_are_cut_off(
    server: FileServer, fetch: Fetch, store: ModelStore, fault: Fault, after: int
) -> None:
    """They are an error, and nothing of them is kept."""
    server.misbehave(fault, after=after, **TWICE)
    with pytest.raises(DownloadFailedError, match="1,000,000"):
        fetch(server.address)
    with store.partial(SHA256, len(CONTENT)) as partial:
        assert partial.size == 0


def test_other_bytes_are_fetched_once_more(server: FileServer, fetch: Fetch) -> None:
    """From the beginning; the second time they are right."""
    server.misbehave(Fault.OTHER_BYTES)
    assert fetch(server.address).read_bytes() == CONTENT
    assert ranges(server) == ["", ""]


def test_other_bytes_twice_are_an_error(server: FileServer, fetch: Fetch) -> None:
    """Which names the file."""
    server.misbehave(Fault.OTHER_BYTES, **TWICE)
    with pytest.raises(DownloadFailedError, match=r"model\.tflite.*sha256"):
        fetch(server.address)
    assert len(server.requests) == 2


def test_a_file_that_changes_between_two_ranges_starts_again(
    server: FileServer, folder: Path, fetch: Fetch
) -> None:
    """Its new bytes follow no old ones; here the right version comes second."""
    (folder / "model.tflite").write_bytes(bytes(len(CONTENT)))
    server.misbehave(Fault.TRUNCATE, after=HALF)

    def change(done: int, *_: int) -> None:
        if done == HALF:
            (folder / "model.tflite").write_bytes(CONTENT)

    assert fetch(server.address, on_progress=change).read_bytes() == CONTENT
    assert ranges(server) == ["", f"bytes={HALF}-"]


def test_another_file_does_not_cost_what_is_there(
    server: FileServer, folder: Path, fetch: Fetch
) -> None:
    """The page of a hotel's network, for example: it has another size."""
    server.misbehave(Fault.TRUNCATE, after=HALF)

    def replace(done: int, *_: int) -> None:
        if done == HALF:
            (folder / "model.tflite").write_text("<html>", encoding="ascii")

    with pytest.raises(DownloadFailedError, match="another file"):
        fetch(server.address, on_progress=replace)
    (folder / "model.tflite").write_bytes(CONTENT)
    reports: list[int] = []
    fetch(server.address, on_progress=lambda done, *_: reports.append(done))
    assert reports[0] == HALF


def test_200_for_206_uses_the_whole_file_that_comes(server: FileServer, fetch: Fetch) -> None:
    """Without asking again."""
    server.misbehave(Fault.TRUNCATE, after=HALF)
    server.misbehave(Fault.NO_RANGE)
    assert fetch(server.address).read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("fault", [Fault.NOT_SATISFIABLE, Fault.OTHER_RANGE])
def test_a_server_that_mistakes_ranges_is_asked_for_all(
    server: FileServer, fetch: Fetch, fault: Fault
) -> None:
    """After 416, or bytes from another place."""
    server.misbehave(Fault.TRUNCATE, after=HALF)
    server.misbehave(fault, after=100)
    assert fetch(server.address).read_bytes() == CONTENT
    assert ranges(server) == ["", f"bytes={HALF}-", ""]


def test_without_validators_the_sha256_decides(folder: Path, fetch: Fetch) -> None:
    """A server that names no version is asked for the rest all the same."""
    with FileServer(folder, etags=False) as server:
        server.misbehave(Fault.TRUNCATE, after=HALF)
        assert fetch(server.address).read_bytes() == CONTENT
        assert server.sent == len(CONTENT)


def test_another_place_goes_on_with_the_bytes(
    server: FileServer, folder: Path, fetch: Fetch
) -> None:
    """A mirror has other validators; it is asked for the rest without one."""
    server.misbehave(Fault.TRUNCATE, after=HALF)
    server.misbehave(Fault.STATUS, status=400)
    with pytest.raises(DownloadFailedError):
        fetch(server.address)
    reports: list[int] = []
    fetch(str(folder), on_progress=lambda done, *_: reports.append(done))
    assert reports[0] == HALF


def test_tries_are_bounded_and_spread(
    server: FileServer, fetch: Fetch, fake_clock: FakeClock
) -> None:
    """Six without progress, twice as long apart each time, by jitter at most."""
    server.misbehave(Fault.STATUS, times=20)
    with pytest.raises(DownloadFailedError, match=r"503.*6 times"):
        fetch(server.address)
    assert fake_clock.slept == [1, 2, 4, 8, 16]


def test_progress_resets_the_tries(server: FileServer, fetch: Fetch) -> None:
    """A bad line delivers in the end."""
    for _ in range(8):
        server.misbehave(Fault.TRUNCATE, after=100_000)
    assert fetch(server.address, DownloadSettings(tries=2)).read_bytes() == CONTENT


def test_bytes_that_were_there_before_are_no_progress(server: FileServer, fetch: Fetch) -> None:
    """A server that has no ranges and always breaks off at the same place is given up."""
    server.ranges = False
    server.always = Misbehaviour(Fault.TRUNCATE, after=HALF)
    with pytest.raises(DownloadFailedError, match="6 times"):
        fetch(server.address)
    assert len(server.requests) == 6


@pytest.mark.parametrize(("asked", "waited"), [("7", 8), ("999999", 301), ("never", 1)])
def test_retry_after_is_honoured_up_to_a_limit(
    server: FileServer, fetch: Fetch, fake_clock: FakeClock, asked: str, waited: float
) -> None:
    """Five minutes, and the backoff."""
    server.misbehave(Fault.STATUS, status=503, headers={"Retry-After": asked})
    fetch(server.address)
    assert fake_clock.slept == [waited]


def test_bandwidth_is_limited(server: FileServer, fetch: Fetch, fake_clock: FakeClock) -> None:
    """A second's bytes at once, the rest at the rate."""
    fetch(server.address, DownloadSettings(bandwidth=100_000))
    assert sum(fake_clock.slept) == pytest.approx((len(CONTENT) - 100_000) / 100_000)


@pytest.mark.parametrize("status", [400, 401, 404])
def test_what_does_not_pass_is_not_tried_again(
    server: FileServer, fetch: Fetch, status: int
) -> None:
    """The error names the file and the status."""
    server.misbehave(Fault.STATUS, status=status)
    with pytest.raises(DownloadFailedError, match=f"model.tflite.*{status}"):
        fetch(server.address)
    assert len(server.requests) == 1


def test_a_full_disk_is_an_error_of_the_store(
    server: FileServer, store: ModelStore, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was written stays for the next try."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("edgewise_edge.installed.files.disk.write_all", full)
        with pytest.raises(StoreError, match="is full"):
            fetch(server.address)
    assert fetch(server.address).read_bytes() == CONTENT


def test_a_stop_in_progress_keeps_what_came(server: FileServer, fetch: Fetch) -> None:
    """Whatever on_progress raises ends the download."""

    def stop(done: int, *_: int) -> None:
        if done >= HALF:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server.address, on_progress=stop)
    reports: list[int] = []
    fetch(server.address, PATIENT, lambda done, *_: reports.append(done))
    assert reports[0] >= HALF


def test_requests_say_nothing_about_the_device(server: FileServer, fetch: Fetch) -> None:
    """The same headers from every device and process, none of them compressing."""
    fetch(server.address)
    (request,) = server.requests
    assert request.headers == {
        "host": server.address.removeprefix("http://"),
        "user-agent": "edgewise",
        "accept": "*/*",
        "accept-encoding": "identity",
    }
