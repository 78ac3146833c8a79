"""Apps that speak OpenAI's API work with `edgewise serve`: the sentences are in checks/."""

from pathlib import Path

import pytest

from tests.support.http.clients import run_checks

CHECKS = Path(__file__).parent / "checks"


@pytest.mark.parametrize(
    ("environment", "file"),
    [
        ("apps", "openai_client.py"),
        ("llama-index", "openai_client.py"),  # there it is version 2
        ("apps", "langchain_client.py"),
        ("llama-index", "llama_index_client.py"),
    ],
)
def test_apps(environment: str, file: str, server: str) -> None:
    """All checks of an app pass."""
    run_checks(environment, CHECKS / file, EDGEWISE_URL=server)
