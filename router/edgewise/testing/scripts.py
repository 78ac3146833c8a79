"""Scripts: what one attempt of a scripted source does."""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice

from edgewise.errors import CloudUnavailableError, ConfigurationError
from edgewise.generation.attempt import Attempt
from edgewise.options import require_function
from edgewise.policy.types import Source, Veto, VetoCode
from edgewise_edge import RuntimeFailedError
from edgewise_edge.checks import Range, check_type

# Yields what the attempt generates, given the rest of the answer's tokens. An app may write its
# own. It returns once `attempt.stop` is set: the stream was closed, or the other source continues.
Script = Callable[[Iterator[int], Attempt], Iterator[int]]

_POLL_INTERVAL = 0.005  # seconds
_PATIENCE = 30.0  # seconds: a test that hangs should say why


_COUNT = Range(0, 2**31 - 1, whole=True, unit="tokens")


def _count(count: object) -> int:
    return int(_COUNT.check("count", count, ConfigurationError))


def completes(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
    """Generate the rest of the answer. What a source does when it has no more scripts."""
    for token in tokens:
        if attempt.stop.is_set():
            return
        yield token


def fails_after(count: int, error: Exception | None = None) -> Script:
    """Generate `count` tokens, or the whole answer if it has fewer, then raise `error`.

    A failure after the answer's end is never seen: the router stops reading there.
    Default: CloudUnavailableError in the cloud, RuntimeFailedError on the device. After these and
    the others of errors.Failure the other source continues; any other error reaches the app.
    """
    count = _count(count)
    if error is not None:
        check_type("error", error, BaseException, "an exception", ConfigurationError)

    def script(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield from islice(tokens, count)
        kind = CloudUnavailableError if attempt.source is Source.IN_CLOUD else RuntimeFailedError
        raise error or kind("a scripted failure")

    return script


def ends_after(count: int) -> Script:
    """Generate `count` tokens, then end as if the answer were complete, which is a failure."""
    count = _count(count)
    return lambda tokens, _attempt: islice(tokens, count)


def hands_off_after(count: int, why: VetoCode = VetoCode.TEMPERATURE) -> Script:
    """Generate `count` tokens, then be stopped for the other source to continue.

    As the router does it when the device gets too hot, or stalls; `why` is the code of that veto.
    """
    count = _count(count)
    check_type("why", why, VetoCode, "a VetoCode", ConfigurationError)

    def script(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield from islice(tokens, count)
        attempt.hand_off(Veto(why, "a scripted handoff", soft=True))

    return script


def hangs_after(count: int, hanging: threading.Event | None = None) -> Script:
    """Generate `count` tokens, set `hanging`, then wait until the attempt is stopped.

    That is when the stream is closed from another thread, when the other source is faster
    (`hedge_after`), or when the router hands off: if both sources have predicted times, since a
    budget is at risk, or since the cloud is silent for a second. Raises TimeoutError if nothing
    stops it in 30 seconds.
    """
    count = _count(count)
    if hanging is not None:
        check_type("hanging", hanging, threading.Event, "a threading.Event", ConfigurationError)

    def script(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield from islice(tokens, count)
        if hanging:
            hanging.set()
        if not attempt.stop.wait(_PATIENCE):
            raise TimeoutError(f"nothing stopped a scripted hang in {_PATIENCE} s")

    return script


def waits_for(event: threading.Event, then: Script = completes) -> Script:
    """Wait until `event` is set or the attempt is stopped, then run another script.

    Raises TimeoutError if neither happens in 30 seconds.
    """
    check_type("event", event, threading.Event, "a threading.Event", ConfigurationError)
    require_function("then", then, "a script")

    def script(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        deadline = time.monotonic() + _PATIENCE
        while not (event.wait(_POLL_INTERVAL) or attempt.stop.is_set()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing set the event of a script in {_PATIENCE} s")
        yield from then(tokens, attempt)

    return script
