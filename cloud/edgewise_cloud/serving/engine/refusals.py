"""How the engine ends requests that it does not finish; the texts are for callers."""

import grpc

from edgewise_cloud.serving.types import RefusedError


def failed() -> RefusedError:
    """A step of the model failed."""
    return RefusedError(grpc.StatusCode.INTERNAL, "the model failed; see the service's log")


def died() -> RefusedError:
    """The engine is of no more use, so another service should be asked."""
    return RefusedError(grpc.StatusCode.UNAVAILABLE, "the model has stopped working")


def shutting_down() -> RefusedError:
    """The service ends."""
    return RefusedError(grpc.StatusCode.UNAVAILABLE, "the service is shutting down")


def too_late() -> RefusedError:
    """The caller's deadline has passed."""
    return RefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")
