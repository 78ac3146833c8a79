"""The config file: TOML whose keys are the long options of a router."""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import platformdirs

from edgewise import ConfigurationError
from edgewise.cli.options.groups import Command
from edgewise.cli.options.router import RouterOptions
from edgewise.cli.options.values import TOKEN_VARIABLE

CONFIG_VARIABLE = "EDGEWISE_CONFIG"

_CHANNEL = {"channel": str, "channel-root": Path}  # of `edgewise models`
_TOO_LARGE = 2**63  # TOML promises no more
_MOST_SHOWN = 200  # characters of an invalid value

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text in quotes",
    Path: "a path in quotes",
}


@dataclass(frozen=True, slots=True)
class Config:
    """A config file and its values, by the names of RouterOptions; no file has none.

    `problem` is why it cannot be used.
    """

    file: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: ConfigurationError | None = None


class ConfiguredCommand(Command):
    """A command that complains about the config file when it runs: its help works without."""

    def invoke(self, ctx: Any) -> Any:
        """Run."""
        config: Config = ctx.obj
        if config.problem:
            raise config.problem
        return super().invoke(ctx)


def default_file() -> Path | None:
    """Where the config file is looked for; None for a user without a home folder."""
    try:
        folder = platformdirs.user_config_path("edgewise")
    except RuntimeError:
        return None
    return folder / "config.toml" if folder.is_absolute() else None


def load_config() -> Config:
    """The file that the environment names, or else the user's, which may be missing.

    Raises ConfigurationError.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    file = _path(named, CONFIG_VARIABLE).absolute() if named else default_file()
    if not file or not (named or os.path.exists(file)):  # noqa: PTH110  # Path's may raise
        return Config()
    values = parse_config(_read(file, named=bool(named)), file)
    if os.environ.get(TOKEN_VARIABLE):
        values.pop("cloud_token_file", None)  # the environment comes before the file
    return Config(file, values)


def _read(file: Path, *, named: bool) -> str:
    """The text of `file`; one that was named may also be a device or a pipe."""
    if not named and not file.is_file():
        raise ConfigurationError(f"{file} is not a regular file; make it one, or remove it")
    try:
        return file.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigurationError(f"{CONFIG_VARIABLE} names {file}, which does not exist") from error
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file} is not UTF-8: {error}") from error


def parse_config(text: str, file: Path) -> dict[str, Any]:
    """The values in `text`; relative paths start at the folder of `file`.

    Raises ConfigurationError for invalid TOML, an unknown key or a value of another type. Ranges
    are left to what uses the values.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{file} is not valid TOML: {error}") from error
    kinds = config_keys()
    values = {}
    for key, value in table.items():
        if key not in kinds:
            raise ConfigurationError(f"{file}: unknown key '{key}'; {_closest(key, kinds)}")
        problem = _problem(value, kinds[key])
        if problem:
            raise ConfigurationError(f"{file}: {key} is {_shown(value)}; it must be {problem}")
        is_path = kinds[key] is Path or _is_folder(key, value)
        name = key.replace("-", "_")
        values[name] = str(file.parent / _path(value, f"{file}: {key}")) if is_path else value
    return values


def _is_folder(key: str, value: Any) -> bool:
    return (key == "model" and "/" in value) or (key == "channel" and "://" not in value)


def _path(text: str, name: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(f"{name} is '{text}'; there is no such home folder") from error


def config_keys() -> dict[str, type]:
    """Each key with the type of its value: bool, int, float, str, Path or an enum.

    `offline` is none: a file without a cloud says the same.
    """
    parts = (part for part in fields(RouterOptions) if part.name != "offline")
    return {part.name.replace("_", "-"): _kind(part.type) for part in parts} | _CHANNEL


def _kind(annotation: Any) -> type:
    """The type in Annotated[type | None, Option(...)]."""
    kind: type = get_args(annotation)[0]
    return next((part for part in get_args(kind) if part is not type(None)), kind)


def _problem(value: object, kind: type) -> str:
    """What the value should be; empty if it is that."""
    if issubclass(kind, Enum):
        choices = [member.value for member in kind]
        return "" if value in choices else f"one of {', '.join(choices)}"
    if isinstance(value, str) and (not value or "\0" in value):
        return f"{_WORDS[kind]}, not empty and without null characters"
    if isinstance(value, int) and abs(value) >= _TOO_LARGE:
        return f"{_WORDS[kind]} of at most 64 bits"
    # In Python, true is a number too.
    accepted = {float: (int, float), Path: (str,)}.get(kind, (kind,))
    fits = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
    return "" if fits else _WORDS[kind]


def _shown(value: object) -> str:
    try:
        text = json.dumps(value, default=str)
    except (ValueError, RecursionError):  # a number of thousands of digits, nested arrays
        return "too long to be shown"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _closest(key: str, keys: Mapping[str, object]) -> str:
    found = get_close_matches(key.replace("_", "-"), keys, n=1)
    return f"did you mean '{found[0]}'?" if found else f"valid keys: {', '.join(keys)}"
