"""The config file: TOML whose keys are the long options of a router."""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

import platformdirs

from edgewise import ConfigurationError
from edgewise.cli.options.groups import Command
from edgewise.cli.options.router import RouterOptions
from edgewise.cli.options.serve import HTTP_TOKEN_VARIABLE, ServeOptions
from edgewise.cli.options.values import TOKEN_VARIABLE

CONFIG_VARIABLE = "EDGEWISE_CONFIG"
SERVE = "serve"  # a table

_CHANNEL = {"channel": str, "channel-root": Path}  # of `edgewise models`
_TOO_LARGE = 2**63  # TOML promises no more
_MOST_SHOWN = 200  # characters of an invalid value

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text in quotes",
    Path: "a path in quotes",
    list: 'a list of texts, such as ["http://localhost:3000"]',
}


@dataclass(frozen=True, slots=True)
class Config:
    """A config file and its values, by the names of RouterOptions; no file has none.

    `serve` are those of its table [serve], by the names of ServeOptions. `problem` is why it cannot
    be used.
    """

    file: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    serve: Mapping[str, Any] = field(default_factory=dict)
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
    serve = values.pop(SERVE, {})
    # The environment comes before the file.
    if os.environ.get(TOKEN_VARIABLE):
        values.pop("cloud_token_file", None)
    if os.environ.get(HTTP_TOKEN_VARIABLE):
        serve.pop("token_file", None)
    return Config(file, values, serve)


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

    Those of the table [serve] are a dictionary under that name. Raises ConfigurationError for
    invalid TOML, an unknown key or a value of another type. Ranges are left to what uses the values.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{file} is not valid TOML: {error}") from error
    serve = table.pop(SERVE, {})
    if not isinstance(serve, dict):
        raise ConfigurationError(f"{file}: {SERVE} is {_shown(serve)}; it must be a table, [serve]")
    values = _parse_table(table, config_keys(), file)
    if serve:
        values[SERVE] = _parse_table(serve, serve_keys(), file, f"{SERVE}.")
    return values


def _parse_table(
    table: Mapping[str, Any], kinds: Mapping[str, type], file: Path, prefix: str = ""
) -> dict[str, Any]:
    values = {}
    for key, value in table.items():
        shown = f"{prefix}{key}"
        if key not in kinds:
            raise ConfigurationError(f"{file}: unknown key '{shown}'; {_closest(key, kinds)}")
        problem = _problem(value, kinds[key])
        if problem:
            raise ConfigurationError(f"{file}: {shown} is {_shown(value)}; it must be {problem}")
        is_path = kinds[key] is Path or _is_folder(key, value)
        name = key.replace("-", "_")
        values[name] = str(file.parent / _path(value, f"{file}: {shown}")) if is_path else value
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
    keys = _keys(RouterOptions)
    del keys["offline"]
    return keys | _CHANNEL


def serve_keys() -> dict[str, type]:
    """The same for the table [serve]; a list is of text."""
    return _keys(ServeOptions)


def _keys(group: type) -> dict[str, type]:
    return {part.name.replace("_", "-"): _kind(part.type) for part in fields(group)}


def _kind(annotation: Any) -> type:
    """The type in Annotated[type | None, Option(...)]."""
    kind: Any = get_args(annotation)[0]
    if not isinstance(kind, type):  # type | None
        kind = next(part for part in get_args(kind) if part is not type(None))
    origin: type = get_origin(kind) or kind
    return origin


def _problem(value: object, kind: type) -> str:
    """What the value should be; empty if it is that."""
    if kind is list:
        right = isinstance(value, list) and all(isinstance(part, str) and part for part in value)
        return "" if right else _WORDS[list]
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
