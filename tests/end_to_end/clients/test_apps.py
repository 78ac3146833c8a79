"""Apps that speak OpenAI's API work with `edgewise serve`: the sentences are in checks/."""

from pathlib import Path

import pytest

from tests.support.http.clients import run_checks

CHECKS = Path(__file__).parent / "checks"


@pytest.mark.parametrize(
    ("environment", "files"),
    [
        ("apps", ["openai_client.py", "langchain_client.py"]),
        ("llama-index", ["openai_client.py", "llama_index_client.py"]),  # with version 2 of openai
    ],
)
def test_apps(environment: str, files: list[str], server: str, busy_server: str) -> None:
    """All checks of these apps pass."""
    servers = {"EDGEWISE_URL": server, "EDGEWISE_BUSY_URL": busy_server}
    run_checks(environment, *(CHECKS / file for file in files), **servers)
