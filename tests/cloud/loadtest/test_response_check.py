"""Responses that keep the contract, and responses that break it."""

import asyncio
import re

import pytest

from edgewise_cloud.loadtest.generator import LoadTestResult, run_load_test
from edgewise_cloud.loadtest.plan import LoadPlan, TokenRange
from edgewise_cloud.loadtest.response_check import InvalidResponseError, ResponseCheck
from edgewise_proto import generation_pb2 as pb
from tests.cloud.loadtest.fake_service import (
    FakeService,
    Responses,
    serving_fake,
    valid_responses,
)


def changed(responses: Responses, index: int, **fields: object) -> Responses:
    """`responses` with other fields in one of them."""
    fields = {"position": responses[index].position, **fields}
    message = pb.GenerateResponse()
    message.CopyFrom(responses[index])
    message.ClearField("token_ids")
    message.MergeFrom(pb.GenerateResponse(**fields))
    responses[index] = message
    return responses


BROKEN = {
    "position 8": lambda r: [r[1], r[0], *r[2:]],
    "no finish reason": lambda r: r[:-1],
    "token id 50, of a vocabulary of 50": lambda r: changed(r, 3, token_ids=[50]),
    "after 1 of 10": lambda r: [r[0], *changed([r[-1]], 0, position=8)],
    "STOP after 10 of 10": lambda r: changed(r, -1, finish_reason=pb.FINISH_REASON_STOP),
    "message after the last": lambda r: [*r, r[-1]],
    "tokens in the last": lambda r: changed(r[:-1], -1, token_ids=[1], finish_reason=2),
    "more tokens": lambda r: [*r[:-1], pb.GenerateResponse(position=17, token_ids=[1])],
    "usage of 7 + 9": lambda r: changed(r, -1, usage=pb.Usage(completion_tokens=9)),
}


@pytest.mark.parametrize("error", BROKEN)
def test_invalid_responses_are_counted(error: str) -> None:
    """And the record says what was wrong."""
    fake = FakeService(responses=lambda request: BROKEN[error](valid_responses(request)))

    async def run() -> LoadTestResult:
        async with serving_fake(fake) as address:
            plan = LoadPlan(
                target=address,
                streams=2,
                requests=3,
                prompt_tokens=TokenRange(7, 7),
                max_tokens=TokenRange(10, 10),
                warm_up=0,
            )
            return await run_load_test(plan)

    result = asyncio.run(run())
    summary = result.summary()
    assert (summary.wrong, summary.completed, summary.errors) == (3, 0, {})
    assert all(re.search(re.escape(error), each.text) for each in result.records)


def test_a_message_may_have_several_tokens() -> None:
    """The contract allows it."""
    request = pb.GenerateRequest(token_ids=[1, 2], prompt_tokens=2, max_tokens=3)
    check = ResponseCheck(request, vocabulary_size=50)
    assert check.message(pb.GenerateResponse(position=2, token_ids=[4, 5])) == 2
    assert check.message(pb.GenerateResponse(position=4, token_ids=[6])) == 1
    with pytest.raises(InvalidResponseError, match="no finish reason"):
        check.end()
    check.message(valid_responses(request)[-1])
    assert check.end().queued == 0.25
