"""Timeouts for tests that are not about timeouts."""

from edgewise import CloudTimeouts

# On a busy machine a working cloud may take longer than a device should wait.
PATIENT = CloudTimeouts(connect=300.0, first_token=300.0, between_tokens=300.0)
