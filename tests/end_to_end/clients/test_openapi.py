"""schemathesis: requests made from OpenAI's own description of its API, valid ones and others."""

from pathlib import Path

import pytest

from tests.support.http.clients import client, run_client

DESCRIPTION = Path(__file__).parent / "openapi" / "openai.json"
CHECKS = "not_a_server_error status_code_conformance content_type_conformance"
CHECKS += " response_schema_conformance response_headers_conformance"


def run(server: str, phases: str, examples: int) -> None:
    """Send requests, the same in every run; fail where a response is not as described."""
    result = run_client(
        *(client("apps", "schemathesis"), "run", DESCRIPTION, "--url", f"{server}/v1"),
        *("--checks", ",".join(CHECKS.split()), "--phases", phases, "--warnings", "off"),
        *("--max-examples", str(examples), "--seed", "1", "--generation-database", "none"),
        "--no-color",
    )
    assert not result.returncode, result.stdout + result.stderr


def test_responses_are_as_openai_describes_them(server: str) -> None:
    """No failure of the server, no field missing or of another type; errors as OpenAI writes them."""
    run(server, "fuzzing", 10)


@pytest.mark.soak
def test_many_responses(server: str) -> None:
    """Each limit of each field, and some thousand requests at random."""
    run(server, "coverage,fuzzing", 1000)
