"""Standard error, for people; one console, so that lines and bars do not run into each other."""

from rich.console import Console

console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str, style: str | None = None) -> None:
    """Print to standard error, as it is: names and paths may look like markup."""
    console.print(text, style=style, markup=False)
