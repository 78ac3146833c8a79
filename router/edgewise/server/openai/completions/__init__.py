"""POST /v1/completions: text and token ids continued, their log-probabilities, echo and scores."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgewise.server.messages.body import read_body
from edgewise.server.messages.headers import request_options
from edgewise.server.messages.streaming import event_stream
from edgewise.server.openai.completions.plan import make_plan
from edgewise.server.openai.completions.reply import chunks, reply
from edgewise.server.openai.completions.request import CompletionRequest
from edgewise.server.openai.models import require_model
from edgewise.server.openai.reply.envelope import Envelope, json_response
from edgewise.server.openai.writing.choices import write
from edgewise.server.openai.writing.written import collect
from edgewise.server.service import Service


async def create_completion(request: Request) -> Response:
    """As OpenAI's; what differs is in docs/http.md."""
    service: Service = request.app.state.service
    body = await read_body(request, CompletionRequest)
    envelope = Envelope.new("cmpl-", require_model(body.model, service))
    plan = await make_plan(body, request_options(request, service), service)
    events = write(service, plan.choices)
    if body.stream:
        return event_stream(chunks(envelope, plan, events), service)
    return json_response(reply(envelope, plan, await collect(events, len(plan.choices))))


routes = [Route("/v1/completions", create_completion, methods=["POST"])]
