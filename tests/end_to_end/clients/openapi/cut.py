"""Cut OpenAI's description of its API to what this server has.

    python cut.py openapi.json LICENSE COMMIT > openai.json

The whole one (github.com/openai/openai-openapi) has 3.4 MB. What a schema says of text stays; of
images, tools and the like nothing is said. Added is what OpenAI tells in prose only: streams, errors,
nulls. The model's name is ours, and texts are short, so that a request takes milliseconds.
"""

import json
import sys
from pathlib import Path
from typing import Any

Json = Any

PATHS = {
    "/models": "get",
    "/models/{model}": "get",
    "/completions": "post",
    "/chat/completions": "post",
    "/responses": "post",
}
KEPT = """
    ListModelsResponse Model ErrorResponse Error StopConfiguration
    CreateCompletionRequest CreateCompletionResponse CompletionUsage
    CreateChatCompletionRequest CreateChatCompletionResponse ChatCompletionStreamOptions
    ChatCompletionRequestMessage ChatCompletionRequestDeveloperMessage
    ChatCompletionRequestSystemMessage ChatCompletionRequestUserMessage
    ChatCompletionRequestAssistantMessage ChatCompletionRequestUserMessageContentPart
    ChatCompletionRequestMessageContentPartText ChatCompletionRequestSystemMessageContentPart
    ChatCompletionRequestAssistantMessageContentPart
    ChatCompletionResponseMessage ChatCompletionTokenLogprob
    CreateModelResponseProperties ModelResponseProperties ResponseProperties
    CreateResponse Response ResponseError ResponseErrorCode ResponseUsage ResponseStreamOptions
    InputParam InputItem Item InputMessage EasyInputMessage InputMessageContentList InputContent
    InputTextContent OutputItem OutputMessage OutputMessageContent OutputTextContent RefusalContent
    LogProb TopLogProb
""".split()  # noqa: SIM905  # it is read as text
# Fields of requests that the server reads; it ignores others.
REQUESTS = {name for name in KEPT if name.startswith("Create") and "tionResponse" not in name}
SHARED = {"ModelResponseProperties", "ResponseProperties"}  # by requests and responses
READ = """
    best_of echo frequency_penalty input instructions logit_bias logprobs max_completion_tokens
    max_output_tokens max_tokens messages model n presence_penalty prompt seed stop stream
    stream_options suffix temperature top_logprobs top_p user
""".split()  # noqa: SIM905  # likewise
# Besides those that OpenAI requires: what keeps a text short.
REQUIRED = {
    "CreateCompletionRequest": ["max_tokens"],
    "CreateChatCompletionRequest": ["max_tokens"],
    "CreateResponse": ["model", "input", "max_output_tokens"],
}
MOST = {"n": 4, "best_of": 4, "max_tokens": 8, "max_completion_tokens": 8, "max_output_tokens": 24}
NULL = {"type": "null"}
MODEL = {"enum": ["tales"]}
PROSE = {"description", "summary", "title", "example", "default", "deprecated", "discriminator"}
PROSE |= {"externalDocs", "operationId", "tags", "nullable", "format"}


def cut(whole: Json) -> Json:
    """The operations of PATHS, and the schemas of KEPT."""
    paths = {
        path: {method: _operation(whole["paths"][path][method])} for path, method in PATHS.items()
    }
    schemas = whole["components"]["schemas"]
    kept = {name: _schema(schemas[name]) for name in KEPT}
    for name in REQUESTS | SHARED:
        for part in (kept[name], *kept[name].get("allOf", ())):
            _read_only(part)
    for name, fields in REQUIRED.items():
        kept[name] = {"allOf": [kept[name], {"required": fields, "properties": {"model": MODEL}}]}
    return {
        "openapi": whole["openapi"],
        "info": {key: whole["info"][key] for key in ("title", "version", "license")},
        "paths": paths,
        "components": {"schemas": kept},
    }


def _operation(whole: Json) -> Json:
    """An operation that answers with an object, with a stream of events if asked to, or an error."""
    operation = _schema(whole)
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = {"anyOf": [MODEL, {"type": "string"}]}
    content = operation["responses"]["200"]["content"]
    if "requestBody" in operation:
        content["text/event-stream"] = {}
    errors = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}
    operation["responses"] = {
        "200": {"description": "a reply", "content": content},
        "4XX": {"description": "an error", "content": errors},
    }
    return operation


def _schema(node: Json, named: bool = False) -> Json:
    """Without prose and without references to other schemas; `named` by fields, not by keywords."""
    if isinstance(node, list):
        return [_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    if not _is_kept(node):
        return {}
    found = {
        key: _schema(value, named=key in ("properties", "headers"))
        for key, value in node.items()
        if named or not (key in PROSE or key.startswith("x-"))
    }
    for union in found.keys() & {"oneOf", "anyOf"}:
        found[union] = [_schema(variant) for variant in node[union] if _is_kept(variant)]
        if found[union] in ([], [NULL]):
            return {}
    if node.get("nullable") is True:
        return {"anyOf": [found, NULL]}
    return found


def _is_kept(node: Json) -> bool:
    reference = node.get("$ref", "")
    return not reference or reference.rsplit("/", 1)[-1] in KEPT


def _read_only(request: Json) -> None:
    """Leave the fields of READ, for short texts."""
    fields = request.get("properties", {})
    for name in fields.keys() - set(READ):
        del fields[name]
    for name in fields.keys() & MOST.keys():
        _number(fields[name])["maximum"] = MOST[name]
    if "model" in fields:  # there it was a list of OpenAI's
        fields["model"] = {}


def _number(schema: Json) -> Json:
    """The part of a schema that allows a number."""
    return next(part for part in schema.get("anyOf", [schema]) if part.get("type") == "integer")


if __name__ == "__main__":
    source, licence, commit = sys.argv[1:]
    description = cut(json.loads(Path(source).read_text(encoding="utf-8")))
    origin = f"Cut by cut.py from openapi.json of github.com/openai/openai-openapi at {commit}."
    terms = Path(licence).read_text(encoding="utf-8")
    description["info"] |= {"description": f"{origin}\n\n{terms}"}
    print(json.dumps(description, separators=(",", ":")))
