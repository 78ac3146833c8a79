"""Other people's clients, each in an environment of its own that `make test` sets up."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
# pytest there needs no plugin; one of each package that brings one would be imported.
VARIABLES = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
PYTEST = "-q --noconftest -c /dev/null -p no:cacheprovider --tb short"


def client(environment: str, command: str = "python") -> Path:
    """A command of an environment in .clients/."""
    found = ROOT / ".clients" / environment / "bin" / command
    if not found.exists():
        raise RuntimeError(f"{found} is missing; run: make .clients/{environment}/ready")
    return found


def run_client(
    *command: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of theirs, without the user's own settings of OpenAI's client."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return subprocess.run(
        command,
        cwd=cwd,
        env=own | VARIABLES | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def run_checks(environment: str, *files: Path, **variables: str) -> None:
    """Run the tests in these files with the packages of an environment; fail as they do."""
    python = client(environment)
    result = run_client(python, "-m", "pytest", *PYTEST.split(), *files, **variables)
    assert not result.returncode, result.stdout + result.stderr
