"""The errors: one base class, all exported, drawn in a tree, and safe to copy and pickle."""

import copy
import inspect
import pickle
import re
from collections.abc import Iterator

import pytest

import edgewise
from edgewise import EdgewiseError, NoSourceError, Source, Veto, VetoCode, errors
from edgewise.errors import (
    CloudBusyError,
    CloudUnavailableError,
    UnknownOptionError,
)
from edgewise.policy.types import NoSource
from edgewise_edge import errors as edge_errors
from edgewise_edge.errors import CacheMemoryError, ContextOverflowError, ModelNotFoundError


def subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    """Those that apps of the router can meet, at any depth."""
    for child in kind.__subclasses__():
        if child.__module__ in (errors.__name__, edge_errors.__name__):
            yield child
            yield from subclasses(child)


ALL = {EdgewiseError, *subclasses(EdgewiseError)}


def test_every_error_is_exported_and_in_the_tree() -> None:
    """From `edgewise`; the tree is at the top of errors.py."""
    assert len(ALL) > 18
    for kind in ALL:
        assert getattr(edgewise, kind.__name__) is kind
        assert kind.__name__ in edgewise.__all__
        assert re.search(rf"\b{kind.__name__}\b", errors.__doc__)
        assert inspect.getdoc(kind) != inspect.getdoc(EdgewiseError) or kind is EdgewiseError
    drawn = set(re.findall(r"\b[A-Z]\w+Error\b", errors.__doc__)) - {"ValueError"}
    assert drawn - {"TypeError", "RuntimeError"} == {kind.__name__ for kind in ALL}


REFUSAL = NoSource(
    {
        Source.ON_DEVICE: Veto(VetoCode.MODE, "the mode is only_in_cloud"),
        Source.IN_CLOUD: Veto(VetoCode.FAILED, "127.0.0.1:9 does not answer"),
    }
)
EXAMPLES = [
    NoSourceError(REFUSAL, {Source.IN_CLOUD: CloudBusyError("it is busy", 2.5)}),
    UnknownOptionError("mdoe", ["mode"]),
    CloudBusyError("it is busy", retry_after=2.5),
    CloudUnavailableError("it does not answer"),
    ContextOverflowError(10, 8),
    CacheMemoryError(10, 8),
    ModelNotFoundError("there is none"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
def test_errors_survive_copying_and_pickling(error: Exception, duplicate: object) -> None:
    """With their message and every attribute: an app may send them to another process."""
    twin = duplicate(error)
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert repr(vars(twin)) == repr(vars(error))


def test_refusal_says_what_each_source_did_and_what_to_do() -> None:
    """Without digging for `__cause__`; it never advises to give up privacy."""
    failure = CloudUnavailableError("127.0.0.1:9 does not answer")
    error = NoSourceError(REFUSAL, {Source.IN_CLOUD: failure})
    assert error.failures[Source.IN_CLOUD] is failure
    assert "on_device: the mode is only_in_cloud; in_cloud: 127.0.0.1:9 does not" in str(error)
    assert str(error).endswith("To get an answer, choose another mode")
    private = Veto(VetoCode.PRIVATE, "the request is private")
    hot = Veto(VetoCode.TEMPERATURE, "the device is at 99 °C")
    refused = NoSourceError(NoSource({Source.ON_DEVICE: hot, Source.IN_CLOUD: private}))
    assert str(refused).endswith("To get an answer, let the device cool down")
