"""What a step that fails, or makes NaN, does to the requests in it and to others."""

from collections.abc import Callable

import grpc
import numpy as np
import pytest

from tests.support.gated_programs import Gate
from tests.support.generate_requests import received_tokens
from tests.support.service import Running


def test_a_failing_step_fails_only_the_requests_in_it(
    ask: Callable[..., "grpc.UnaryStreamCall"],
    two_running: Callable[..., "list[grpc.UnaryStreamCall]"],
    gate: Gate,
    service: Running,
    alone: Callable[[int], list[int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """INTERNAL for each, without the reason; a waiting request is served."""
    wanted = alone(20)[:20]
    running = two_running()
    waiting = ask(20, 20)
    before = service.programs.before

    def fail_once() -> None:
        before.clear()
        raise RuntimeError("secret of tensorflow/core")

    before["decode"] = fail_once
    gate.open()
    for call in running:
        with pytest.raises(grpc.RpcError) as error:
            list(call)
        assert error.value.code() is grpc.StatusCode.INTERNAL
        assert error.value.details() == "the model failed; see the service's log"
    assert received_tokens(waiting) == wanted
    assert "a step of the model failed" in caplog.text
    assert "secret" not in caplog.text


def test_nan_logits_end_only_their_request(
    two_running: Callable[..., "list[grpc.UnaryStreamCall]"],
    gate: Gate,
    service: Running,
    alone: Callable[[int], list[int]],
) -> None:
    """The other stream in the same step continues, token for token."""
    wanted = alone(6)[1:100]
    bad, good = two_running(max_tokens=100)

    def spoil(logits: np.ndarray) -> None:
        logits[0] = np.nan
        service.programs.change_logits = None

    service.programs.change_logits = spoil
    gate.open()
    with pytest.raises(grpc.RpcError) as error:
        list(bad)
    assert error.value.code() is grpc.StatusCode.INTERNAL
    assert received_tokens(good) == wanted
