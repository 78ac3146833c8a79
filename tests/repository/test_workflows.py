"""The workflows that check each change."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PARTS = ("proto", "edge", "cloud", "router")
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")

in_each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


@in_each_workflow
def test_actions_are_pinned_by_digest(path: Path) -> None:
    """With the release in a comment: a tag can be moved to other code."""
    used = re.findall(r"uses:\s*(.+)", path.read_text(encoding="utf-8"))
    assert used
    assert [action for action in used if not PINNED.fullmatch(action)] == []


@in_each_workflow
def test_workflows_may_only_read(path: Path) -> None:
    """No job asks for more."""
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in workflow["jobs"].values())


@in_each_workflow
def test_their_make_targets_exist(path: Path) -> None:
    """So that a workflow runs what a contributor can run."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)
    assert set(re.findall(r"run: make ([a-z-]+)", path.read_text(encoding="utf-8"))) <= set(targets)


def test_every_python_that_a_package_names_is_tried() -> None:
    """By the tests, or as a device."""
    checks = yaml.safe_load((ROOT / ".github/workflows/checks.yml").read_text(encoding="utf-8"))
    matrices = [job["strategy"]["matrix"] for job in checks["jobs"].values()]
    tried = {version for matrix in matrices for axis in matrix.values() for version in axis}
    named = {version for part in PARTS for version in _classified(part)}
    assert named <= tried


def _classified(part: str) -> list[str]:
    project = tomllib.loads((ROOT / part / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    classifiers = "\n".join(project.get("classifiers", ()))
    return re.findall(r"Python :: (3\.\d+)$", classifiers, re.MULTILINE)
