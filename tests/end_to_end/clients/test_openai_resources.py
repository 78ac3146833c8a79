"""The openai package's own tests of its resources, against our server."""

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.http.clients import ROOT, client, run_client

FILES = ["test_completions.py", "test_models.py"]
MODELS = re.compile(r'"(gpt-[^"]+|model)"')  # OpenAI's; ours is put in their place
# What they ask for that this server does not have; see docs/http.md.
REFUSED = {
    "test_method_create_with_all_params": "biases a token named 'foo', which is no id, and asks for a suffix",
    "_delete[": "deletes a model",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The package's source at the version and hash that is locked: wheels have no tests."""
    locked = (ROOT / "requirements/clients/apps.txt").read_text(encoding="utf-8")
    found = re.search(r"^openai(\[\w+\])?==.*(\\\n.*)+?[^\\]$", locked, re.MULTILINE)
    (tmp_path / "locked.txt").write_text(found[0] + "\n")
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    download += ["--no-binary", ":all:", "--no-build-isolation", "--require-hashes"]
    subprocess.run([*download, "-r", "locked.txt", "-d", "."], cwd=tmp_path, check=True)
    [archive] = tmp_path.glob("openai-*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(tmp_path, filter="data")
    [folder] = (path for path in tmp_path.glob("openai-*") if path.is_dir())
    for file in FILES:
        path = folder / "tests/api_resources" / file
        path.write_text(MODELS.sub('"tales"', path.read_text(encoding="utf-8")), encoding="utf-8")
    return folder


@pytest.mark.soak
def test_openai_resources(server: str, package: Path) -> None:
    """All pass but those that ask for what this server does not have."""
    plain = "-q --tb no --show-capture no -o addopts= -p no:cacheprovider -p pytest_asyncio.plugin"
    result = run_client(
        *(client("apps"), "-m", "pytest", *plain.split(), "--rootdir", package),
        *(package / "tests/api_resources" / file for file in FILES),
        TEST_API_BASE_URL=f"{server}/v1",
        PYTHONPATH=str(package),
    )
    failed = re.findall(r"^FAILED .*::(\S+)", result.stdout, re.MULTILINE)
    print(result.stdout.splitlines()[-1])
    assert "passed" in result.stdout, result.stdout + result.stderr
    assert [name for name in failed if not any(kind in name for kind in REFUSED)] == []
