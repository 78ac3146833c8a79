"""The official openai client."""

import asyncio
import os
from importlib.util import find_spec

import openai
import pytest

BASE = os.environ["EDGEWISE_URL"] + "/v1"
BUSY = os.environ["EDGEWISE_BUSY_URL"] + "/v1"
if find_spec("httpx2"):  # version 3 of openai needs it
    from openai import DefaultHttpx2Client as HttpClient
else:
    from openai import DefaultHttpxClient as HttpClient
PROMPT = "Once upon a time"
GREEDY = {"max_tokens": 12, "temperature": 0}
MESSAGES = [{"role": "user", "content": PROMPT}]


@pytest.fixture(scope="module")
def client():
    with openai.OpenAI(base_url=BASE, api_key="none") as client:
        yield client


@pytest.fixture(scope="module")
def model(client):
    return client.models.list().data[0].id


@pytest.fixture(scope="module")
def completion(client, model):
    return client.completions.create(model=model, prompt=PROMPT, **GREEDY)


def test_the_model_is_retrieved_by_its_name(client, model):
    """As it is listed."""
    found = client.models.retrieve(model)
    assert (found.id, found.object, found.owned_by) == (model, "model", "edgewise")


def test_a_completion(completion):
    """Its text, why it ended, and its usage."""
    [choice] = completion.choices
    assert choice.text.strip()
    assert (choice.finish_reason, choice.index, choice.logprobs) == ("length", 0, None)
    assert completion.usage.completion_tokens == 12
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + 12


def test_the_reply_says_which_source_wrote_it(completion):
    """In the object `edgewise`, which strict clients ignore."""
    assert completion.model_extra["edgewise"]["source"] == "on_device"


def test_a_streamed_completion(client, model, completion):
    """The same text, in chunks; only the last one has a reason, and usage comes when asked for."""
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.completions.create(model=model, prompt=PROMPT, **GREEDY, **options))
    *texts, usage = chunks
    assert "".join(chunk.choices[0].text for chunk in texts) == completion.choices[0].text
    reasons = [chunk.choices[0].finish_reason for chunk in texts]
    assert set(reasons[:-1]) == {None}
    assert reasons[-1] == "length"
    assert (usage.choices, usage.usage) == ([], completion.usage)


def test_several_prompts_and_choices(client, model):
    """Each choice has its index, prompt by prompt."""
    reply = client.completions.create(
        model=model, prompt=[PROMPT, "The fox"], n=2, echo=True, max_tokens=3, seed=1
    )
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    begins = [choice.text.startswith(PROMPT) for choice in reply.choices]
    assert begins == [True, True, False, False]
    assert reply.usage.completion_tokens == 12


def test_a_seed_repeats_a_text(client, model):
    """Sampled at temperature 1."""
    asked = {"model": model, "prompt": PROMPT, "max_tokens": 12, "temperature": 1, "seed": 7}
    first, second = (client.completions.create(**asked).choices[0].text for _ in range(2))
    assert first == second


