"""Errors of the cloud package.

EdgewiseError
└── CloudError
    ├── CheckpointError
    ├── TextError
    ├── TrainingError
    │   └── TrainingFailedError
    ├── ConversionError
    │   └── ConversionFailedError
    ├── ServeError
    │   └── EngineDeadError
    ├── LoadTestError
    │   └── ServiceUnreachableError
    └── PublishError
        └── PublishFailedError
"""

from edgewise_edge.errors import EdgewiseError


class CloudError(EdgewiseError):
    """Base class of every error that this package raises on purpose."""


class CheckpointError(CloudError):
    """A Keras model cannot be found, fetched or read."""


class TextError(CloudError):
    """Training or evaluation text cannot be used."""


class TrainingError(CloudError):
    """A training cannot be started or resumed with these options."""


class TrainingFailedError(TrainingError):
    """A training diverged, or cannot be saved."""


class ConversionError(CloudError):
    """A checkpoint cannot be converted with these options."""


class ConversionFailedError(ConversionError):
    """The converted model does not work, or computes something else than the checkpoint."""


class ServeError(CloudError):
    """A service cannot be started with these options."""


class EngineDeadError(ServeError):
    """A running service's model can no longer be used; a supervisor should restart the service."""


class LoadTestError(CloudError):
    """A load test cannot be run with these options."""


class ServiceUnreachableError(LoadTestError):
    """A load test finds no service that is ready to answer."""


class PublishError(CloudError):
    """A channel cannot be made, read or changed with these options, keys or files."""


class PublishFailedError(PublishError):
    """A channel stays as it is: the disk is full, another command changes it, or the model is bad."""
