"""Errors of the cloud side.

CloudError
├── SourceError
├── TextError
├── TrainingError
├── ConversionError
├── ServeError
└── LoadError
"""


class CloudError(Exception):
    """Anything the pipeline or the service refuses or fails at."""


class SourceError(CloudError):
    """A Keras model that cannot be found, fetched or read."""


class TextError(CloudError):
    """Training text that cannot be used."""


class TrainingError(CloudError):
    """A training that cannot be begun, gone on with or saved."""


class ConversionError(CloudError):
    """A model that did not become a working device model."""


class ServeError(CloudError):
    """A service that cannot be started as asked."""


class LoadError(CloudError):
    """A load test that cannot be run as asked, or finds no service."""
