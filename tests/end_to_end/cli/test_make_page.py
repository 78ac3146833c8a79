"""`make page`."""

import signal
import socket
import subprocess
import sys
import urllib.request

import psutil
import pytest

from demo.page import main, port

# As `python -m demo page` runs it, with a cloud that need not import TensorFlow.
CLOUD = [sys.executable, "-m", "tests.support.device_as_cloud"]
PAGE = [sys.executable, "-c", f"from demo.page import main; raise SystemExit(main({CLOUD!r}))"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_page_comes_with_its_cloud_and_both_end(number: signal.Signals) -> None:
    """It says when both answer, and where; an interrupt leaves nothing behind, and no traceback."""
    with subprocess.Popen(
        PAGE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        line = ""
        while "The page is at " not in line:
            line = process.stdout.readline()
            assert line
        address = line.split("The page is at ")[1].split()[0].rstrip(".")
        page = urllib.request.urlopen(address).read().decode()  # our own
        started = psutil.Process(process.pid).children()
        process.send_signal(number)
        rest, errors = process.communicate()
    assert '<button id="generate"' in page
    assert process.returncode == 0
    assert rest.endswith("The page and the cloud service have been stopped.\n")
    assert errors == ""
    assert started
    assert not any(child.is_running() for child in started)


def test_a_cloud_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """Its last words are shown instead of a page."""
    assert main([sys.executable, "-c", "import sys; sys.exit('no space left on device')"]) == 1
    shown = capsys.readouterr().out
    assert "The cloud service failed (exit status 1)" in shown
    assert "no space left on device\n" in shown
    assert "The page is at" not in shown


def test_a_port_that_is_taken() -> None:
    """The page takes another one."""
    if usual := port():
        with socket.create_server(("127.0.0.1", usual)):
            assert port() == 0
