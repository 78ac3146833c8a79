"""What a cloud's words can do to the device's log and terminal: nothing."""

import os
import subprocess
import sys

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from edgewise import CloudSecurity
from edgewise.cloud.status import DETAILS, MAX_RETRY_AFTER, error_for_status
from tests.support.network.goaway import FORGED, cloud_that_closes

ASK = """
import sys
from edgewise import Router, SourceFailedError

with Router(cloud=sys.argv[1]) as router:
    try:
        router.describe_cloud()
    except SourceFailedError as error:
        print(error)
"""


class Answer(grpc.RpcError):
    """A status as a cloud sends it."""

    def __init__(self, code, text="words", seconds=0, nanos=0):
        self._code, self._text = code, text
        retry = AnyMessage()
        retry.Pack(RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos)))
        self._metadata = ((DETAILS, Status(details=[retry]).SerializeToString()),)

    def code(self):
        return self._code

    def details(self):
        return self._text

    def trailing_metadata(self):
        return self._metadata


def error_for(answer, security=None):
    return error_for_status(answer, "cloud:1", security or CloudSecurity(), caller_deadline=False)


@pytest.mark.parametrize(
    ("seconds", "nanos", "waited"),
    [
        (2, 500_000_000, 2.5),
        (10_000 * 365 * 86_400, 0, MAX_RETRY_AFTER),
        (2**62, 0, MAX_RETRY_AFTER),
        (61, 0, MAX_RETRY_AFTER),
        (-5, 0, 0),
        (-(2**62), 0, 0),
    ],
)
def test_no_cloud_asks_for_more_than_a_minute(seconds, nanos, waited):
    """One answer must not keep a device off the cloud for good."""
    error = error_for(Answer(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", seconds, nanos))
    assert error.retry_after == waited


@pytest.mark.parametrize("code", list(grpc.StatusCode)[1:])
@pytest.mark.parametrize("security", [CloudSecurity(), CloudSecurity(tls=True)])
def test_a_clouds_words_are_one_short_line(code, security):
    """Without control characters, in every error."""
    text = f"a\n{FORGED}\r\x1b[31m\x9b2J\x00\x7f\u202e\u2028" + "long" * 1000
    message = str(error_for(Answer(code, text), security))
    assert message.isprintable()
    assert len(message) < 900


def test_a_cloud_without_words_is_said_so():
    """And not None."""
    assert "None" not in str(error_for(Answer(grpc.StatusCode.INVALID_ARGUMENT, None)))


def test_a_cloud_writes_nothing_to_standard_error():
    """GRPC would log what a GOAWAY says, line breaks included."""
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    with cloud_that_closes() as address:
        done = subprocess.run(
            [sys.executable, "-c", ASK, address],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert "does not answer" in done.stdout
