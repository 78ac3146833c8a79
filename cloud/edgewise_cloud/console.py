"""Standard error, for messages; one console, so that lines and progress bars do not mix."""

from rich.console import Console

console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str, style: str | None = None) -> None:
    """Print a line to standard error without markup: names and paths may contain brackets."""
    console.print(text, style=style, markup=False)
