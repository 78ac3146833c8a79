"""LangChain's two models of OpenAI."""

import os

import pytest
from langchain_openai import ChatOpenAI, OpenAI

PROMPT = "Once upon a time"
OPTIONS = {
    "base_url": os.environ["EDGEWISE_URL"] + "/v1",
    "api_key": "none",
    "model": "tales",
    "max_tokens": 12,
    "temperature": 0,
}


@pytest.fixture(scope="module")
def completes():
    return OpenAI(**OPTIONS)


@pytest.fixture(scope="module")
def chats():
    return ChatOpenAI(**OPTIONS)


def test_a_completion_and_its_stream(completes):
    """The same text."""
    text = completes.invoke(PROMPT)
    assert text.strip()
    assert "".join(completes.stream(PROMPT)) == text


def test_several_prompts(completes):
    """In one call, with their usage."""
    result = completes.generate([PROMPT, "The fox"])
    assert all(generations[0].text for generations in result.generations)
    assert result.llm_output["token_usage"]["completion_tokens"] == 24


def test_a_chat_and_its_stream(chats):
    """The same text, and the usage of both."""
    message = chats.invoke(PROMPT)
    assert message.content.strip()
    assert message.usage_metadata["output_tokens"] == 12
    parts = list(chats.stream(PROMPT, stream_usage=True))
    assert "".join(part.content for part in parts) == message.content
    assert sum(part.usage_metadata["output_tokens"] for part in parts if part.usage_metadata) == 12


def test_a_chat_by_responses():
    """LangChain's other way to chat."""
    message = ChatOpenAI(**(OPTIONS | {"max_tokens": 16}), use_responses_api=True).invoke(PROMPT)
    assert message.text.strip()


def test_batches_run_side_by_side(completes):
    """In threads."""
    assert len(set(completes.batch([PROMPT] * 4))) == 1
