"""The examples of docs/testing.md, as one test file."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgewise import testing

PAGE = Path(__file__).parents[3] / "docs" / "testing.md"


def run_examples() -> dict[str, Any]:
    """The names that the page's code blocks define; a traceback shows the page's lines."""
    text, names = PAGE.read_text(encoding="utf-8"), dict[str, Any]()
    for block in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        lines_before = text[: block.start(1)].count("\n")
        exec(compile("\n" * lines_before + block[1], PAGE, "exec"), names)
    return names


EXAMPLES = {name: test for name, test in run_examples().items() if name.startswith("test_")}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_passes(name: str) -> None:
    """As it stands on the page."""
    example: Callable[[], None] = EXAMPLES[name]
    example()


def test_page_has_a_row_for_each_script() -> None:
    """In its table, each with its parameters."""
    scripts = {name for name in testing.__all__ if name[0].islower()}
    rows = re.findall(r"^\| `(\w+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(rows) == scripts
