"""How the values of options are read."""

import os
import re
import sys
from pathlib import Path

import typer

from edgewise import ConfigurationError, RequestError

TOKEN_VARIABLE = "EDGEWISE_CLOUD_TOKEN"  # noqa: S105  # not an argument, which `ps` would show
_BEGIN = "'' as the argument to begin a new text"


def option_name(field: str) -> str:
    """The long option of a parameter: --max-tokens for max_tokens."""
    return "--" + field.rstrip("_").replace("_", "-")


def read_prompt(argument: str | None) -> str:
    """The argument, or standard input without its last line's end.

    A terminal is read only if the argument is '-'. Raises RequestError if there is no prompt: an empty
    argument is one, empty input is more likely a command that failed.
    """
    if argument is not None and argument != "-":
        return argument
    if sys.stdin is None or (sys.stdin.isatty() and argument is None):
        raise RequestError(f"no prompt; give one as an argument or on standard input, or {_BEGIN}")
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig").rstrip("\r\n")
    except OSError as error:
        raise RequestError(
            f"standard input cannot be read ({error.strerror}); give the prompt as an argument"
        ) from error
    except UnicodeDecodeError as error:
        raise RequestError(f"standard input is not UTF-8: {error}") from error
    if not text:
        raise RequestError(f"standard input is empty; give a prompt, or {_BEGIN}")
    return text


def file_path(text: str | Path) -> Path:
    """The parser of options that are files."""
    return Path(not_empty(str(text)))


def not_empty(text: str) -> str:
    """The parser of options that need some text."""
    if not text:
        raise typer.BadParameter("it is empty; give a value, or leave the option out")
    return text


def fraction(_: typer.Context, option: typer.CallbackParam, value: float | None) -> float | None:
    """An option's callback. Raises ConfigurationError for a value not from 0 to 1."""
    if value is None or 0 <= value <= 1:
        return value
    hint = f". For {value:g} % write {value / 100:g}" if 1 < value <= 100 else ""
    name = option_name(option.name or "")
    raise ConfigurationError(f"{name} is {value:g}; it must be a number, from 0 to 1{hint}")


def parse_size(field: str, text: str) -> int:
    """Bytes of '200MB', '1.5 GiB' or '4096'. Raises ConfigurationError for anything else."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?(?:([kKMGT])(i?)B?|B)?", text.strip())
    if not match:
        raise ConfigurationError(
            f"{option_name(field)} is '{text}'; write a size like 200MB or 1.5GiB"
        )
    number, prefix, binary = match.groups()
    unit: int = (1024 if binary else 1000) ** " KMGT".index((prefix or " ").upper())
    return round(float(number) * unit)


def parse_bias(text: str) -> tuple[int, float]:
    """The token id and the bias of '50256=-100'. Raises RequestError for anything else."""
    found = re.fullmatch(r"([0-9]{1,10})=([-+]?[0-9]{1,9}(?:\.[0-9]{1,9})?)", text.strip())
    if not found:
        raise RequestError(
            f"{option_name('logit_bias')} is '{text}'; write ID=BIAS, such as 50256=-100"
        )
    return int(found[1]), float(found[2])


def read_token(file: Path | None, variable: str = TOKEN_VARIABLE) -> str | None:
    """The token in a file, or else in the environment. Raises ConfigurationError."""
    if file is None:
        return os.environ.get(variable) or None
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        # Without its cause, which would quote the file.
        raise ConfigurationError(f"{file} is not a token file: it is not ASCII") from None
