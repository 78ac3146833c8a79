"""POST /v1/responses, without a memory: text in, text or a stream of events out."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgewise.options import RequestOptions
from edgewise.server.messages.body import read_body
from edgewise.server.messages.headers import request_options
from edgewise.server.messages.streaming import event_stream
from edgewise.server.openai.models import require_model
from edgewise.server.openai.reply.envelope import json_response
from edgewise.server.openai.reply.token_logprobs import token_logprobs
from edgewise.server.openai.request.messages import chat_prompt
from edgewise.server.openai.responses.events import ResponseEvents
from edgewise.server.openai.responses.reply import ResponseObject, output_text, status_of
from edgewise.server.openai.responses.request import ResponsesRequest
from edgewise.server.openai.writing.choices import Choice, write
from edgewise.server.openai.writing.written import collect
from edgewise.server.service import Service


async def create_response(request: Request) -> Response:
    """As OpenAI's; what differs is in docs/http.md."""
    service: Service = request.app.state.service
    body = await read_body(request, ResponsesRequest)
    manifest = require_model(body.model, service)
    body.check()
    prompt = chat_prompt(body.messages(), "input", manifest, service.settings)
    tokenizer = service.router.device_source.tokenizer
    options: RequestOptions = {
        **body.options(prompt.stop),
        **request_options(request, service),
        "max_tokens": body.max_output_tokens,
        "logprobs": body.scored,
        "seed": body.seed_of(0),
    }
    choice = Choice(0, prompt.text, options)
    names = {"prompt": "input", "max_tokens": "max_output_tokens"}
    events, response = (
        write(service, [choice], names),
        ResponseObject(body, manifest, prompt.format),
    )
    if body.stream:
        return event_stream(ResponseEvents(response, tokenizer).stream(events), service)
    (written,) = await collect(events, 1)
    text = output_text(written.text, token_logprobs(written.scores, tokenizer))
    item = response.message(status_of(written.ended), text)
    return json_response(response.complete(written.ended, item))


routes = [Route("/v1/responses", create_response, methods=["POST"])]
