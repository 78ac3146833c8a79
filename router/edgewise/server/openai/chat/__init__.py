"""POST /v1/chat/completions: a conversation as one text that the model continues."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgewise.options import RequestOptions
from edgewise.server.messages.body import read_body
from edgewise.server.messages.headers import request_options
from edgewise.server.messages.streaming import event_stream
from edgewise.server.openai.chat.reply import ChatReply
from edgewise.server.openai.chat.request import ChatRequest
from edgewise.server.openai.models import require_model
from edgewise.server.openai.reply.envelope import Envelope, json_response
from edgewise.server.openai.request.messages import chat_prompt
from edgewise.server.openai.writing.choices import Choice, write
from edgewise.server.openai.writing.written import collect
from edgewise.server.service import Service


async def create_chat_completion(request: Request) -> Response:
    """As OpenAI's; what differs is in docs/http.md."""
    service: Service = request.app.state.service
    body = await read_body(request, ChatRequest)
    manifest = require_model(body.model, service)
    body.check(service.settings.max_choices)
    prompt = chat_prompt(body.messages or (), "messages", manifest, service.settings)
    tokenizer = service.router.device_source.tokenizer
    options: RequestOptions = {
        **body.options(prompt.stop),
        **request_options(request, service),
        "max_tokens": body.length,
        "logprobs": body.scored,
    }
    choices = [
        Choice(index, prompt.text, {**options, "seed": body.seed_of(index)})
        for index in range(body.texts)
    ]
    reply = ChatReply(
        Envelope.new("chatcmpl-", manifest),
        tokenizer,
        prompt.format,
        scored=body.scored is not None,
        include_usage=body.include_usage,
    )
    events = write(service, choices, {"prompt": "messages", "max_tokens": body.length_field})
    if body.stream:
        return event_stream(reply.chunks(events, len(choices)), service)
    return json_response(reply.whole(await collect(events, len(choices))))


routes = [Route("/v1/chat/completions", create_chat_completion, methods=["POST"])]
