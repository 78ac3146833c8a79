"""Errors of the cloud package.

EdgewiseError
└── CloudError
    ├── CheckpointError
    ├── TextError
    ├── TrainingError
    ├── ConversionError
    ├── ServeError
    └── LoadTestError
"""

from edgewise_edge.errors import EdgewiseError


class CloudError(EdgewiseError):
    """Base class of every error that this package raises on purpose."""


class CheckpointError(CloudError):
    """A Keras model cannot be found, fetched or read."""


class TextError(CloudError):
    """Training or evaluation text cannot be used."""


class TrainingError(CloudError):
    """A training cannot be started, resumed or saved."""


class ConversionError(CloudError):
    """A checkpoint could not be converted to a working device model."""


class ServeError(CloudError):
    """A service cannot be started with these options."""


class LoadTestError(CloudError):
    """A load test cannot be run with these options, or finds no service."""
