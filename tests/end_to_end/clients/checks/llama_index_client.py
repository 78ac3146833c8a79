"""LlamaIndex's model for OpenAI-like servers."""

import os

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

PROMPT = "Once upon a time"
OPTIONS = {
    "api_base": os.environ["EDGEWISE_URL"] + "/v1",
    "api_key": "none",
    "model": "tales",
    "max_tokens": 12,
    "temperature": 0,
    "context_window": 512,
}


@pytest.fixture(scope="module", params=[False, True], ids=["completions", "chat"])
def llm(request):
    return OpenAILike(**OPTIONS, is_chat_model=request.param)


def test_a_completion_and_its_stream(llm):
    """The same text."""
    text = llm.complete(PROMPT).text
    assert text.strip()
    assert "".join(part.delta for part in llm.stream_complete(PROMPT)) == text


def test_a_chat_and_its_stream(llm):
    """The same text."""
    messages = [ChatMessage(role="user", content=PROMPT)]
    text = llm.chat(messages).message.content
    assert text.strip()
    assert "".join(part.delta for part in llm.stream_chat(messages)) == text