def test_a_stop_text_ends_the_completion(client, model, completion):
    """It is not part of the text."""
    text = completion.choices[0].text
    stop = text[len(text) // 2 :][:4]
    [choice] = client.completions.create(model=model, prompt=PROMPT, stop=[stop], **GREEDY).choices
    assert (choice.text, choice.finish_reason) == (text[: text.index(stop)], "stop")


def test_echo_scores_the_prompt(client, model):
    """Token by token, without generating; nothing predicts the first one."""
    options = {"echo": True, "logprobs": 3, "max_tokens": 0}
    [choice] = client.completions.create(model=model, prompt=PROMPT, **options).choices
    scores = choice.logprobs
    assert choice.text == "".join(scores.tokens) == PROMPT
    assert scores.token_logprobs[0] is None
    assert all(logprob < 0 for logprob in scores.token_logprobs[1:])
    assert all(len(top) >= 3 for top in scores.top_logprobs[1:])
    assert [PROMPT[offset:].startswith(token) for offset, token in zip(
        scores.text_offset, scores.tokens, strict=True
    )] == [True] * len(scores.tokens)  # fmt: skip


def test_generated_tokens_are_scored(client, model):
    """At temperature 0 each one is the likeliest, unless it is penalised for its repetition."""
    options = {"logprobs": 1, "extra_body": {"repetition_penalty": 1}, **GREEDY}
    [choice] = client.completions.create(model=model, prompt=PROMPT, **options).choices
    scores = choice.logprobs
    assert choice.text == "".join(scores.tokens)
    assert scores.token_logprobs == [max(top.values()) for top in scores.top_logprobs]


def test_chat(client, model):
    """A reply and a stream of the same text."""
    reply = client.chat.completions.create(model=model, messages=MESSAGES, **GREEDY)
    [choice] = reply.choices
    assert (choice.message.role, choice.finish_reason) == ("assistant", "length")
    stream = client.chat.completions.create(model=model, messages=MESSAGES, stream=True, **GREEDY)
    deltas = [chunk.choices[0].delta for chunk in stream]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == choice.message.content


def test_responses(client, model):
    """A response and a stream of its events."""
    asked = {"model": model, "input": PROMPT, "max_output_tokens": 16, "temperature": 0}
    response = client.responses.create(**asked)
    assert response.output_text
    assert response.usage.output_tokens == 16
    events = list(client.responses.create(stream=True, **asked))
    assert events[0].type == "response.created"
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == response.output_text == events[-1].response.output_text


def test_async_streams_side_by_side(model, completion):
    """Each gets its own text."""

    async def text(client):
        options = {"model": model, "prompt": PROMPT, "stream": True}
        chunks = await client.completions.create(**options, **GREEDY)
        return "".join([chunk.choices[0].text async for chunk in chunks])

    async def texts():
        async with openai.AsyncOpenAI(base_url=BASE, api_key="none") as client:
            return await asyncio.gather(*(text(client) for _ in range(4)))

    assert asyncio.run(texts()) == [completion.choices[0].text] * 4


def test_nulls_are_fields_left_out(client, model, completion):
    """As some apps send them."""
    names = ["best_of", "echo", "logit_bias", "logprobs", "n", "stop", "suffix", "stream_options"]
    nulls = dict.fromkeys(names)
    reply = client.completions.create(model=model, prompt=PROMPT, **GREEDY, **nulls)
    assert reply.choices == completion.choices


def test_a_private_request(client, model, completion):
    """By a header that OpenAI's API does not have."""
    headers = {"X-Edgewise-Privacy": "private"}
    reply = client.completions.create(model=model, prompt=PROMPT, extra_headers=headers, **GREEDY)
    assert reply.choices == completion.choices


def test_an_unknown_model_is_not_found(client):
    """With OpenAI's code."""
    with pytest.raises(openai.NotFoundError) as error:
        client.completions.create(model="davinci", prompt=PROMPT)
    assert (error.value.code, error.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("field", "value"), [("temperature", -1), ("max_tokens", -1), ("n", 0), ("prompt", {"a": 1})]
)
def test_a_bad_field_is_named(client, model, field, value):
    """As `param`."""
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(**{"model": model, "prompt": PROMPT, field: value})
    assert error.value.param == field


def test_a_prompt_that_is_too_long(client, model):
    """Has a code that apps know."""
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(model=model, prompt="fox " * 2000)
    assert error.value.code == "context_length_exceeded"


def test_a_busy_server_is_asked_again(client):
    """After the seconds that it names; meanwhile its only text ends since its reader leaves."""
    request = {"model": "scripted", "prompt": PROMPT}
    writing = client.with_options(base_url=BUSY).completions.create(stream=True, **request)
    next(writing)
    statuses = []

    def keep(response):
        statuses.append(response.status_code)
        if response.status_code == 429:
            assert response.headers["Retry-After"] == "1"
            writing.close()

    options = {"base_url": BUSY, "api_key": "none", "max_retries": 9}
    http_client = HttpClient(event_hooks={"response": [keep]})
    with openai.OpenAI(http_client=http_client, **options) as other:
        assert other.completions.create(**request).choices[0].text == "A fox."
    assert set(statuses[:-1]) == {429}
