"""The tables of options and errors in the README and the docs, held against the code."""

import inspect
import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

import edgewise
from edgewise import (
    CloudSecurity,
    CloudTimeouts,
    DownloadSettings,
    EdgewiseError,
    Limits,
    RequestOptions,
    Router,
    UpdatePolicy,
)
from edgewise.device.limits import LIMIT_RANGES
from edgewise.options import REQUEST_RANGES
from edgewise_edge.checks import SAMPLING_RANGES

ROOT = Path(__file__).parents[1]
OPTIONS, ERRORS = "docs/options.md", "docs/errors.md"


def table(file: str, heading: str) -> dict[str, list[str]]:
    """The rows of the first table under a heading: the other cells by the name in the first."""
    text = (ROOT / file).read_text(encoding="utf-8")
    section = re.split(r"^#+ ", text.split(f"# {heading}\n", 1)[1], flags=re.MULTILINE)[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    return {row[0].strip("`"): row[1:] for row in rows}


REQUEST_OPTIONS = list(RequestOptions.__annotations__)
ERROR_NAMES = [
    name
    for name, value in vars(edgewise).items()
    if inspect.isclass(value) and issubclass(value, EdgewiseError)
]


@pytest.mark.parametrize(
    ("heading", "options"),
    [
        ("Of a request", REQUEST_OPTIONS),
        ("Of a router", list(inspect.signature(Router).parameters)),
        ("`Limits`", [field.name for field in fields(Limits)]),
        ("`CloudTimeouts`", [field.name for field in fields(CloudTimeouts)]),
        ("`CloudSecurity`", [field.name for field in fields(CloudSecurity)]),
        ("`UpdatePolicy`", [field.name for field in fields(UpdatePolicy)]),
        ("`DownloadSettings`", [field.name for field in fields(DownloadSettings)]),
    ],
)
def test_docs_list_every_option(heading: str, options: list[str]) -> None:
    """A row for each, in the order of the code."""
    assert list(table(OPTIONS, heading)) == options


def test_readme_lists_every_option_of_a_request_and_every_error_to_catch() -> None:
    """Errors by their base classes, where apps need no more."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## Options\n", 1)[1].split("\n## ", 1)[0]
    assert [name for name in REQUEST_OPTIONS if f"`{name}`" not in section] == []
    listed = table("README.md", "Errors")
    assert set(listed) <= set(ERROR_NAMES)
    for name in set(ERROR_NAMES) - {"EdgewiseError"}:
        bases = {base.__name__ for base in getattr(edgewise, name).__mro__}
        assert bases & set(listed), f"{name} has no row"


def test_docs_list_every_error() -> None:
    """A row for each that can be imported from `edgewise`."""
    assert set(table(ERRORS, "Errors")) == set(ERROR_NAMES)


@pytest.mark.parametrize("kind", [Limits, CloudTimeouts])
def test_defaults_in_the_docs_are_those_of_the_code(kind: type) -> None:
    """As numbers; bytes in MiB. What has no number is told in words."""
    for field in fields(kind):
        assert field.default is not MISSING
        if field.default is None:
            continue
        told = table(OPTIONS, f"`{kind.__name__}`")[field.name][1]
        number, _, unit = told.partition(" ")
        assert float(number) * (2**20 if unit == "MiB" else 1) == field.default


@pytest.mark.parametrize(
    ("name", "allowed"), [*REQUEST_RANGES.items(), *SAMPLING_RANGES.items(), *LIMIT_RANGES.items()]
)
def test_ranges_in_the_docs_begin_as_in_the_code(name: str, allowed: object) -> None:
    """The lowest value, and the highest where it is a small number."""
    rows = table(OPTIONS, "Of a request") | table(OPTIONS, "`Limits`")
    told, numbers = rows[name][0], re.findall(r"-?[\d.]+", rows[name][0])
    assert float(numbers[0]) == allowed.low
    assert ("above" in told) is allowed.above
    if allowed.high <= 1000:
        assert float(numbers[-1]) == allowed.high
