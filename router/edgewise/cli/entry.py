"""What `edgewise` starts: the commands, and how they end when something is wrong."""

import re
import sys
from dataclasses import fields
from shutil import get_terminal_size

from edgewise import EdgeError, EdgewiseError
from edgewise.cli.commands import app
from edgewise.cli.config import load_config
from edgewise.cli.exit_codes import ExitCode, exit_code
from edgewise.cli.output import notes
from edgewise.cli.request_options import AssumedDevice, GenerateOptions
from edgewise.cli.router_options import RouterOptions
from edgewise.cli.values import option_name

NARROW = 72  # columns

_OPTIONS = {
    part.name for group in (RouterOptions, GenerateOptions, AssumedDevice) for part in fields(group)
}


def main() -> None:
    """Run the command line. An error is one sentence on standard error and an ExitCode."""
    # In a narrow terminal Rich would cut the names of options.
    app.rich_markup_mode = "rich" if get_terminal_size().columns >= NARROW else None
    try:
        app()
    except (EdgewiseError, EdgeError) as error:
        _fail(explain(str(error)), exit_code(error))
    except OSError as error:
        _fail(str(error), ExitCode.FAILED)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


def explain(message: str) -> str:
    """The message, in which an option of the API is called what the command line calls it.

    It names the config file if that is where the value is from.
    """
    found = re.match(r"(?:--)?([a-z_-]+) is '?([^';]*)", message)
    field = found[1].replace("-", "_") if found else ""
    if not found or field not in _OPTIONS:
        return message
    config = load_config()  # again, and so without an error
    value = config.values.get(field)
    origin = f" (set in {config.file})" if found[2] in {str(value), f"{value}.0"} else ""
    return f"{option_name(field)}{message[found.end(1) :]}{origin}"


def _fail(message: str, status: ExitCode) -> None:
    notes.print(f"error: {message}", style="red")
    sys.exit(status)
