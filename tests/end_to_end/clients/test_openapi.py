"""schemathesis: requests made from OpenAI's own description of its API, valid ones and others."""

from pathlib import Path

import pytest

from tests.support.http.clients import client, run_client

DESCRIPTION = Path(__file__).parent / "openapi" / "openai.json"
CHECKS = "not_a_server_error status_code_conformance content_type_conformance"
CHECKS += " response_schema_conformance response_headers_conformance"


def run(server: str, folder: Path, phases: str, mode: str, examples: int = 1) -> None:
    """Send requests, the same in every run; fail where a response is not as described."""
    result = run_client(
        *(client("apps", "schemathesis"), "run", DESCRIPTION, "--url", f"{server}/v1"),
        *("--checks", ",".join(CHECKS.split()), "--phases", phases, "--mode", mode),
        *("--max-examples", str(examples), "--seed", "1", "--generation-database", "none"),
        *("--no-color", "--warnings", "off"),
        cwd=folder,  # it leaves a cache there
    )
    assert not result.returncode, result.stdout + result.stderr


def test_responses_are_as_openai_describes_them(server: str, tmp_path: Path) -> None:
    """Each limit of each field: no failure of the server, no field missing or of another type."""
    run(server, tmp_path, "coverage", "positive")


@pytest.mark.soak
def test_many_responses(server: str, tmp_path: Path) -> None:
    """Invalid requests get errors as OpenAI writes them; hundreds of requests at random."""
    run(server, tmp_path, "coverage,fuzzing", "all", 200)
