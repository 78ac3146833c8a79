"""How the command line runs, and how it ends when something is wrong."""

import re
import sys
from shutil import get_terminal_size

from edgewise import ConfigurationError, EdgeError, EdgewiseError
from edgewise.cli.commands import app
from edgewise.cli.config import load_config
from edgewise.cli.exit_codes import ExitCode, exit_code
from edgewise.cli.options.values import option_name
from edgewise.cli.output import note
from edgewise.cli.wording import OPTIONS, in_words_of_options
from edgewise_edge.standard_streams import (
    abandon,
    exit_status,
    prepare_output,
    unwritten_result,
)

NARROW = 72  # columns


def main() -> None:
    """Run the command line. An error is one sentence on standard error and an ExitCode."""
    # In a narrow terminal Rich would cut the names of options.
    app.rich_markup_mode = "rich" if get_terminal_size().columns >= NARROW else None
    try:
        prepare_output()
        app()
    except (EdgewiseError, EdgeError) as error:
        _fail(explain(str(error)), exit_code(error))
    except OSError as error:
        # Typer's own message about invalid usage may be what could not be written.
        note(f"error: {error}", style="red")
        if result := unwritten_result(error):
            note(result, style="none")
        sys.exit(getattr(error.__context__, "exit_code", ExitCode.FAILED))
    except MemoryError:
        _fail("there is not enough memory for this", ExitCode.FAILED)
    except SystemExit as ended:
        sys.exit(exit_status(ended))
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    finally:
        abandon(sys.stdout)
        abandon(sys.stderr)


def explain(message: str) -> str:
    """The message in the words of the command line.

    It names the config file if that is where the value is from.
    """
    found = re.match(r"(?:--)?([a-z_-]+) is '?([^';]*)", message)
    field = found[1].replace("-", "_") if found else ""
    if not found or field not in OPTIONS:
        return in_words_of_options(message)
    rest = in_words_of_options(message[found.end(1) :])
    return f"{option_name(field)}{rest}{_origin(field, found[2])}"


def _origin(field: str, shown: str) -> str:
    try:
        config = load_config()
    except ConfigurationError:  # help or usage came before it
        return ""
    value = {**config.values, **config.serve}.get(field)
    return f" (set in {config.file})" if shown in {str(value), f"{value}.0"} else ""


def _fail(message: str, status: int) -> None:
    note(f"error: {message}", style="red")
    sys.exit(status)
