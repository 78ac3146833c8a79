"""The exit codes of `edgewise-cloud`; those of `edgewise` are the same."""

from edgewise_cloud.console import FAILED
from edgewise_cloud.errors import (
    CloudError,
    ConversionFailedError,
    EngineDeadError,
    PublishFailedError,
    ServiceUnreachableError,
    TrainingFailedError,
)
from edgewise_edge.errors import EdgeError, RuntimeFailedError

INVALID, UNREACHABLE = 2, 4
EPILOG = (
    "Exit codes: 0 success; 1 failure; 2 invalid usage or input; 4 the service cannot be reached "
    "(load); 130 interrupted; 141 the reader of standard output is gone."
)


def of(error: Exception) -> int:
    """The exit code for an error that ends a command."""
    match error:
        case ServiceUnreachableError():
            return UNREACHABLE
        case (
            ConversionFailedError()
            | EngineDeadError()
            | PublishFailedError()
            | RuntimeFailedError()
            | TrainingFailedError()
        ):
            return FAILED
        case CloudError() | EdgeError():
            return INVALID
        case _:
            return FAILED
