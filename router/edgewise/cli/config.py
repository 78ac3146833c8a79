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
from edgewise.cli.router_options import RouterOptions
from edgewise.cli.values import TOKEN_VARIABLE

CONFIG_VARIABLE = "EDGEWISE_CONFIG"

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text in quotes",
    Path: "a path in quotes",
}


@dataclass(frozen=True, slots=True)
class Config:
    """A config file and its values, by the names of RouterOptions; no file has none."""

    file: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


def default_file() -> Path:
    """Where the config file is looked for."""
    return platformdirs.user_config_path("edgewise") / "config.toml"


def load_config() -> Config:
    """The file that the environment names, or else the user's, which may be missing.

    Raises ConfigurationError.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    file = Path(named).expanduser() if named else default_file()
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        if not named:
            return Config()
        raise ConfigurationError(f"{CONFIG_VARIABLE} names {file}, which does not exist") from error
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file} is not UTF-8: {error}") from error
    values = parse_config(text, file)
    if os.environ.get(TOKEN_VARIABLE):
        values.pop("cloud_token_file", None)  # the environment comes before the file
    return Config(file, values)


def parse_config(text: str, file: Path) -> dict[str, Any]:
    """The values in `text`; relative paths start at the folder of `file`.

    Raises ConfigurationError for invalid TOML, an unknown key or a value of another type. Ranges
    are left to what uses the values.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file} is not valid TOML: {error}") from error
    kinds = config_keys()
    values = {}
    for key, value in table.items():
        if key not in kinds:
            raise ConfigurationError(f"{file}: unknown key '{key}'; {_closest(key, kinds)}")
        problem = _problem(value, kinds[key])
        if problem:
            raise ConfigurationError(
                f"{file}: {key} is {json.dumps(value, default=str)}; it must be {problem}"
            )
        is_path = kinds[key] is Path or (key == "model" and "/" in value)
        name = key.replace("-", "_")
        values[name] = str(file.parent / Path(value).expanduser()) if is_path else value
    return values


def config_keys() -> dict[str, type]:
    """Each key with the type of its value: bool, int, float, str, Path or an enum.

    `offline` is none: a file without a cloud says the same.
    """
    parts = (part for part in fields(RouterOptions) if part.name != "offline")
    return {part.name.replace("_", "-"): _kind(part.type) for part in parts}


def _kind(annotation: Any) -> type:
    """The type in Annotated[type | None, Option(...)]."""
    kind: type = get_args(annotation)[0]
    return next((part for part in get_args(kind) if part is not type(None)), kind)


def _problem(value: object, kind: type) -> str:
    """What the value should be; empty if it is that."""
    if issubclass(kind, Enum):
        choices = [member.value for member in kind]
        return "" if value in choices else f"one of {', '.join(choices)}"
    # In Python, true is a number too.
    accepted = {float: (int, float), Path: (str,)}.get(kind, (kind,))
    fits = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
    return "" if fits else _WORDS[kind]


def _closest(key: str, keys: Mapping[str, object]) -> str:
    found = get_close_matches(key.replace("_", "-"), keys, n=1)
    return f"did you mean '{found[0]}'?" if found else f"valid keys: {', '.join(keys)}"
