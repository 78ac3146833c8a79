"""Damaged models whose manifest matches, given to the router and the command line."""

import os
from collections import Counter
from pathlib import Path

import pytest

from edgewise_edge.store.manifest import MODEL_FILE
from tests.support.command_line import run
from tests.support.damaged_folder import copied_model, replace_model
from tests.support.mutated_models import outcomes

MANY = int(os.environ.get("EDGEWISE_MUTATIONS", "1500"))


def counted(found: dict[int, str]) -> Counter[str]:
    return Counter(text.split(" (")[0] for text in found.values())


def test_damaged_models_do_not_end_the_process() -> None:
    """Three of those that ended one before they were tried, and a few others."""
    found = [outcomes(1, seed)[seed] for seed in (1002, 1004, 1016)] + [*outcomes(5, 0).values()]
    assert set(found) <= {"answered", "refused"}, found


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_one_damaged_model_in_a_thousand_may_end_the_process() -> None:
    """And none does so silently; EDGEWISE_MUTATIONS is how many are tried."""
    found = outcomes(MANY, 0)
    print(counted(found))
    assert set(counted(found)) <= {"answered", "refused", "ended with a line"}, found
    assert counted(found)["ended with a line"] <= MANY / 1000, found


def test_the_command_line_says_that_a_model_is_damaged(tmp_path: Path) -> None:
    """In one line."""
    folder = copied_model(tmp_path / "model")
    replace_model(folder, (folder / MODEL_FILE).read_bytes()[:4096])
    done = run("generate", "a", "--model", folder, XDG_CACHE_HOME=str(tmp_path), COLUMNS="1000")
    assert done.returncode != 0
    assert "is damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
