"""Reading ASGI's headers."""

from starlette.types import Scope


def values_of(scope: Scope, name: bytes) -> list[str]:
    """All values of a header, in the order they came."""
    return [value.decode("latin-1").strip() for key, value in scope["headers"] if key == name]
