"""Sending one request over gRPC, and recording when each token arrives."""

import time
from itertools import repeat

import grpc

from edgewise_cloud.loadtest.record import Outcome, RequestRecord
from edgewise_cloud.loadtest.response_check import InvalidResponseError, ResponseCheck
from edgewise_cloud.loadtest.service import Service
from edgewise_cloud.loadtest.workload import PlannedRequest


async def send_request(
    service: Service, request: PlannedRequest, record: RequestRecord, deadline: float | None
) -> None:
    """Send a request and fill in its record. Cancelling this coroutine cancels the call."""
    stub = service.stubs[record.stream % len(service.stubs)]
    check = ResponseCheck(request.message, service.model.vocabulary_size)
    record.sent = time.perf_counter()
    call = stub.Generate(request.message, timeout=deadline, metadata=service.metadata)
    try:
        async for response in call:
            now = time.perf_counter()
            record.arrivals.extend(repeat(now, check.message(response)))
            if request.cancel_after is not None and len(record.arrivals) >= request.cancel_after:
                record.outcome = Outcome.CANCELLED
                break
        else:
            record.queued = check.end().queued
            record.outcome = Outcome.COMPLETED
    except grpc.aio.AioRpcError as error:
        record.outcome = Outcome.FAILED
        record.code, record.text = error.code().name, error.details()
    except InvalidResponseError as error:
        record.outcome, record.text = Outcome.WRONG, str(error)
    finally:
        record.ended = time.perf_counter()
        call.cancel()  # does nothing to one that has ended
