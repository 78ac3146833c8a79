"""Errors of the cloud side.

CloudError
├── CheckpointError
├── TextError
├── TrainingError
├── ConversionError
├── ServeError
└── LoadTestError
"""


class CloudError(Exception):
    """Anything the pipeline or the service refuses or fails at."""


class CheckpointError(CloudError):
    """A Keras model that cannot be found, fetched or read."""


class TextError(CloudError):
    """Training text that cannot be used."""


class TrainingError(CloudError):
    """A training that cannot be begun, gone on with or saved."""


class ConversionError(CloudError):
    """A model that did not become a working device model."""


class ServeError(CloudError):
    """A service that cannot be started as asked."""


class LoadTestError(CloudError):
    """A load test that cannot be run as asked, or finds no service."""
