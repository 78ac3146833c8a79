"""The values of options, prompts, and messages about them."""

import io
import sys

import pytest

from edgewise import ConfigurationError, Limits, RequestError
from edgewise.cli.options.router import RouterOptions
from edgewise.cli.options.values import parse_bias, parse_size, read_prompt
from edgewise.cli.wording import in_words_of_options


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
    assert parse_size("memory_reserve", text) == size


def test_size_is_a_whole_number():
    """Also if it is written with a fraction."""
    assert isinstance(parse_size("memory_reserve", "1.5kB"), int)


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
    """The error names the option, repeats the value and shows a valid one."""
    with pytest.raises(ConfigurationError) as caught:
        parse_size("memory_reserve", text)
    assert str(caught.value) == f"--memory-reserve is '{text}'; write a size like 200MB or 1.5GiB"


@pytest.mark.parametrize(
    ("text", "bias"), [("0=1", (0, 1.0)), ("50256=-100", (50256, -100.0)), (" 7=+0.5 ", (7, 0.5))]
)
def test_bias_is_an_id_and_a_number(text, bias):
    """With or without a sign."""
    assert parse_bias(text) == bias


@pytest.mark.parametrize("text", ["", "7", "7=", "=1", "fox=1", "7=1=2", "-7=1", "7=nan", "7=1e9"])
def test_invalid_bias_is_rejected(text):
    """The error names the option, repeats the value and shows a valid one."""
    with pytest.raises(RequestError) as caught:
        parse_bias(text)
    assert str(caught.value) == f"--logit-bias is '{text}'; write ID=BIAS, such as 50256=-100"


def test_limits_have_the_defaults_of_the_api():
    """Also the one that is written as a size; each limit is an option."""
    assert RouterOptions().limits() == Limits()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("route", "a", "--battery", "30"),
            "--battery is 30; it must be a number, from 0 to 1. For 30 % write 0.3",
        ),
        (
            ("route", "a", "--min-battery", "20"),
            "--min-battery is 20.0; it must be a number, from 0 to 1. For 20 % write 0.2",
        ),
        (
            ("route", "a", "--max-memory-pressure", "101"),
            "--max-memory-pressure is 101.0; it must be a number, from 0 to 1\n",
        ),
        (
            ("route", "a", "--battery", "nan"),
            "--battery is nan; it must be a number, from 0 to 1\n",
        ),
        (("route", "a", "--max-tokens", "0"), "--max-tokens is 0; it must be "),
        (("bench", "--threads", "0"), "--threads is 0; it must be "),
        (("score", "a", "--top", "21"), "--top is 21; it must be a whole number, from 0 to 20"),
        (("generate", "a", "--json", "--logprobs", "-1"), "--logprobs is -1; it must be "),
        (("generate", "a", "--logprobs", "1"), "--logprobs is 1; it is for --json"),
        (("generate", "a", "--presence-penalty", "3"), "--presence-penalty is 3.0; it must be "),
        (("generate", "a", "--logit-bias", "7=101"), "--logit-bias of token 7 is 101.0; it must"),
        (("generate", "a", "--logit-bias", "99999=1"), "--logit-bias names token 99999; ids are "),
    ],
)
def test_value_out_of_range_is_refused(edgewise, arguments, words):
    """With the option as it was typed, and a hint where a percentage stands for a fraction."""
    done = edgewise(*arguments)
    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("--cloud-ca", ""), "--cloud-ca"),
        (("--cloud-key", ""), "--cloud-key"),
        (("--cloud-token-file", ""), "--cloud-token-file"),
        (("-m", ""), "--model"),
        (("--memory-reserve", ""), "--memory-reserve"),
    ],
)
def test_empty_value_is_refused(edgewise, arguments, option):
    """With the option's name."""
    done = edgewise("route", "a", *arguments)
    assert done.returncode == 2
    assert option in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--mode", "only_in_cloud", "--offline"), "choose another --mode or leave out --offline"),
        (("--cloud-certificate", "a"), "--cloud-certificate and --cloud-key must be set together"),
    ],
)
def test_refusals_name_options(edgewise, arguments, words):
    """Not what the API calls them."""
    errors = edgewise("route", "a", *arguments).stderr
    assert words in errors


def test_messages_are_translated():
    """Except for what is quoted."""
    message = "'max_tokens' is no model; lower max_tokens, or raise Limits.queue_timeout"
    expected = "'max_tokens' is no model; lower --max-tokens, or raise --queue-timeout"
    assert in_words_of_options(message) == expected
    assert in_words_of_options("a stop string is empty").startswith("--stop is")


class Terminal(io.TextIOWrapper):
    """A terminal on which somebody has typed something."""

    def isatty(self):
        return True


@pytest.mark.parametrize("typed", [b"Once", b"Once\n", b"Once\r\n", b"\xef\xbb\xbfOnce\r\n"])
def test_dash_reads_a_terminal(monkeypatch, typed):
    """One line is one prompt, whatever ends it; without the dash a terminal is not read."""
    monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO(typed)))
    with pytest.raises(RequestError, match="no prompt"):
        read_prompt(None)
    assert read_prompt("-") == "Once"


def test_an_empty_argument_is_a_prompt_and_empty_input_is_not(monkeypatch):
    """The first begins a text, the second is more likely a command that failed."""
    assert read_prompt("") == ""
    for argument in (None, "-"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
        with pytest.raises(RequestError, match=r"standard input is empty; .* to begin a new text"):
            read_prompt(argument)
