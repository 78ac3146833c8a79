"""Messages of the API in the words of the command line."""

import re
from dataclasses import fields

from edgewise.cli.options.assumed import AssumedDevice
from edgewise.cli.options.channel import ChannelOptions
from edgewise.cli.options.request import GenerateOptions, ScoreOptions
from edgewise.cli.options.router import RouterOptions
from edgewise.cli.options.serve import ServeOptions
from edgewise.cli.options.values import option_name

OPTIONS = {
    part.name
    for group in (
        RouterOptions,
        GenerateOptions,
        ScoreOptions,
        AssumedDevice,
        ChannelOptions,
        ServeOptions,
    )
    for part in fields(group)
}
_PHRASES = {
    "create the router without offline=True": "leave out --offline",
    "set a cloud address": "set a cloud with --cloud",
    "choose another mode": "choose another --mode",
    "set root_certificates or tls of CloudSecurity, or --cloud-ca or --cloud-tls": (
        "set --cloud-ca or --cloud-tls"
    ),
    "a client certificate and its key must be set together": (
        "--cloud-certificate and --cloud-key must be set together"
    ),
    "as root once": "as --root once",
    "Set allow_private_redirects": "The channel's address must be public",
    "a stop string is": "--stop is",
}
# Names that are no words of English, outside of quoted values.
_NAMES = (rf"(?:Limits\.)?\b{name}\b" for name in sorted(OPTIONS) if "_" in name)
_FOUND = re.compile("|".join(["'[^']*'", *map(re.escape, _PHRASES), *_NAMES]))


def in_words_of_options(message: str) -> str:
    """The message, in which each option of the API is called what the command line calls it."""
    return _FOUND.sub(_translated, message)


def _translated(found: re.Match[str]) -> str:
    text = found[0]
    if text.startswith("'"):
        return text
    return _PHRASES.get(text) or option_name(text.removeprefix("Limits."))
