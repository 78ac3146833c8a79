"""Options that several commands share, stated once: as a dataclass."""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import update_wrapper
from inspect import Parameter, Signature, signature
from typing import Any, get_args

from typer.core import TyperArgument, TyperCommand, TyperGroup

# The panels of a help page, in this order.
PANELS = SAMPLING, HTTP, ROUTING, MODEL, CLOUD, LIMITS, ASSUMED, CHANNEL = (
    "Sampling",
    "HTTP",
    "Routing",
    "Model",
    "Cloud",
    "Limits of the device",
    "Assumed device",
    "Channel",
)


class PlainTypes:
    """Shows what to write, not Python's types: flags take no value, arguments are named already."""

    def get_params(self, ctx: Any) -> list[Any]:
        """See click.Command."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if isinstance(param, TyperArgument):
                param.display_type_rich = lambda ctx: None  # type: ignore[method-assign]  # noqa: ARG005
            elif param.is_flag:
                param.metavar = ""
        return params


class Group(PlainTypes, TyperGroup):
    """All commands."""


class Command(PlainTypes, TyperCommand):
    """One of them."""


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """A decorator for commands: a parameter whose type is a dataclass takes that class's fields.

    Typer reads the signature of a command; this one replaces such a parameter by one for each field
    and passes the command the dataclass, made of their values. Options come in the order of PANELS,
    those without a panel first.
    """
    given = signature(command).parameters.values()
    groups: dict[str, Any] = {
        part.name: part.annotation for part in given if is_dataclass(part.annotation)
    }

    def expanded(**options: Any) -> None:
        made = {
            name: group(**{part.name: options.pop(part.name) for part in fields(group)})
            for name, group in groups.items()
        }
        command(**options, **made)

    parameters = sorted((new for part in given for new in _expand(part)), key=_order)
    update_wrapper(expanded, command)
    del expanded.__wrapped__  # type: ignore[attr-defined]  # Typer would read its signature
    expanded.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {new.name: new.annotation for new in parameters}
    return expanded


def _expand(parameter: Parameter) -> Iterator[Parameter]:
    if not is_dataclass(parameter.annotation):
        yield parameter.replace(kind=Parameter.KEYWORD_ONLY)
        return
    for part in fields(parameter.annotation):
        yield Parameter(
            part.name, Parameter.KEYWORD_ONLY, default=part.default, annotation=part.type
        )


def _order(parameter: Parameter) -> int:
    panels = (getattr(part, "rich_help_panel", None) for part in get_args(parameter.annotation))
    return next((PANELS.index(panel) + 1 for panel in panels if panel in PANELS), 0)
