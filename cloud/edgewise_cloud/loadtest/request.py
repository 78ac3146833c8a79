"""One request over gRPC, with the moment of each token's arrival."""

import time
from itertools import repeat

import grpc

from edgewise_cloud.loadtest.record import Outcome, Record
from edgewise_cloud.loadtest.response_check import Answer, InvalidResponseError
from edgewise_cloud.loadtest.service import Service
from edgewise_cloud.loadtest.workload import Job


async def ask(service: Service, job: Job, record: Record, deadline: float | None) -> None:
    """Send a job and write into `record` what comes of it. Cancelling it cancels the call."""
    stub = service.stubs[record.stream % len(service.stubs)]
    answer = Answer(job.message, service.model.vocabulary_size)
    record.sent = time.perf_counter()
    call = stub.Generate(job.message, timeout=deadline)
    try:
        async for response in call:
            now = time.perf_counter()
            record.arrivals.extend(repeat(now, answer.take(response)))
            if job.cancel_after is not None and len(record.arrivals) >= job.cancel_after:
                record.outcome = Outcome.CANCELLED
                break
        else:
            record.queued = answer.end().queued
            record.outcome = Outcome.COMPLETED
    except grpc.aio.AioRpcError as error:
        record.outcome = Outcome.FAILED
        record.code, record.text = error.code().name, error.details()
    except InvalidResponseError as error:
        record.outcome, record.text = Outcome.WRONG, str(error)
    finally:
        record.ended = time.perf_counter()
        call.cancel()  # does nothing to one that has ended
