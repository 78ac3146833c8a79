"""Sizes on the command line."""

import pytest

from edgewise.cli.options import parse_size
from edgewise_edge import RequestError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("1kB", 1_000),
        ("1KB", 1_000),
        ("1k", 1_000),
        ("1KiB", 1_024),
        ("200MB", 200_000_000),
        ("200M", 200_000_000),
        ("200MiB", 200 * 2**20),
        ("200Mi", 200 * 2**20),
        ("2GB", 2_000_000_000),
        ("1.5GB", 1_500_000_000),
        ("1.5GiB", 3 * 2**29),
        ("0.5GiB", 2**29),
        ("1.5 GiB", 3 * 2**29),
        ("  200 MB  ", 200_000_000),
        ("007kB", 7_000),
    ],
)
def test_size_is_in_bytes(text, size):
    """With or without a unit, decimal or binary."""
    assert parse_size(text) == size


def test_size_is_a_whole_number():
    """Also if it is written with a fraction."""
    assert isinstance(parse_size("1.5kB"), int)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "MB",
        "much",
        "-200MB",
        "+200MB",
        "1,5GB",
        "1.2.3MB",
        "1.MB",
        ".5GB",
        "1e9",
        "0x10",
        "200XB",
        "200MBB",
        "200MB 5",
        "20 0MB",
        "200M B",
        "nan",
        "inf",
    ],
)
def test_invalid_size_is_rejected(text):
    """The error repeats the value and shows a valid one."""
    with pytest.raises(RequestError) as caught:
        parse_size(text)
    assert str(caught.value).startswith(f"'{text}' is not a size; ")
    assert "200MB" in str(caught.value)
